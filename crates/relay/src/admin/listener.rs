//! Sockets of the administrative interface, in clear or under mutual TLS, with bounds: so many
//! connections, so long each.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use crate::listener::Stream;

/// Hands out connections that are ready for HTTP. Handshakes go on beside each other: one that
/// lingers keeps nobody waiting.
pub(crate) struct AdminListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(Connection, SocketAddr)>,
}

impl AdminListener {
    /// `tls` is asked with each connection, so that a renewed certificate counts at once.
    pub(crate) fn start(
        listener: TcpListener,
        tls: impl Fn() -> Security + Send + Sync + 'static,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(CONNECTIONS);
        tokio::spawn(accept(listener, tls, sender, stop));
        Ok(Self { address, ready })
    }
}

pub(crate) enum Security {
    Clear,
    Mutual(Arc<ServerConfig>),
    /// Nothing to shake hands with: connections are closed.
    Missing,
}

async fn accept(
    listener: TcpListener,
    security: impl Fn() -> Security,
    ready: mpsc::Sender<(Connection, SocketAddr)>,
    stop: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
            Some((permit, listener.accept().await))
        };
        let (permit, accepted) = tokio::select! {
            Some(next) = next => next,
            () = stop.cancelled() => return,
        };
        let Ok((socket, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (security, ready) = (security(), ready.clone());
        tokio::spawn(async move {
            let stream = Stream::Clear(socket);
            let stream = match security {
                Security::Clear => Ok(stream),
                Security::Mutual(config) => tokio::time::timeout(HANDSHAKE, stream.secure(config))
                    .await
                    .unwrap_or_else(|elapsed| Err(elapsed.into())),
                Security::Missing => return,
            };
            match stream {
                Ok(stream) => {
                    let ends = Box::pin(tokio::time::sleep(LIFETIME));
                    // The interface is going down when nobody takes it.
                    let _ = ready
                        .send((
                            Connection {
                                stream,
                                ends,
                                _permit: permit,
                            },
                            peer,
                        ))
                        .await;
                }
                Err(error) => tracing::debug!(%peer, %error, "no TLS on the status listener"),
            }
        });
    }
}

impl axum::serve::Listener for AdminListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // Nothing comes any more; the server is told to stop by the same token.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A connection that ends by itself: a client that keeps one forever, or sends an octet a minute,
/// takes one of few places.
pub(crate) struct Connection {
    stream: Stream,
    ends: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ends.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

const CONNECTIONS: usize = 64;
const LIFETIME: Duration = Duration::from_secs(120);
const HANDSHAKE: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
