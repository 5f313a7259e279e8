//! Commands: what each may do in which state.

use std::fmt::Write as _;
use std::time::Instant;

use bytes::{Buf, BytesMut};

use super::config::{Authentication, ClearTextAuthentication, ConnectionSecurity, StartTls};
use super::event::{Abandonment, Event, MailRequest};
use super::replies::{self, Verb};
use super::session::{Hello, Question, Session, Transaction};
use crate::address::{ForwardPath, HeloName, ReversePath};
use crate::command::{Command, CommandError, MailParameters, RecipientParameters};
use crate::sasl::Mechanism;

impl Session {
    /// Reads and carries out one command; false if there is none.
    pub(super) fn read_command(&mut self, now: Instant, input: &mut BytesMut) -> bool {
        let limit = command_limit(input);
        let Some((length, line)) = self.next_line(input, limit) else {
            return false;
        };
        let last = length == input.len();
        match line {
            Line::TooLong => self.junk(now, replies::LINE_TOO_LONG),
            Line::BareLineFeed => self.junk(now, replies::OCTETS),
            Line::Text => {
                let text = input.get(..length - 2).unwrap_or_default();
                match Command::parse(text) {
                    Ok(command) if command.ends_group() && !last => {
                        self.refuse_pipelining(&command)
                    }
                    Ok(command) => self.command(now, command),
                    Err(error) => self.refuse_command(now, error, text),
                }
            }
        }
        input.advance(length);
        true
    }

    fn command(&mut self, now: Instant, command: Command<'_>) {
        match command {
            Command::Auth { mechanism, initial } => self.auth(now, mechanism, initial),
            Command::Data => self.data(now),
            Command::Ehlo(name) => self.ehlo(now, name),
            Command::Expn(_) => self.idle(now, replies::EXPN),
            Command::Helo(name) => self.helo(now, name),
            Command::Help(_) => self.idle(now, replies::HELP),
            Command::Mail {
                reverse_path,
                parameters,
            } => self.mail(now, reverse_path, parameters),
            Command::Noop(_) => self.idle(now, replies::OK),
            Command::Quit => {
                self.say(replies::BYE);
                self.close(Abandonment::Quit);
            }
            Command::Rcpt {
                forward_path,
                parameters,
            } => self.rcpt(now, forward_path, parameters),
            Command::Rset => self.rset(now),
            Command::StartTls => self.starttls(now),
            Command::Vrfy(_) => self.idle(now, replies::VRFY),
        }
    }

    fn ehlo(&mut self, now: Instant, name: HeloName) {
        self.abandon(Abandonment::Hello);
        self.hello = Some(Hello {
            name,
            extended: true,
        });
        let config = self.config.clone();
        let mut text = format!("250-{}\r\n250-PIPELINING\r\n", config.hostname);
        let _ = write!(
            text,
            "250-SIZE {}\r\n250-8BITMIME\r\n",
            config.max_message_size
        );
        if self.offers_starttls() {
            text.push_str("250-STARTTLS\r\n");
        }
        let mut mechanisms = config
            .mechanisms
            .iter()
            .filter(|m| self.offers(**m))
            .peekable();
        if mechanisms.peek().is_some() {
            text.push_str("250-AUTH");
            mechanisms.for_each(|mechanism| {
                text.push(' ');
                text.push_str(mechanism.as_str());
            });
            text.push_str("\r\n");
        }
        text.push_str("250 ENHANCEDSTATUSCODES\r\n");
        self.say(&text);
        self.expect_command(now);
    }

    fn helo(&mut self, now: Instant, name: HeloName) {
        self.abandon(Abandonment::Hello);
        self.hello = Some(Hello {
            name,
            extended: false,
        });
        let text = format!("250 {}\r\n", self.config.hostname);
        self.say(&text);
        self.expect_command(now);
    }

    fn mail(&mut self, now: Instant, reverse_path: ReversePath, parameters: MailParameters) {
        if self.needs_hello(now) || self.needs_tls(now) {
            return;
        }
        if self.config.authentication == Authentication::Required && self.identity.is_none() {
            return self.junk(now, replies::AUTH_REQUIRED);
        }
        if self.transaction.is_some() {
            return self.junk(now, replies::MAIL_TWICE);
        }
        // RFC 1870 §6.1
        if parameters
            .size
            .is_some_and(|size| size > self.config.max_message_size)
        {
            self.say(replies::TOO_LARGE);
            return self.expect_command(now);
        }
        let transaction = Transaction {
            reverse_path: reverse_path.clone(),
            parameters: parameters.clone(),
            forward_paths: Vec::new(),
        };
        let event = Event::Mail(MailRequest {
            reverse_path,
            parameters,
        });
        self.ask(now, event, Question::Mail(transaction));
    }

    fn rcpt(&mut self, now: Instant, forward_path: ForwardPath, parameters: RecipientParameters) {
        if self.needs_hello(now) || self.needs_tls(now) {
            return;
        }
        let Some(transaction) = &self.transaction else {
            return self.junk(now, replies::MAIL_FIRST);
        };
        // RFC 5321 §4.5.3.1.10
        if transaction.forward_paths.len() >= self.config.max_recipients {
            self.say(replies::TOO_MANY_RECIPIENTS);
            return self.expect_command(now);
        }
        let event = Event::Recipient {
            forward_path: forward_path.clone(),
            parameters,
        };
        self.ask(now, event, Question::Recipient(forward_path));
    }

    fn data(&mut self, now: Instant) {
        if self.needs_hello(now) || self.needs_tls(now) {
            return;
        }
        match &self.transaction {
            None => self.junk(now, replies::MAIL_FIRST),
            // RFC 5321 §3.3. Not junk: a pipelining client cannot know that all were refused.
            Some(transaction) if transaction.forward_paths.is_empty() => {
                self.say(replies::NO_RECIPIENTS);
                self.expect_command(now);
            }
            Some(_) => self.ask(now, Event::Data, Question::Data),
        }
    }

    fn rset(&mut self, now: Instant) {
        if self.transaction.is_none() {
            return self.idle(now, replies::OK);
        }
        self.abandon(Abandonment::Reset);
        self.say(replies::OK);
        self.expect_command(now);
    }

    fn starttls(&mut self, now: Instant) {
        if self.needs_hello(now) {
            return;
        }
        if self.security == ConnectionSecurity::Tls {
            return self.junk(now, replies::STARTTLS_TWICE);
        }
        if self.config.starttls == StartTls::NotOffered {
            return self.junk(now, replies::STARTTLS_NOT_OFFERED);
        }
        if self.transaction.is_some() {
            return self.junk(now, replies::IN_TRANSACTION);
        }
        self.start_tls(now);
    }

    fn refuse_command(&mut self, now: Instant, error: CommandError, text: &[u8]) {
        let is_mail = text
            .get(..4)
            .is_some_and(|verb| verb.eq_ignore_ascii_case(b"MAIL"));
        let verb = if is_mail { Verb::Mail } else { Verb::Other };
        match error {
            // Hosts hand on whatever users typed; that is no sign of a broken client.
            CommandError::Address(_) => {
                self.say(replies::command_error(error, verb));
                self.expect_command(now);
            }
            _ => self.junk(now, replies::command_error(error, verb)),
        }
    }

    /// RFC 2920 §3.1: what follows depends on the reply, so the client cannot have meant it.
    fn refuse_pipelining(&mut self, command: &Command<'_>) {
        match command {
            Command::Quit => {
                self.say(replies::BYE);
                self.close(Abandonment::Quit);
            }
            _ => self.refuse_octets_behind(),
        }
    }

    pub(super) fn refuse_octets_behind(&mut self) {
        self.say(replies::PIPELINED);
        self.close(Abandonment::Refused);
    }

    fn needs_hello(&mut self, now: Instant) -> bool {
        let missing = self.hello.is_none();
        if missing {
            self.junk(now, replies::HELLO_FIRST);
        }
        missing
    }

    fn needs_tls(&mut self, now: Instant) -> bool {
        let missing = self.config.starttls == StartTls::Required
            && self.security == ConnectionSecurity::Clear;
        if missing {
            // RFC 3207 §4
            self.junk(now, replies::STARTTLS_FIRST);
        }
        missing
    }

    pub(super) fn offers_starttls(&self) -> bool {
        self.config.starttls != StartTls::NotOffered && self.security == ConnectionSecurity::Clear
    }

    pub(super) fn offers(&self, mechanism: Mechanism) -> bool {
        self.config.authentication != Authentication::NotOffered
            && self.config.mechanisms.contains(&mechanism)
            && !self.would_show_password()
    }

    /// RFC 4954 §4 and §14: no passwords in clear.
    pub(super) fn would_show_password(&self) -> bool {
        self.security == ConnectionSecurity::Clear
            && self.config.clear_text_authentication == ClearTextAuthentication::Refused
    }

    /// Replies to a command that is none, or makes no sense where it is.
    pub(super) fn junk(&mut self, now: Instant, reply: &str) {
        self.junk_commands += 1;
        if self.junk_commands > self.config.max_junk_commands {
            self.say(replies::TOO_MANY_JUNK);
            return self.close(Abandonment::Refused);
        }
        self.say(reply);
        self.expect_command(now);
    }

    /// Replies to a command that does nothing.
    fn idle(&mut self, now: Instant, reply: &str) {
        self.idle_commands += 1;
        if self.idle_commands > self.config.max_idle_commands {
            self.say(replies::TOO_MANY_IDLE);
            return self.close(Abandonment::Refused);
        }
        self.say(reply);
        self.expect_command(now);
    }

    /// Finds the line at the front of `input` and its length with the line end. What is over the
    /// limit is dropped at once, and reported when its end is seen.
    pub(super) fn next_line(
        &mut self,
        input: &mut BytesMut,
        limit: usize,
    ) -> Option<(usize, Line)> {
        let unseen = input.get(self.line.scanned..).unwrap_or_default();
        let Some(found) = memchr::memchr(b'\n', unseen) else {
            self.line.scanned = input.len();
            if input.len() > limit {
                self.line.overlong = true;
                // The CR stays: its LF may be next.
                let kept = usize::from(input.ends_with(b"\r"));
                input.advance(input.len() - kept);
                self.line.scanned = kept;
            }
            return None;
        };
        let length = self.line.scanned + found + 1;
        self.line.scanned = 0;
        let line = input.get(..length).unwrap_or_default();
        let overlong = std::mem::take(&mut self.line.overlong) || length > limit;
        let kind = match (overlong, line.ends_with(b"\r\n")) {
            (true, _) => Line::TooLong,
            (false, true) => Line::Text,
            (false, false) => Line::BareLineFeed,
        };
        Some((length, kind))
    }
}

pub(super) enum Line {
    Text,
    TooLong,
    BareLineFeed,
}

/// RFC 5321 §4.5.3.1.4: 512 octets, and what the parameters of the offered extensions add to MAIL
/// (SIZE 26, 8BITMIME 17, AUTH 500). RFC 4954 §4: 12,288 for AUTH.
fn command_limit(input: &[u8]) -> usize {
    match input.get(..4) {
        Some(verb) if verb.eq_ignore_ascii_case(b"MAIL") => 512 + 26 + 17 + 500,
        Some(verb) if verb.eq_ignore_ascii_case(b"AUTH") => super::authentication::LINE_LIMIT,
        _ => 512,
    }
}
