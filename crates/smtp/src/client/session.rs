use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::config::{Config, Tls};
use super::event::{
    Event, Failure, FailureCause, Finished, Output, Phase, RecipientOutcome, Transaction,
    Unsendable, Violation,
};
use super::transaction::Delivery;
use super::{Capabilities, SizeLimit};
use crate::data::ContentError;
use crate::reply::{Reply, ReplyCode, ReplyReader};
use crate::sasl::ClientExchange;

/// The sending side of a connection. The [module](super) tells how to drive it.
#[derive(Debug)]
pub struct Session {
    pub(super) config: Config,
    pub(super) state: State,
    pub(super) encrypted: bool,
    pub(super) authenticated: bool,
    pub(super) capabilities: Capabilities,
    /// Whether the peer may still have a transaction open that we gave up.
    pub(super) needs_reset: bool,
    reader: ReplyReader,
    deadline: Option<Instant>,
    outputs: VecDeque<Output>,
}

impl Session {
    /// Begins a session that waits for the greeting.
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            deadline: Some(now + config.timeouts.greeting),
            encrypted: config.tls == Tls::Implicit,
            config,
            state: State::Greeting,
            authenticated: false,
            capabilities: Capabilities::default(),
            needs_reset: false,
            reader: ReplyReader::default(),
            outputs: VecDeque::new(),
        }
    }

    /// When to call [`Session::handle_timeout`]; `None` while the session waits for its driver.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What is going on.
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Greeting => Phase::Greeting,
            State::Ehlo => Phase::Ehlo,
            State::Helo => Phase::Helo,
            State::StartTls => Phase::StartTls,
            State::TlsHandshake => Phase::TlsHandshake,
            State::Auth(_) => Phase::Auth,
            State::Ready => Phase::Idle,
            State::Transaction(delivery) => delivery.phase(),
            State::Quit | State::Closed => Phase::Quit,
        }
    }

    /// Whether [`Session::send`] may be called.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Whether the session has ended.
    #[cfg(test)]
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether the connection is encrypted.
    #[cfg(test)]
    pub(crate) fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// What the peer offers.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Consumes what came from the peer.
    pub fn handle_input(&mut self, now: Instant, input: &mut BytesMut) {
        while !matches!(self.state, State::Closed) {
            if matches!(self.state, State::TlsHandshake) {
                if !input.is_empty() {
                    self.violation(Violation::OctetsBehindStartTls);
                }
                break;
            }
            match self.reader.read(input) {
                Ok(Some(reply)) => self.handle_reply(now, reply, input.is_empty()),
                Ok(None) => return,
                Err(error) => self.violation(Violation::Reply(error)),
            }
        }
        if matches!(self.state, State::Closed) {
            input.clear();
        }
    }

    /// The handshake that [`Output::StartTls`] asked for is done.
    pub fn handle_tls_established(&mut self, now: Instant) {
        if matches!(self.state, State::TlsHandshake) {
            self.encrypted = true;
            // RFC 3207 §4.2: what was offered in clear counts for nothing.
            self.capabilities = Capabilities::default();
            self.hello(now);
        }
    }

    /// The handshake that [`Output::StartTls`] asked for failed.
    pub fn handle_tls_failed(&mut self, _now: Instant) {
        if matches!(self.state, State::TlsHandshake) {
            self.fail(FailureCause::TlsFailed);
        }
    }

    /// The stream ended, or broke.
    pub fn handle_closed(&mut self, _now: Instant) {
        match self.state {
            State::Closed => {}
            State::Quit => self.close(),
            _ => self.fail(FailureCause::Closed),
        }
    }

    /// Ends the session if its deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.state {
            State::Closed => {}
            State::Quit => self.close(),
            _ => self.fail(FailureCause::TimedOut),
        }
    }

    /// Sends a message. What cannot be sent to this peer is finished at once.
    ///
    /// # Errors
    ///
    /// [`SendError`] with nothing done.
    pub fn send(&mut self, now: Instant, transaction: Transaction) -> Result<(), SendError> {
        if !self.is_ready() {
            return Err(SendError::NotReady);
        }
        if transaction.recipients.is_empty() {
            return Err(SendError::NoRecipients);
        }
        if let Some(unsendable) = self.unsendable(&transaction) {
            let outcome = RecipientOutcome::Unsendable(unsendable);
            let recipients = vec![outcome; transaction.recipients.len()];
            self.event(Event::Finished(Finished { recipients }));
            return Ok(());
        }
        let reset = std::mem::take(&mut self.needs_reset);
        self.state = State::Transaction(Delivery::new(transaction, reset));
        self.continue_transaction(now);
        Ok(())
    }

    /// Sends a piece of the dot-stuffed content that [`Event::Content`] asked for, cut anywhere.
    ///
    /// # Errors
    ///
    /// [`ContentError`] if it would break the line rule; nothing of it is put out. The message is to be
    /// withheld then.
    pub fn send_content(&mut self, now: Instant, piece: Bytes) -> Result<(), ContentError> {
        if let State::Transaction(delivery) = &mut self.state
            && delivery.scan(&piece)?
        {
            self.write(piece);
            // RFC 5321 §4.5.3.2.5: the time is that of a block of data.
            self.expect(now, self.config.timeouts.content);
        }
        Ok(())
    }

    /// All of the content is sent; [`Event::FinalDot`] follows.
    ///
    /// # Errors
    ///
    /// [`ContentError`] if it is not as long as announced, or ends within a line. The message is to be
    /// withheld then.
    pub fn end_content(&mut self, now: Instant) -> Result<(), ContentError> {
        if let State::Transaction(delivery) = &mut self.state
            && delivery.end_content()?
        {
            self.event(Event::FinalDot);
            self.expect(now, self.config.timeouts.content);
        }
        Ok(())
    }

    /// Answers [`Event::FinalDot`]: the peer may have the message.
    pub fn release_final_dot(&mut self, now: Instant) {
        if let State::Transaction(delivery) = &mut self.state
            && delivery.release()
        {
            self.write(Bytes::from_static(b".\r\n"));
            self.expect(now, self.config.timeouts.final_dot);
        }
    }

    /// Answers [`Event::FinalDot`], or [`Event::Content`]: the peer must not have the message. The session ends, for the
    /// connection is the only thing that can be taken back.
    pub fn withhold(&mut self, _now: Instant) {
        if let State::Transaction(delivery) = &self.state
            && delivery.phase() == Phase::Content
        {
            self.outputs.clear();
            self.fail(FailureCause::Withheld);
        }
    }

    /// Ends the session: politely between transactions, at once otherwise.
    pub fn quit(&mut self, now: Instant) {
        match self.state {
            State::Ready => {
                self.write(Bytes::from_static(b"QUIT\r\n"));
                self.state = State::Quit;
                self.expect(now, self.config.timeouts.quit);
            }
            State::Quit | State::Closed => {}
            _ => self.close(),
        }
    }

    /// Takes out what the driver has to do next; `None` if there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn handle_reply(&mut self, now: Instant, reply: Reply, last: bool) {
        // RFC 5321 §3.8: 421 may come at any time and ends the session.
        if reply.code() == ReplyCode::SERVICE_NOT_AVAILABLE && !matches!(self.state, State::Quit) {
            return self.fail(FailureCause::Refused(reply));
        }
        match &self.state {
            State::Greeting | State::Ehlo | State::Helo | State::StartTls | State::Auth(_) => {
                self.handle_setup_reply(now, reply, last);
            }
            State::Transaction(_) => self.handle_transaction_reply(now, reply),
            State::Ready | State::TlsHandshake => self.violation(Violation::UnexpectedReply),
            State::Quit | State::Closed => self.close(),
        }
    }

    fn unsendable(&self, transaction: &Transaction) -> Option<Unsendable> {
        let content = &transaction.content;
        match self.capabilities.size {
            Some(SizeLimit::Octets(limit)) if content.raw_len() > limit => {
                Some(Unsendable::TooLarge { limit })
            }
            // RFC 6152 §3: never re-encoded here, so there is no other way.
            _ if content.has_8bit() && !self.capabilities.eight_bit_mime => {
                Some(Unsendable::EightBit)
            }
            _ => None,
        }
    }

    pub(super) fn expect(&mut self, now: Instant, timeout: Duration) {
        self.deadline = Some(now + timeout);
    }

    /// Waits for the driver, with no deadline.
    pub(super) fn become_ready(&mut self, event: Event) {
        self.state = State::Ready;
        self.deadline = None;
        self.event(event);
    }

    pub(super) fn write(&mut self, octets: Bytes) {
        self.outputs.push_back(Output::Write(octets));
    }

    pub(super) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    pub(super) fn start_tls(&mut self, now: Instant) {
        self.state = State::TlsHandshake;
        self.outputs.push_back(Output::StartTls);
        self.expect(now, self.config.timeouts.starttls);
    }

    pub(super) fn violation(&mut self, violation: Violation) {
        self.fail(FailureCause::Violation(violation));
    }

    pub(super) fn fail(&mut self, cause: FailureCause) {
        let phase = self.phase();
        self.fail_in(phase, cause);
    }

    pub(super) fn fail_in(&mut self, phase: Phase, cause: FailureCause) {
        let recipients = match std::mem::replace(&mut self.state, State::Closed) {
            State::Transaction(delivery) => delivery.into_undecided(),
            _ => Vec::new(),
        };
        // A transaction that has ended stays ended, whatever the peer sends behind its last reply.
        let finished = |output: &Output| matches!(output, Output::Event(Event::Finished(_)));
        if !self.outputs.iter().any(finished) {
            self.event(Event::Failed(Failure {
                phase,
                cause,
                recipients,
            }));
        }
        self.close();
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.deadline = None;
        self.outputs.push_back(Output::Close);
    }
}

/// Why a message was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The transaction has no recipients.
    #[error("the transaction has no recipients")]
    NoRecipients,
    /// The session is not between transactions.
    #[error("the session is not ready for a transaction")]
    NotReady,
}

/// What the session waits for.
#[derive(Debug)]
pub(super) enum State {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    TlsHandshake,
    Auth(ClientExchange),
    Ready,
    Transaction(Delivery),
    Quit,
    Closed,
}
