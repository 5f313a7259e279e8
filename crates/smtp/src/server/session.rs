use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, BytesMut};

use super::config::{Config, ConnectionSecurity};
use super::content::Incoming;
use super::event::{Abandonment, Event, Output};
use super::phase::{Phase, Protocol};
use super::replies;
use crate::address::{ForwardPath, HeloName, ReversePath};
use crate::command::MailParameters;
use crate::data::DataLimits;
use crate::reply::{Reply, ReplyCode, Severity};
use crate::sasl::ServerExchange;

/// The receiving side of a connection. The [module](super) tells how to drive it.
#[derive(Debug)]
pub struct Session {
    pub(super) config: Arc<Config>,
    pub(super) security: ConnectionSecurity,
    pub(super) state: State,
    pub(super) hello: Option<Hello>,
    pub(super) identity: Option<String>,
    pub(super) transaction: Option<Transaction>,
    pub(super) line: LineState,
    pub(super) junk_commands: u32,
    pub(super) idle_commands: u32,
    pub(super) authentication_failures: u32,
    pub(super) events: VecDeque<Event>,
    greeting: Greeting,
    draining: bool,
    deadline: Instant,
    replies: BytesMut,
    then: Option<Then>,
}

impl Session {
    /// Begins a session, with the greeting to be written.
    pub fn new(config: Arc<Config>, now: Instant, security: ConnectionSecurity) -> Self {
        let mut replies = BytesMut::with_capacity(256);
        // RFC 5321 §4.3.1; no name or version of software.
        for part in ["220 ", config.hostname.as_str(), " ESMTP\r\n"] {
            replies.put_slice(part.as_bytes());
        }
        Self {
            deadline: now + config.timeouts.command,
            config,
            security,
            state: State::Command,
            hello: None,
            identity: None,
            transaction: None,
            line: LineState::default(),
            junk_commands: 0,
            idle_commands: 0,
            authentication_failures: 0,
            events: VecDeque::new(),
            greeting: Greeting::Due,
            draining: false,
            replies,
            then: None,
        }
    }

    /// When to call [`Session::handle_timeout`], unless something happens before.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What the session is about.
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Command if self.greeting == Greeting::Due => Phase::Greeting,
            State::Command if self.hello.is_none() => Phase::Hello,
            State::Command if self.transaction.is_some() => Phase::Envelope,
            State::Command => Phase::Idle,
            State::Authentication(_) => Phase::Authentication,
            State::Content(_) => Phase::Content,
            State::Answer(_) => Phase::Answer,
            State::TlsHandshake => Phase::TlsHandshake,
            State::Closed => Phase::Closed,
        }
    }

    /// Whether no transaction is open and nothing awaits an answer.
    pub fn is_idle(&self) -> bool {
        self.transaction.is_none() && matches!(self.state, State::Command | State::Closed)
    }

    /// Whether the connection is encrypted.
    pub fn security(&self) -> ConnectionSecurity {
        self.security
    }

    /// Who authenticated, if anybody did.
    pub fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    /// What the client called itself.
    pub fn helo_name(&self) -> Option<&HeloName> {
        self.hello.as_ref().map(|hello| &hello.name)
    }

    /// The recipients of the open transaction that were accepted, in order.
    pub fn forward_paths(&self) -> &[ForwardPath] {
        let transaction = self.transaction.as_ref();
        transaction.map_or(&[], |transaction| &transaction.forward_paths)
    }

    /// The protocol for the `with` clause of the trace field.
    pub fn protocol(&self) -> Protocol {
        let extended = self.hello.as_ref().is_some_and(|hello| hello.extended);
        match (extended, self.security, self.identity.is_some()) {
            (false, ..) => Protocol::Smtp,
            (true, ConnectionSecurity::Clear, false) => Protocol::Esmtp,
            (true, ConnectionSecurity::Clear, true) => Protocol::Esmtpa,
            (true, ConnectionSecurity::Tls, false) => Protocol::Esmtps,
            (true, ConnectionSecurity::Tls, true) => Protocol::Esmtpsa,
        }
    }

    /// Consumes of `input` what can be consumed. Call it again after each answered event: the
    /// buffer may hold more.
    pub fn handle_input(&mut self, now: Instant, input: &mut BytesMut) {
        if self.greeting == Greeting::Due && !input.is_empty() {
            self.refuse_early_talker();
        }
        loop {
            let progress = match self.state {
                State::Command => self.read_command(now, input),
                State::Authentication(_) => self.read_response(now, input),
                State::Content(_) => self.read_content(now, input),
                State::Answer(_) => false,
                State::TlsHandshake => {
                    // CVE-2011-0411: whatever came in clear behind STARTTLS, somebody else may have
                    // put there.
                    if !input.is_empty() {
                        self.close(Abandonment::Refused);
                    }
                    false
                }
                State::Closed => {
                    input.clear();
                    false
                }
            };
            if !progress {
                return;
            }
        }
    }

    /// The handshake that [`Output::StartTls`] asked for is done.
    pub fn handle_tls_established(&mut self, now: Instant) {
        if !matches!(self.state, State::TlsHandshake) {
            return;
        }
        // RFC 3207 §4.2: everything learned in clear is forgotten.
        self.hello = None;
        self.identity = None;
        self.security = ConnectionSecurity::Tls;
        self.expect_command(now);
    }

    /// Ends the session if its deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.deadline || matches!(self.state, State::Closed) {
            return;
        }
        if !matches!(self.state, State::TlsHandshake) {
            self.say(replies::TIMED_OUT);
        }
        self.close(Abandonment::TimedOut);
    }

    /// Ends the session as soon as no transaction is open (RFC 5321 §3.8).
    pub fn handle_shutdown(&mut self, now: Instant) {
        self.draining = true;
        if self.greeting == Greeting::Due {
            // 421 is a greeting too (RFC 5321 §3.1).
            self.replies.clear();
        }
        match self.state {
            State::Command | State::Authentication(_) if self.transaction.is_none() => {
                self.expect_command(now);
            }
            _ => {}
        }
    }

    /// The stream ended.
    pub fn handle_closed(&mut self, _now: Instant) {
        if !matches!(self.state, State::Closed) {
            self.replies.clear();
            self.close(Abandonment::Closed);
        }
    }

    /// Answers the event that awaits it with the usual positive reply.
    pub fn accept(&mut self, now: Instant) {
        let text = match &self.state {
            State::Answer(Question::Content { .. }) => "",
            State::Answer(Question::Mail(_)) => replies::OK_SENDER,
            State::Answer(Question::Recipient(_)) => replies::OK_RECIPIENT,
            State::Answer(Question::Data) => replies::START_MAIL_INPUT,
            State::Answer(Question::Message) => replies::OK,
            _ => return,
        };
        self.say(text);
        self.apply_answer(now, Severity::PositiveCompletion);
    }

    /// Answers the event that awaits it. To [`Event::Data`] a positive reply becomes `354`. With a
    /// reply of code 421 the session ends.
    pub fn answer(&mut self, now: Instant, reply: &Reply) {
        match &self.state {
            State::Answer(Question::Content { .. }) => {
                let Some(Question::Content { incoming, ended }) = self.take_question() else {
                    return;
                };
                let refusal = (!is_positive(reply.severity())).then_some(reply);
                return self.part_answered(now, incoming, ended, refusal);
            }
            State::Answer(Question::Authenticate)
            | State::Command
            | State::Authentication(_)
            | State::Content(_)
            | State::TlsHandshake
            | State::Closed => return,
            State::Answer(Question::Data) if is_positive(reply.severity()) => {
                self.say(replies::START_MAIL_INPUT);
            }
            State::Answer(_) => reply.write_to(&mut self.replies),
        }
        if reply.code() == ReplyCode::SERVICE_NOT_AVAILABLE {
            self.close(Abandonment::Refused);
        } else {
            self.apply_answer(now, reply.severity());
        }
    }

    /// Takes out what the driver has to do next; `None` if there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(event) = self.events.pop_front() {
            return Some(Output::Event(event));
        }
        if !self.replies.is_empty() {
            self.greeting = Greeting::Written;
            return Some(Output::Write(self.replies.split().freeze()));
        }
        self.then.take().map(|then| match then {
            Then::StartTls => Output::StartTls,
            Then::Close => Output::Close,
        })
    }

    fn take_question(&mut self) -> Option<Question> {
        match std::mem::replace(&mut self.state, State::Command) {
            State::Answer(question) => Some(question),
            other => {
                self.state = other;
                None
            }
        }
    }

    fn apply_answer(&mut self, now: Instant, severity: Severity) {
        let Some(question) = self.take_question() else {
            return;
        };
        let positive = is_positive(severity);
        match question {
            Question::Content { incoming, ended } => {
                return self.part_answered(now, incoming, ended, None);
            }
            Question::Mail(transaction) if positive => self.transaction = Some(transaction),
            Question::Recipient(forward_path) if positive => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.forward_paths.push(forward_path);
                }
            }
            Question::Data if positive => {
                let limits = DataLimits::with_size(self.config.max_message_size);
                self.state = State::Content(Incoming::new(limits));
                self.deadline = now + self.config.timeouts.content;
                return;
            }
            Question::Message if positive => {
                self.junk_commands = 0;
                self.idle_commands = 0;
            }
            _ => {}
        }
        self.expect_command(now);
    }

    fn refuse_early_talker(&mut self) {
        self.replies.clear();
        self.greeting = Greeting::Written;
        self.say(replies::TALKED_FIRST);
        self.close(Abandonment::Refused);
    }

    /// Waits for the next command, unless the session is to end here.
    pub(super) fn expect_command(&mut self, now: Instant) {
        self.state = State::Command;
        self.deadline = now + self.config.timeouts.command;
        if self.draining && self.transaction.is_none() {
            self.say(replies::SHUTDOWN);
            self.close(Abandonment::Refused);
        }
    }

    /// Waits for the answer to an event.
    pub(super) fn ask(&mut self, now: Instant, event: Event, question: Question) {
        self.events.push_back(event);
        self.state = State::Answer(question);
        self.deadline = now + self.config.timeouts.command;
    }

    pub(super) fn start_tls(&mut self, now: Instant) {
        self.say(replies::STARTTLS_READY);
        self.state = State::TlsHandshake;
        self.deadline = now + self.config.timeouts.command;
        self.then = Some(Then::StartTls);
    }

    pub(super) fn expect_response(&mut self, now: Instant, exchange: ServerExchange) {
        self.state = State::Authentication(exchange);
        self.deadline = now + self.config.timeouts.command;
    }

    /// Ends the transaction, if one is open, and tells so.
    pub(super) fn abandon(&mut self, why: Abandonment) {
        if self.transaction.take().is_some() {
            self.events.push_back(Event::Abandoned(why));
        }
    }

    pub(super) fn close(&mut self, why: Abandonment) {
        self.abandon(why);
        self.state = State::Closed;
        self.then = Some(Then::Close);
    }

    pub(super) fn say(&mut self, reply: &str) {
        self.replies.put_slice(reply.as_bytes());
    }

    pub(super) fn say_reply(&mut self, reply: &Reply) {
        reply.write_to(&mut self.replies);
    }
}

/// What the session waits for.
#[derive(Debug)]
pub(super) enum State {
    Command,
    Authentication(ServerExchange),
    Content(Incoming),
    Answer(Question),
    TlsHandshake,
    Closed,
}

/// The event that awaits its answer, with what a positive answer makes of it.
#[derive(Debug)]
pub(super) enum Question {
    Authenticate,
    Content {
        incoming: Incoming,
        /// Nothing comes behind it.
        ended: bool,
    },
    Mail(Transaction),
    Recipient(ForwardPath),
    Data,
    Message,
}

#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) reverse_path: ReversePath,
    pub(super) parameters: MailParameters,
    pub(super) forward_paths: Vec<ForwardPath>,
}

#[derive(Debug)]
pub(super) struct Hello {
    pub(super) name: HeloName,
    pub(super) extended: bool,
}

/// How far the line at the front of the input is read.
#[derive(Debug, Default)]
pub(super) struct LineState {
    pub(super) scanned: usize,
    pub(super) overlong: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Greeting {
    Due,
    Written,
}

/// What follows once all replies are written.
#[derive(Debug)]
enum Then {
    StartTls,
    Close,
}

fn is_positive(severity: Severity) -> bool {
    matches!(
        severity,
        Severity::PositiveCompletion | Severity::PositiveIntermediate
    )
}
