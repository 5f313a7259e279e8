//! A client session against a server session, in memory and on a virtual clock.
//!
//! The network between them cuts the stream as it is told, down to single octets. The server's
//! events are answered by a closure; handshakes are pretended. Nothing waits and nothing is random.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::data::ContentError;
use crate::reply::Reply;
use crate::{client, server};

/// Both ends of a connection, and what happened on it.
pub struct Pair {
    /// The sending side.
    pub client: client::Session,
    /// The receiving side.
    pub server: server::Session,
    /// What the client session told its driver.
    pub client_events: Vec<client::Event>,
    /// What the server session told its driver.
    pub server_events: Vec<server::Event>,
    /// What to do at [`client::Event::FinalDot`].
    pub final_dot: FinalDot,
    /// What to send at [`client::Event::Content`].
    pub pieces: Vec<Bytes>,
    /// How handshakes end.
    pub handshake: Handshake,
    /// How many octets cross the network at a time.
    pub cut: usize,
    /// All that the client wrote.
    pub written_by_client: Vec<u8>,
    /// All that the server wrote, one entry for each `Write`.
    pub written_by_server: Vec<Vec<u8>>,
    now: Instant,
    answers: Box<dyn FnMut(&server::Event) -> Answer>,
    to_client: Link,
    to_server: Link,
    client_waits_for_tls: bool,
    server_waits_for_tls: bool,
}

impl Pair {
    /// A connection on which the server accepts everything.
    pub fn new(client: client::Config, server: server::Config) -> Self {
        let now = epoch();
        let security = match client.tls {
            client::Tls::Implicit => server::ConnectionSecurity::Tls,
            _ => server::ConnectionSecurity::Clear,
        };
        Self {
            client: client::Session::new(client, now),
            server: server::Session::new(server.into(), now, security),
            client_events: Vec::new(),
            server_events: Vec::new(),
            final_dot: FinalDot::Release,
            pieces: Vec::new(),
            handshake: Handshake::Succeeds,
            cut: usize::MAX,
            written_by_client: Vec::new(),
            written_by_server: Vec::new(),
            now,
            answers: Box::new(|_| Answer::Accept),
            to_client: Link::default(),
            to_server: Link::default(),
            client_waits_for_tls: false,
            server_waits_for_tls: false,
        }
    }

    /// Lets `answers` answer the server's events.
    #[must_use]
    pub fn with_answers(mut self, answers: impl FnMut(&server::Event) -> Answer + 'static) -> Self {
        self.answers = Box::new(answers);
        self
    }

    /// Lets at most `octets` cross the network at a time.
    #[must_use]
    pub fn with_cut(mut self, octets: usize) -> Self {
        self.cut = octets.max(1);
        self
    }

    /// The virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Sends a message, and lets everything happen that can.
    ///
    /// # Panics
    ///
    /// If the client session is not ready.
    pub fn send(&mut self, transaction: client::Transaction) {
        let sent = self.client.send(self.now, transaction);
        assert_eq!(
            sent,
            Ok(()),
            "the client must be ready, and the transaction have a recipient"
        );
        self.run();
    }

    /// Ends the session, and lets everything happen that can.
    pub fn quit(&mut self) {
        self.client.quit(self.now);
        self.run();
    }

    /// Moves the clock, and lets the deadlines pass that lie before.
    pub fn advance(&mut self, by: Duration) {
        self.now += by;
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
        self.run();
    }

    /// Tells the server to shut down.
    pub fn shut_down(&mut self) {
        self.server.handle_shutdown(self.now);
        self.run();
    }

    /// Lets everything happen that can without the clock moving.
    pub fn run(&mut self) {
        loop {
            let mut progress = self.drive_server() | self.drive_client();
            if self.client_waits_for_tls && self.server_waits_for_tls {
                self.shake_hands();
                progress = true;
            }
            if !progress {
                return;
            }
        }
    }

    fn drive_server(&mut self) -> bool {
        let mut progress = self.to_server.deliver(self.cut);
        if progress {
            self.server
                .handle_input(self.now, &mut self.to_server.arrived);
        }
        if self.to_server.ends() {
            self.server.handle_closed(self.now);
        }
        while let Some(output) = self.server.poll_output() {
            progress = true;
            match output {
                server::Output::Event(event) => self.answer(event),
                server::Output::Write(octets) => {
                    self.to_client.sent.extend_from_slice(&octets);
                    self.written_by_server.push(octets.to_vec());
                }
                server::Output::StartTls => self.server_waits_for_tls = true,
                server::Output::Close => self.to_client.end = End::Closing,
            }
        }
        progress
    }

    fn answer(&mut self, event: server::Event) {
        let answer = (self.answers)(&event);
        let authenticates = matches!(event, server::Event::Authenticate(_));
        match answer {
            Answer::Accept if authenticates => {
                self.server.authentication_accepted(self.now, "somebody");
            }
            Answer::Accept => self.server.accept(self.now),
            Answer::Reply(reply) if authenticates => {
                self.server.authentication_refused(self.now, &reply);
            }
            Answer::Reply(reply) => self.server.answer(self.now, &reply),
        }
        self.server_events.push(event);
        self.server
            .handle_input(self.now, &mut self.to_server.arrived);
    }

    fn drive_client(&mut self) -> bool {
        let mut progress = self.to_client.deliver(self.cut);
        if progress {
            self.client
                .handle_input(self.now, &mut self.to_client.arrived);
        }
        if self.to_client.ends() {
            self.client.handle_closed(self.now);
        }
        while let Some(output) = self.client.poll_output() {
            progress = true;
            match output {
                client::Output::Write(octets) => {
                    self.to_server.sent.extend_from_slice(&octets);
                    self.written_by_client.extend_from_slice(&octets);
                }
                client::Output::StartTls => self.client_waits_for_tls = true,
                client::Output::Event(event) => {
                    if matches!(event, client::Event::FinalDot) {
                        match self.final_dot {
                            FinalDot::Release => self.client.release_final_dot(self.now),
                            FinalDot::Withhold => self.client.withhold(self.now),
                        }
                    }
                    if matches!(event, client::Event::Content) && self.stream().is_err() {
                        self.client.withhold(self.now);
                    }
                    self.client_events.push(event);
                }
                client::Output::Close => self.to_server.end = End::Closing,
            }
        }
        progress
    }

    fn stream(&mut self) -> Result<(), ContentError> {
        for piece in std::mem::take(&mut self.pieces) {
            self.client.send_content(self.now, piece)?;
        }
        self.client.end_content(self.now)
    }

    fn shake_hands(&mut self) {
        self.client_waits_for_tls = false;
        self.server_waits_for_tls = false;
        match self.handshake {
            Handshake::Succeeds => {
                self.client.handle_tls_established(self.now);
                self.server.handle_tls_established(self.now);
            }
            Handshake::Fails => {
                self.client.handle_tls_failed(self.now);
                self.server.handle_closed(self.now);
            }
        }
    }
}

/// How to answer an event of the server session.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Positively.
    Accept,
    /// With this reply.
    Reply(Reply),
}

/// What to do at [`client::Event::FinalDot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalDot {
    /// Send it.
    Release,
    /// Do not send it.
    Withhold,
}

/// How a pretended handshake ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Both sides are encrypted.
    Succeeds,
    /// Neither is.
    Fails,
}

/// An instant to begin at. The clock is the only source of instants; which one it is makes no
/// difference, because only differences count.
#[allow(clippy::disallowed_methods)]
pub fn epoch() -> Instant {
    Instant::now()
}

/// One direction of the connection.
#[derive(Default)]
struct Link {
    sent: BytesMut,
    arrived: BytesMut,
    end: End,
}

impl Link {
    fn deliver(&mut self, cut: usize) -> bool {
        let length = self.sent.len().min(cut);
        self.arrived.extend_from_slice(&self.sent.split_to(length));
        length > 0
    }

    /// Whether the end of the stream has just arrived.
    fn ends(&mut self) -> bool {
        let ends = self.end == End::Closing && self.sent.is_empty();
        if ends {
            self.end = End::Closed;
        }
        ends
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    Closing,
    Closed,
}
