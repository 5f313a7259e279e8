//! Where clients connect: one accept loop per listener, one task per connection.

pub(crate) mod limits;
mod session;
mod stream;

pub(crate) use stream::{Stream, TlsParameters};

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::ConnectionRefusal;
use crate::reception::Reception;
use limits::TooMany;

/// Opens a listening socket. `[::]` takes both families, or IPv4 alone where there is no IPv6.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match open(address) {
        Err(error) if address.ip().is_unspecified() && address.is_ipv6() => {
            open((Ipv4Addr::UNSPECIFIED, address.port()).into()).map_err(|_| error)
        }
        other => other,
    }
}

/// Accepts until told to stop. Sessions go on; they are counted in `sessions`.
pub(crate) async fn accept(
    reception: Arc<Reception>,
    name: Arc<str>,
    listener: TcpListener,
    stop: CancellationToken,
    sessions: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((socket, peer)) => greet(&reception, &name, socket, peer, &sessions),
            // The client is gone already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Out of descriptors or memory: only time helps, and trying at once does not.
                tracing::error!(listener = &*name, %error, "cannot accept connections");
                tokio::select! {
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }
}

fn greet(
    reception: &Arc<Reception>,
    name: &Arc<str>,
    socket: TcpStream,
    peer: SocketAddr,
    sessions: &TaskTracker,
) {
    let active = reception.active();
    let Some(policy) = active.listener(name) else {
        return;
    };
    let permit = match reception
        .connections
        .admit(peer.ip(), active.connection_limits)
    {
        Ok(permit) => permit,
        Err(too_many) => {
            let (reason, reply) = refusal(too_many);
            reception.metrics.connections_refused.inc(reason);
            if !policy.implicit_tls {
                // A fresh socket has room; if it has not, the client misses a courtesy.
                let _ = socket.try_write(reply);
            }
            return;
        }
    };
    reception.metrics.connections_accepted.inc();
    // Replies are written whole; waiting to fill a segment would only delay them.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(client = %peer, %error, "connection lost before the greeting");
        return;
    }
    let (reception, name) = (Arc::clone(reception), Arc::clone(name));
    let cut_off = reception.cut_off.clone();
    sessions.spawn(async move {
        tokio::select! {
            biased;
            () = session::serve(reception, name, socket, peer) => {}
            () = cut_off.cancelled() => {}
        }
        drop(permit);
    });
}

fn refusal(too_many: TooMany) -> (ConnectionRefusal, &'static [u8]) {
    match too_many {
        TooMany::InAll => (
            ConnectionRefusal::Relay,
            b"421 4.3.2 Too many connections, try again later\r\n",
        ),
        TooMany::OfClient => (
            ConnectionRefusal::Client,
            b"421 4.7.0 Too many connections from your address, try again later\r\n",
        ),
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // Connections of a process that has just ended must not keep its port from the next one.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const BACKLOG: i32 = 1024;
