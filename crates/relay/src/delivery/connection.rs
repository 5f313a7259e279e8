use std::io;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use nexthop::HostName;
use queue::record::Record;
use queue::worker::Claim;
use rustls::pki_types::ServerName;
use smtp::client::{
    Config, Event, Failure, FailureCause, Finished, Output, Phase, Session, Transaction,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::body::Describing;

/// A connection to a next hop with its SMTP session.
pub(super) struct Connection {
    session: Session,
    stream: Stream,
    connector: TlsConnector,
    input: BytesMut,
    output: Vec<Bytes>,
    host: HostName,
    address: SocketAddr,
    /// Transactions so far.
    sent: u32,
    idle_since: Instant,
    /// Why the content could not be read to its end.
    unreadable: Option<String>,
}

/// How a transaction ended.
#[derive(Debug)]
pub(super) enum Transacted {
    Finished(Finished),
    Failed(Failure),
    /// The claim is not certain any more, and the peer does not have the message.
    Withheld,
    /// The content could not be read to its end, and the peer does not have the message.
    Unreadable(String),
}

/// What a transaction is about, and what may end it.
#[derive(Clone, Copy)]
pub(super) struct Guard<'a> {
    pub(super) claim: &'a Claim,
    pub(super) record: &'a Record,
    pub(super) fenced: &'a CancellationToken,
}

impl Connection {
    /// Brings a connected socket to where mail can be sent.
    pub(super) async fn set_up(
        socket: TcpStream,
        config: Config,
        connector: TlsConnector,
        host: HostName,
        address: SocketAddr,
    ) -> Result<Self, Failure> {
        let mut connection = Self {
            session: Session::new(config, Instant::now()),
            stream: Stream::Clear(socket),
            connector,
            input: BytesMut::new(),
            output: Vec::new(),
            host,
            address,
            sent: 0,
            idle_since: Instant::now(),
            unreadable: None,
        };
        match connection.run(None).await {
            Some(Event::Failed(failure)) => Err(failure),
            _ => Ok(connection),
        }
    }

    /// Sends one message. The last octet goes out only if the claim allows it at that moment, and
    /// everything ends at once when the guard is fenced while no reply to it is due.
    pub(super) async fn transact(
        &mut self,
        transaction: Transaction,
        guard: Guard<'_>,
    ) -> Transacted {
        if self.session.send(Instant::now(), transaction).is_err() {
            // Taken out of the pool or just set up, it is ready; or it is of no use.
            return Transacted::Failed(Failure {
                phase: self.session.phase(),
                cause: FailureCause::Closed,
                recipients: Vec::new(),
            });
        }
        self.sent += 1;
        match self.run(Some(guard)).await {
            Some(Event::Finished(finished)) => Transacted::Finished(finished),
            Some(Event::Failed(failure)) if failure.cause != FailureCause::Withheld => {
                Transacted::Failed(failure)
            }
            _ => match self.unreadable.take() {
                Some(why) => Transacted::Unreadable(why),
                None => Transacted::Withheld,
            },
        }
    }

    /// Says goodbye, and does not wait long for the answer: nothing depends on it.
    pub(super) async fn quit(mut self) {
        self.session.quit(Instant::now());
        let _ = self.run(None).await;
    }

    pub(super) fn host(&self) -> &HostName {
        &self.host
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn sent(&self) -> u32 {
        self.sent
    }

    pub(super) fn idle_since(&self) -> Instant {
        self.idle_since
    }

    pub(super) fn become_idle(&mut self, now: Instant) {
        self.idle_since = now;
    }

    pub(super) fn is_ready(&self) -> bool {
        self.session.is_ready()
    }

    /// Whether the peer has kept quiet while it was idle, as it must: anything it sends or ends
    /// then means that the connection is of no use.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.is_ready()
            && self
                .stream
                .read_buf(&mut self.input)
                .now_or_never()
                .is_none()
    }

    /// Version and cipher suite, if encrypted.
    pub(super) fn tls(&self) -> Option<(&'static str, &'static str)> {
        let Stream::Tls(stream) = &self.stream else {
            return None;
        };
        let (_, connection) = stream.get_ref();
        let version = match connection.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_3 => "1.3",
            _ => "1.2",
        };
        let suite = connection.negotiated_cipher_suite()?.suite();
        Some((version, suite.as_str().unwrap_or("unknown")))
    }

    /// Does what the session asks for until it has news; `None` when `fenced` cut it short.
    async fn run(&mut self, guard: Option<Guard<'_>>) -> Option<Event> {
        loop {
            let mut news = None;
            let mut closed = false;
            while let Some(output) = self.session.poll_output() {
                match output {
                    Output::Write(octets) => self.output.push(octets),
                    Output::StartTls => self.start_tls().await,
                    Output::Event(Event::Content) => self.content(guard).await?,
                    Output::Event(Event::FinalDot) => self.final_dot(guard).await,
                    Output::Event(event) => news = Some(event),
                    Output::Close => closed = true,
                }
            }
            // What is to be written before a Close is a QUIT; a session that failed has nothing.
            if !closed && !self.output.is_empty() {
                self.guarded(guard, Self::flush).await?;
                if news.is_none() {
                    // A write that failed is news.
                    continue;
                }
            }
            if news.is_some() || closed {
                return news;
            }
            self.guarded(guard, Self::read).await?;
        }
    }

    /// Runs one step, which ends early when the guard is fenced and no reply to a final dot is
    /// awaited: that one is waited for whatever happens.
    async fn guarded<'s, F>(
        &'s mut self,
        guard: Option<Guard<'_>>,
        step: impl FnOnce(&'s mut Self) -> F,
    ) -> Option<()>
    where
        F: Future<Output = ()>,
    {
        match guard {
            Some(Guard { fenced, .. }) if self.session.phase() != Phase::FinalDot => {
                tokio::select! {
                    () = step(self) => Some(()),
                    () = fenced.cancelled() => None,
                }
            }
            _ => {
                step(self).await;
                Some(())
            }
        }
    }

    /// Sends content that is in chunks: while one is written, the next is read. Before the last line can
    /// follow, all of it was there and is what was accepted; otherwise it is withheld, and so is the
    /// line. `None` when the guard cut it short.
    async fn content(&mut self, guard: Option<Guard<'_>>) -> Option<()> {
        let Some(guard) = guard else {
            self.session.withhold(Instant::now());
            return Some(());
        };
        let body = &guard.record.header.body;
        let mut describing = Describing::default();
        let mut chunk = Some(guard.claim.chunk(guard.record, 0).await);
        for next in 1..=body.chunks {
            let octets = match chunk.take()? {
                Ok(octets) => octets,
                Err(error) => return self.cut_off(error.to_string()),
            };
            describing.add(&octets);
            if let Err(error) = self.session.send_content(Instant::now(), octets) {
                return self.cut_off(error.to_string());
            }
            while let Some(Output::Write(octets)) = self.session.poll_output() {
                self.output.push(octets);
            }
            let flush = self.guarded(Some(guard), Self::flush);
            if next < body.chunks {
                let (flushed, read) = tokio::join!(flush, guard.claim.chunk(guard.record, next));
                flushed?;
                chunk = Some(read);
            } else {
                flush.await?;
            }
            // What the peer says in between ends the session.
            if let Some(Ok(1..)) = self.stream.read_buf(&mut self.input).now_or_never() {
                self.session.handle_input(Instant::now(), &mut self.input);
            }
            if self.session.phase() != Phase::Content {
                return Some(());
            }
            // A slow peer: the last line would be withheld anyway, sooner or later.
            if !guard.claim.may_start() {
                self.session.withhold(Instant::now());
                return Some(());
            }
        }
        let sent = describing.finish();
        if (sent.size, &sent.sha256) != (body.size, &body.sha256) {
            return self.cut_off("the content in the queue is not what was accepted".to_owned());
        }
        match self.session.end_content(Instant::now()) {
            Ok(()) => Some(()),
            Err(error) => self.cut_off(error.to_string()),
        }
    }

    fn cut_off(&mut self, why: String) -> Option<()> {
        self.unreadable = Some(why);
        self.output.clear();
        self.session.withhold(Instant::now());
        Some(())
    }

    /// Everything but the last line is in `output`. Small messages go out with their last line in
    /// one write, behind the check; of larger ones, whose write may take its time, the content
    /// goes first, so that little time lies between the check and the last octet.
    async fn final_dot(&mut self, guard: Option<Guard<'_>>) {
        let Some(guard) = guard else {
            return self.session.withhold(Instant::now());
        };
        let Guard { claim, fenced, .. } = guard;
        let pending: usize = self.output.iter().map(Bytes::len).sum();
        let at_once = (pending <= AT_ONCE)
            .then(|| claim.last_octet_now())
            .flatten();
        let allowed = match at_once {
            Some(allowed) => allowed,
            None => {
                let flushed = self.guarded(Some(guard), Self::flush).await;
                flushed.is_some()
                    && self.session.phase() == Phase::Content
                    && tokio::select! {
                        allowed = claim.last_octet() => allowed,
                        () = fenced.cancelled() => false,
                    }
            }
        };
        if allowed {
            self.session.release_final_dot(Instant::now());
        } else {
            self.output.clear();
            self.session.withhold(Instant::now());
        }
    }

    async fn start_tls(&mut self) {
        self.flush().await;
        match self.shake_hands().await {
            Ok(()) => self.session.handle_tls_established(Instant::now()),
            Err(error) => {
                tracing::debug!(host = %self.host, %error, "TLS handshake failed");
                self.session.handle_tls_failed(Instant::now());
            }
        }
    }

    async fn shake_hands(&mut self) -> io::Result<()> {
        let Stream::Clear(socket) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let name = match &self.host {
            HostName::Address(address) => ServerName::IpAddress((*address).into()),
            HostName::Name(name) => ServerName::try_from(name.to_string())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
        };
        let shaking = self.connector.connect(name, socket);
        let stream = match self.session.deadline() {
            Some(deadline) => timeout_at(deadline.into(), shaking)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?,
            None => shaking.await,
        }?;
        self.stream = Stream::Tls(Box::new(stream));
        Ok(())
    }

    /// Writes what is pending.
    async fn flush(&mut self) {
        let deadline = self.session.deadline();
        let writing = write_all(&mut self.stream, &self.output);
        let written = match deadline {
            Some(deadline) => timeout_at(deadline.into(), writing).await,
            None => Ok(writing.await),
        };
        self.output.clear();
        match written {
            Ok(Ok(())) => {}
            Err(_elapsed) => self.session.handle_timeout(Instant::now()),
            Ok(Err(_)) => {
                // A peer that does not read on may have said why.
                if let Some(Ok(1..)) = self.stream.read_buf(&mut self.input).now_or_never() {
                    self.session.handle_input(Instant::now(), &mut self.input);
                }
                self.session.handle_closed(Instant::now());
            }
        }
    }

    /// Waits for octets of the peer, the end of the stream, or the deadline.
    async fn read(&mut self) {
        let deadline = self.session.deadline();
        self.input.reserve(READ_OCTETS);
        let reading = self.stream.read_buf(&mut self.input);
        let read = match deadline {
            Some(deadline) => timeout_at(deadline.into(), reading).await,
            None => Ok(reading.await),
        };
        let now = Instant::now();
        match read {
            Ok(Ok(1..)) => self.session.handle_input(now, &mut self.input),
            Ok(Ok(0) | Err(_)) => self.session.handle_closed(now),
            Err(_elapsed) => self.session.handle_timeout(now),
        }
    }
}

/// Writes all slices without copying them together.
async fn write_all(stream: &mut Stream, octets: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = octets
        .iter()
        .filter(|slice| !slice.is_empty())
        .map(|slice| IoSlice::new(slice))
        .collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        let written = stream.write_vectored(rest).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut rest, written);
    }
    stream.flush().await
}

/// In clear or encrypted.
enum Stream {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// The handshake failed, and the socket went with it.
    Gone,
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("host", &self.host)
            .field("address", &self.address)
            .field("phase", &self.session.phase())
            .finish_non_exhaustive()
    }
}

/// A message of at most this size fits a socket's buffer, so that one write is all it takes.
const AT_ONCE: usize = 32 << 10;
const READ_OCTETS: usize = 2048;
