//! A network between client and server that fails in the ways networks do.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of the next request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Passed,
    /// The connection is cut when the request comes; the server never sees it.
    RequestLost,
    /// The server gets it; the connection is cut when the reply comes.
    ReplyLost,
    /// It stays on its way until [`Proxy::deliver`], even when the client has gone.
    Held,
}

pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    upstream: u16,
    fate: Mutex<Fate>,
    deliver: watch::Sender<bool>,
    /// Held requests that have been answered by the server.
    late: watch::Sender<usize>,
}

impl Proxy {
    pub(crate) async fn before(upstream: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a loopback port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State {
            upstream,
            fate: Mutex::new(Fate::Passed),
            deliver: watch::Sender::new(false),
            late: watch::Sender::new(0),
        });
        let accepting = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(carry(client, Arc::clone(&state)));
                }
            }
        });
        Self {
            port,
            state,
            accepting,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn set(&self, fate: Fate) {
        *self.state.fate.lock().expect("no panic while it is held") = fate;
    }

    /// Lets go what was held, and waits until the server has answered it.
    pub(crate) async fn deliver(&self) {
        let mut late = self.state.late.subscribe();
        let before = *late.borrow();
        self.state.deliver.send_replace(true);
        late.wait_for(|count| *count > before)
            .await
            .expect("the proxy lives");
        self.state.deliver.send_replace(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(client: TcpStream, state: Arc<State>) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, state.upstream)).await else {
        return;
    };
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let replies = tokio::spawn(carry_replies(
        server_reads,
        client_writes,
        Arc::clone(&state),
    ));
    carry_requests(client_reads, server_writes, &state).await;
    replies.abort();
}

async fn carry_requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &State) {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut chunk).await else {
            return;
        };
        let fate = *state.fate.lock().expect("no panic while it is held");
        match fate {
            Fate::RequestLost => return,
            Fate::Passed | Fate::ReplyLost => {}
            Fate::Held => {
                let mut deliver = state.deliver.subscribe();
                if deliver.wait_for(|deliver| *deliver).await.is_err() {
                    return;
                }
            }
        }
        if to.write_all(&chunk[..count]).await.is_err() {
            return;
        }
        if fate == Fate::Held {
            // The reply must come before the connection ends, or it may never have run.
            let mut late = state.late.subscribe();
            let before = *late.borrow_and_update();
            let _ = late.wait_for(|count| *count > before).await;
        }
    }
}

async fn carry_replies(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: Arc<State>) {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut chunk).await else {
            return;
        };
        let fate = *state.fate.lock().expect("no panic while it is held");
        match fate {
            Fate::ReplyLost | Fate::RequestLost => return,
            Fate::Held => state.late.send_modify(|count| *count += 1),
            Fate::Passed => {
                if to.write_all(&chunk[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
