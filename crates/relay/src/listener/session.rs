//! One connection, one task: octets in, the session's outputs out, events answered in between.
//!
//! A turn is read, feed, drain, write. The session gathers the replies to all commands that one
//! read brought, and they leave in one write. There is one timer per connection; it is moved when
//! it fires too early, not with every command.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use smtp::server::{ConnectionSecurity, Event, Output, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFuture;

use super::stream::Stream;
use crate::metrics::Handshake;
use crate::reception::{Conversation, Reception, Said};

/// Serves a client until either side ends the connection.
pub(crate) async fn serve(
    reception: Arc<Reception>,
    listener: Arc<str>,
    socket: TcpStream,
    peer: SocketAddr,
) {
    if let Err(error) = converse(&reception, &listener, socket, peer).await {
        tracing::debug!(client = %peer, listener = &*listener, %error, "connection lost");
    }
}

async fn converse(
    reception: &Arc<Reception>,
    listener: &Arc<str>,
    socket: TcpStream,
    peer: SocketAddr,
) -> io::Result<()> {
    let Some(policy) = reception.listener(listener) else {
        return Ok(());
    };
    let mut stream = Stream::Clear(socket);
    let mut security = ConnectionSecurity::Clear;
    if policy.implicit_tls {
        stream = handshake(reception, listener, stream).await?;
        security = ConnectionSecurity::Tls;
    }
    let mut connection = Connection {
        session: Session::new(Arc::clone(&policy.session), Instant::now(), security),
        conversation: Conversation::new(
            Arc::clone(reception),
            Arc::clone(listener),
            peer,
            stream.tls(),
        ),
        input: BytesMut::new(),
        content_read: 0,
    };
    if let Stream::Clear(socket) = &stream {
        connection.hear_early_talker(socket);
    }
    connection.run(reception, listener, stream).await
}

struct Connection {
    session: Session,
    conversation: Conversation,
    /// What the client sent and the session has not consumed.
    input: BytesMut,
    /// Octets read since content is awaited.
    content_read: usize,
}

impl Connection {
    async fn run(
        mut self,
        reception: &Reception,
        listener: &str,
        mut stream: Stream,
    ) -> io::Result<()> {
        let mut timer = pin!(tokio::time::sleep_until(self.session.deadline().into()));
        let mut drain = pin!(reception.drain.cancelled());
        let mut draining = false;
        loop {
            match self.session.poll_output() {
                Some(Output::Event(event)) => self.answer(event).await,
                Some(Output::Write(octets)) => self.write(&mut stream, &octets).await?,
                Some(Output::StartTls) => {
                    stream = handshake(reception, listener, stream).await?;
                    self.conversation.secured(stream.tls());
                    self.session.handle_tls_established(Instant::now());
                }
                Some(Output::Close) => return stream.shutdown().await,
                None => {
                    let wait = Wait {
                        timer: timer.as_mut(),
                        drain: drain.as_mut(),
                        draining,
                    };
                    match self.read(&mut stream, wait).await? {
                        Read::Octets => self.session.handle_input(Instant::now(), &mut self.input),
                        Read::End => {
                            self.session.handle_closed(Instant::now());
                            return Ok(());
                        }
                        Read::TimedOut => self.session.handle_timeout(Instant::now()),
                        Read::Draining => {
                            draining = true;
                            self.session.handle_shutdown(Instant::now());
                        }
                    }
                }
            }
        }
    }

    /// Whoever sends before the greeting was written is no client that listens.
    fn hear_early_talker(&mut self, socket: &TcpStream) {
        self.input.reserve(COMMANDS);
        // An error will be met again by the first read.
        if socket
            .try_read_buf(&mut self.input)
            .is_ok_and(|read| read > 0)
        {
            self.session.handle_input(Instant::now(), &mut self.input);
        }
    }

    /// Answers at once where policy is a matter of looking, and waits where it is not. Then the
    /// session may go on with what it has: the client may have pipelined.
    async fn answer(&mut self, event: Event) {
        match event {
            Event::Mail(request) => {
                let reply = self.conversation.mail(&request);
                self.session.answer(Instant::now(), &reply);
            }
            Event::Recipient { forward_path, .. } => {
                let reply = self.conversation.recipient(&forward_path);
                self.session.answer(Instant::now(), &reply);
            }
            Event::Data => {
                let reply = self.conversation.data();
                self.session.answer(Instant::now(), &reply);
            }
            Event::Content(part) => {
                let protocol = self.session.protocol();
                let said = self.session.helo_name().map(|helo| Said { helo, protocol });
                let recipients = self.session.forward_paths();
                let reply = self.conversation.part(part, recipients, said).await;
                self.session.answer(Instant::now(), &reply);
            }
            Event::LargeMessage(message) => {
                let protocol = self.session.protocol();
                let said = self.session.helo_name().map(|helo| Said { helo, protocol });
                let reply = self.conversation.large_message(message, said).await;
                self.session.answer(Instant::now(), &reply);
            }
            Event::Message(message) => {
                let protocol = self.session.protocol();
                let said = self.session.helo_name().map(|helo| Said { helo, protocol });
                let reply = self.conversation.message(message, said).await;
                self.session.answer(Instant::now(), &reply);
            }
            Event::Authenticate(request) => {
                match self.conversation.authenticate(&request.credentials).await {
                    Ok(identity) => {
                        self.session
                            .authentication_accepted(Instant::now(), identity);
                    }
                    Err(reply) => self.session.authentication_refused(Instant::now(), &reply),
                }
            }
            Event::Abandoned(_) => self.conversation.abandoned(),
            // Of an extension that no session of ours offers.
            _ => {}
        }
        self.session.handle_input(Instant::now(), &mut self.input);
    }

    async fn write(&self, stream: &mut Stream, octets: &[u8]) -> io::Result<()> {
        let write = async {
            stream.write_all(octets).await?;
            stream.flush().await
        };
        // A client that reads nothing gets no longer than one that sends nothing.
        tokio::time::timeout_at(self.session.deadline().into(), write).await?
    }

    async fn read(&mut self, stream: &mut Stream, mut wait: Wait<'_, '_>) -> io::Result<Read> {
        self.make_room();
        let deadline = self.session.deadline().into();
        if deadline < wait.timer.deadline() {
            wait.timer.as_mut().reset(deadline);
        }
        loop {
            tokio::select! {
                biased;
                read = stream.read_buf(&mut self.input) => {
                    let read = read?;
                    self.content_read += read;
                    return Ok(if read == 0 { Read::End } else { Read::Octets });
                }
                () = &mut wait.drain, if !wait.draining => return Ok(Read::Draining),
                () = &mut wait.timer => {
                    if tokio::time::Instant::now() >= deadline {
                        return Ok(Read::TimedOut);
                    }
                    wait.timer.as_mut().reset(deadline);
                }
            }
        }
    }

    /// One read should bring a whole small message, and the buffer should not grow (and be copied)
    /// while one comes. A connection that waits for commands holds little.
    fn make_room(&mut self) {
        let wanted = match self.conversation.expected_octets() {
            None => {
                self.content_read = 0;
                COMMANDS
            }
            Some(expected) => expected.max(self.content_read * 2).clamp(COMMANDS, CHUNK),
        };
        let missing = wanted.saturating_sub(self.input.len()).max(COMMANDS / 4);
        if self.input.capacity() - self.input.len() < missing {
            self.input.reserve(missing.max(COMMANDS));
        }
    }
}

struct Wait<'a, 'd> {
    timer: Pin<&'a mut Sleep>,
    drain: Pin<&'a mut WaitForCancellationFuture<'d>>,
    /// `drain` has fired and been told.
    draining: bool,
}

enum Read {
    Octets,
    End,
    TimedOut,
    Draining,
}

async fn handshake(reception: &Reception, listener: &str, stream: Stream) -> io::Result<Stream> {
    // The certificate of this moment: a reload counts from the next handshake on.
    let policy = reception.listener(listener);
    let secured = match policy.and_then(|policy| policy.tls.clone().map(|tls| (policy, tls))) {
        Some((policy, tls)) => {
            let timeout = policy.session.timeouts.command;
            tokio::time::timeout(timeout, stream.secure(tls))
                .await
                .unwrap_or_else(|elapsed| Err(elapsed.into()))
        }
        None => Err(io::Error::other("the listener is gone")),
    };
    reception.metrics.handshakes.inc(match secured {
        Ok(_) => Handshake::Established,
        Err(_) => Handshake::Failed,
    });
    secured
}

/// What is read at once while commands are awaited.
const COMMANDS: usize = 2 * 1024;
/// What is read at once, at most, while content is: a little more than the session takes in one.
const CHUNK: usize = 66 * 1024;
