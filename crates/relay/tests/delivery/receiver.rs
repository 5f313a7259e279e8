//! A receiving server that answers as a test tells it to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// What the client is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Greeting,
    Ehlo,
    StartTls,
    Mail,
    Rcpt,
    Data,
    Dot,
    Rset,
}

/// What to do about it.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// What a server does that takes everything.
    Accept,
    Reply(&'static str),
    /// A reply, and the connection ends.
    Last(&'static str),
    Close,
    /// The message is taken, and the connection ends before the reply.
    TakeAndClose,
    /// The message is taken, and the connection ends behind the reply.
    TakeAndLeave,
    /// Waits until the gate opens, then accepts.
    Wait,
}

#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) reverse_path: String,
    pub(crate) forward_paths: Vec<String>,
    /// Without dot-stuffing.
    pub(crate) content: Vec<u8>,
    pub(crate) encrypted: bool,
}

impl Received {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }
}

type Rule = dyn Fn(Phase, &str) -> Answer + Send + Sync;

pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

struct Shared {
    rule: Box<Rule>,
    capabilities: &'static str,
    tls: Option<TlsAcceptor>,
    received: Mutex<Vec<Received>>,
    count: watch::Sender<usize>,
    connections: Mutex<usize>,
    gate: watch::Sender<bool>,
    /// Clients that are behind the gate.
    waiting: watch::Sender<usize>,
    /// Connections that ended between DATA and the final dot.
    cut_short: watch::Sender<usize>,
}

impl Receiver {
    pub(crate) async fn accepting() -> Self {
        Self::with(|_, _| Answer::Accept).await
    }

    pub(crate) async fn with(rule: impl Fn(Phase, &str) -> Answer + Send + Sync + 'static) -> Self {
        Self::at(
            "127.0.0.1:0",
            "250-8BITMIME\r\n250-PIPELINING\r\n",
            None,
            rule,
        )
        .await
    }

    pub(crate) async fn at(
        address: &str,
        capabilities: &'static str,
        tls: Option<TlsAcceptor>,
        rule: impl Fn(Phase, &str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let shared = Arc::new(Shared {
            rule: Box::new(rule),
            capabilities,
            tls,
            received: Mutex::default(),
            count: watch::Sender::new(0),
            connections: Mutex::new(0),
            gate: watch::Sender::new(false),
            waiting: watch::Sender::new(0),
            cut_short: watch::Sender::new(0),
        });
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    *shared.connections.lock().unwrap() += 1;
                    tokio::spawn(serve(Arc::clone(&shared), socket));
                }
            }
        });
        Self {
            address,
            shared,
            accepting,
        }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }

    /// Waits until `count` messages have arrived, and returns all.
    pub(crate) async fn until(&self, count: usize) -> Vec<Received> {
        let mut arrived = self.shared.count.subscribe();
        let enough = arrived.wait_for(|arrived| *arrived >= count);
        let waited = tokio::time::timeout(Duration::from_secs(20), enough)
            .await
            .is_ok();
        let received = self.received();
        assert!(
            waited,
            "{} of {count} arrived: {received:#?}",
            received.len()
        );
        received
    }

    pub(crate) async fn until_waiting(&self, count: usize) {
        let mut waiting = self.shared.waiting.subscribe();
        let enough = waiting.wait_for(|waiting| *waiting >= count);
        tokio::time::timeout(Duration::from_secs(20), enough)
            .await
            .unwrap()
            .unwrap();
    }

    pub(crate) async fn until_cut_short(&self, count: usize) {
        let mut cut_short = self.shared.cut_short.subscribe();
        let enough = cut_short.wait_for(|cut_short| *cut_short >= count);
        tokio::time::timeout(Duration::from_secs(20), enough)
            .await
            .unwrap()
            .unwrap();
    }

    pub(crate) fn open_gate(&self) {
        self.shared.gate.send_replace(true);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(shared: Arc<Shared>, socket: TcpStream) {
    let mut session = Session {
        shared: &shared,
        encrypted: false,
    };
    let mut stream = BufStream::new(socket);
    let upgrade = session.talk(&mut stream, true).await.unwrap_or(false);
    if let (true, Some(tls)) = (upgrade, &shared.tls) {
        session.encrypted = true;
        if let Ok(encrypted) = tls.accept(stream.into_inner()).await {
            let _ = session.talk(&mut BufStream::new(encrypted), false).await;
        }
    }
}

struct Session<'a> {
    shared: &'a Shared,
    encrypted: bool,
}

impl Session<'_> {
    /// Returns whether STARTTLS ended it.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut BufStream<S>,
        greets: bool,
    ) -> Option<bool> {
        if greets {
            self.answer(stream, Phase::Greeting, "", "220 receiver.example ready")
                .await?;
        }
        let mut reverse_path = String::new();
        let mut forward_paths = Vec::new();
        let mut is_open = false;
        loop {
            let line = read_line(stream).await?;
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" | "HELO" => {
                    let starttls = self.shared.tls.is_some() && !self.encrypted;
                    let starttls = if starttls { "250-STARTTLS\r\n" } else { "" };
                    let reply = format!(
                        "250-receiver.example\r\n{}{starttls}250 ENHANCEDSTATUSCODES",
                        self.shared.capabilities
                    );
                    self.answer(stream, Phase::Ehlo, &line, &reply).await?;
                }
                "STAR" => {
                    let ready = "220 2.0.0 go ahead";
                    if self.answer(stream, Phase::StartTls, &line, ready).await? {
                        return Some(true);
                    }
                }
                "MAIL" => {
                    if self
                        .answer(stream, Phase::Mail, &line, "250 2.1.0 ok")
                        .await?
                    {
                        reverse_path = path(&line);
                        is_open = true;
                    }
                }
                "RCPT" if !is_open => reply(stream, "503 5.5.1 MAIL first").await?,
                "RCPT" => {
                    if self
                        .answer(stream, Phase::Rcpt, &line, "250 2.1.5 ok")
                        .await?
                    {
                        forward_paths.push(path(&line));
                    }
                }
                "DATA" => {
                    if forward_paths.is_empty() {
                        reply(stream, "503 5.5.1 no recipients").await?;
                        continue;
                    }
                    if !self
                        .answer(stream, Phase::Data, &line, "354 go ahead")
                        .await?
                    {
                        continue;
                    }
                    let Some(content) = read_content(stream).await else {
                        self.shared.cut_short.send_modify(|count| *count += 1);
                        return None;
                    };
                    let received = Received {
                        reverse_path: std::mem::take(&mut reverse_path),
                        forward_paths: std::mem::take(&mut forward_paths),
                        content,
                        encrypted: self.encrypted,
                    };
                    is_open = false;
                    self.take(stream, received).await?;
                }
                "RSET" => {
                    forward_paths.clear();
                    is_open = false;
                    self.answer(stream, Phase::Rset, &line, "250 2.0.0 ok")
                        .await?;
                }
                "QUIT" => {
                    reply(stream, "221 2.0.0 bye").await?;
                    return Some(false);
                }
                _ => reply(stream, "500 5.5.2 what?").await?,
            }
        }
    }

    async fn take<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut BufStream<S>,
        received: Received,
    ) -> Option<()> {
        let arrived = |received| {
            self.shared.received.lock().unwrap().push(received);
            self.shared.count.send_modify(|count| *count += 1);
        };
        match (self.shared.rule)(Phase::Dot, &received.text()) {
            Answer::Accept => {
                arrived(received);
                reply(stream, "250 2.6.0 taken").await
            }
            Answer::TakeAndClose => {
                arrived(received);
                None
            }
            Answer::TakeAndLeave => {
                arrived(received);
                reply(stream, "250 2.6.0 taken").await?;
                None
            }
            Answer::Wait => {
                self.wait().await;
                arrived(received);
                reply(stream, "250 2.6.0 taken").await
            }
            Answer::Reply(text) => reply(stream, text).await,
            Answer::Last(text) => {
                reply(stream, text).await?;
                None
            }
            Answer::Close => None,
        }
    }

    /// Returns whether the command was accepted; `None` ends the connection.
    async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut BufStream<S>,
        phase: Phase,
        line: &str,
        accepted: &str,
    ) -> Option<bool> {
        match (self.shared.rule)(phase, line) {
            Answer::Accept => reply(stream, accepted).await.map(|()| true),
            Answer::Reply(text) => reply(stream, text).await.map(|()| false),
            Answer::Last(text) => {
                reply(stream, text).await?;
                None
            }
            Answer::Close | Answer::TakeAndClose | Answer::TakeAndLeave => None,
            Answer::Wait => {
                self.wait().await;
                reply(stream, accepted).await.map(|()| true)
            }
        }
    }

    async fn wait(&self) {
        self.shared.waiting.send_modify(|waiting| *waiting += 1);
        let _ = self.shared.gate.subscribe().wait_for(|open| *open).await;
    }
}

async fn read_line<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufStream<S>,
) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    stream
        .read_until(b'\n', &mut line)
        .await
        .ok()
        .filter(|read| *read > 0)?;
    Some(line)
}

async fn read_content<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufStream<S>,
) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let line = read_line(stream)
            .await
            .filter(|line| line.ends_with(b"\n"))?;
        match line.as_slice() {
            b".\r\n" => return Some(content),
            [b'.', rest @ ..] => content.extend_from_slice(rest),
            line => content.extend_from_slice(line),
        }
    }
}

async fn reply<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufStream<S>,
    text: &str,
) -> Option<()> {
    stream.write_all(text.as_bytes()).await.ok()?;
    stream.write_all(b"\r\n").await.ok()?;
    stream.flush().await.ok()
}

fn path(line: &str) -> String {
    let start = line.find('<').map_or(0, |at| at + 1);
    line[start..]
        .split('>')
        .next()
        .unwrap_or_default()
        .to_owned()
}
