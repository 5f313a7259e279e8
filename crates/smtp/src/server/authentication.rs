//! AUTH (RFC 4954).

use std::time::Instant;

use bytes::{Buf, BytesMut};

use super::config::Authentication;
use super::dialogue::Line;
use super::event::{Abandonment, AuthenticationRequest, Event};
use super::replies;
use super::session::{Question, Session, State};
use crate::reply::{Reply, ReplyCode};
use crate::sasl::{Mechanism, SaslError, ServerExchange, ServerStep};

impl Session {
    /// Answers [`Event::Authenticate`]: the client is `identity` from now on.
    pub fn authentication_accepted(&mut self, now: Instant, identity: impl Into<String>) {
        if !matches!(self.state, State::Answer(Question::Authenticate)) {
            return;
        }
        self.identity = Some(identity.into());
        self.say(replies::AUTHENTICATED);
        self.expect_command(now);
    }

    /// Answers [`Event::Authenticate`] with a negative reply. After too many permanent ones the
    /// session ends.
    pub fn authentication_refused(&mut self, now: Instant, reply: &Reply) {
        if !matches!(self.state, State::Answer(Question::Authenticate)) {
            return;
        }
        if reply.code() == ReplyCode::SERVICE_NOT_AVAILABLE {
            self.say_reply(reply);
            return self.close(Abandonment::Refused);
        }
        if reply.is_permanent() && self.count_failure() {
            return;
        }
        self.say_reply(reply);
        self.expect_command(now);
    }

    pub(super) fn auth(&mut self, now: Instant, mechanism: &str, initial: Option<&str>) {
        if self.hello.is_none() {
            return self.junk(now, replies::HELLO_FIRST);
        }
        if self.identity.is_some() {
            return self.junk(now, replies::ALREADY_AUTHENTICATED);
        }
        if self.config.authentication == Authentication::NotOffered {
            return self.junk(now, replies::AUTH_NOT_OFFERED);
        }
        if self.would_show_password() {
            let offers_tls = self.offers_starttls();
            let reply = if offers_tls {
                replies::AUTH_NEEDS_TLS
            } else {
                replies::AUTH_NOT_OFFERED
            };
            return self.junk(now, reply);
        }
        if self.transaction.is_some() {
            return self.junk(now, replies::IN_TRANSACTION);
        }
        let known = mechanism
            .parse::<Mechanism>()
            .ok()
            .filter(|known| self.offers(*known));
        let Some(mechanism) = known else {
            return self.junk(now, replies::AUTH_MECHANISM);
        };
        let mut exchange = ServerExchange::new(mechanism);
        let step = exchange.start(initial);
        self.continue_exchange(now, exchange, step);
    }

    /// Reads one line of the exchange; false if there is none.
    pub(super) fn read_response(&mut self, now: Instant, input: &mut BytesMut) -> bool {
        let Some((length, line)) = self.next_line(input, LINE_LIMIT) else {
            return false;
        };
        if length != input.len() {
            // RFC 4954 §4: each response awaits its challenge.
            self.refuse_octets_behind();
            return true;
        }
        let State::Authentication(mut exchange) =
            std::mem::replace(&mut self.state, State::Command)
        else {
            return false;
        };
        let text = input.get(..length.saturating_sub(2)).unwrap_or_default();
        match (line, str::from_utf8(text)) {
            (Line::TooLong, _) => self.junk(now, replies::AUTH_LINE_TOO_LONG),
            (Line::BareLineFeed, _) => self.junk(now, replies::OCTETS),
            (Line::Text, Err(_)) => self.junk(now, replies::AUTH_BASE64),
            (Line::Text, Ok(text)) => {
                let step = exchange.step(text);
                self.continue_exchange(now, exchange, step);
            }
        }
        input.advance(length);
        true
    }

    fn continue_exchange(
        &mut self,
        now: Instant,
        exchange: ServerExchange,
        step: Result<ServerStep, SaslError>,
    ) {
        match step {
            Ok(ServerStep::Challenge(challenge)) => {
                self.say("334 ");
                self.say(&challenge);
                self.say("\r\n");
                self.expect_response(now, exchange);
            }
            Ok(ServerStep::Credentials(credentials)) => {
                let mechanism = exchange.mechanism();
                let event = Event::Authenticate(AuthenticationRequest {
                    mechanism,
                    credentials,
                });
                self.ask(now, event, Question::Authenticate);
            }
            Err(SaslError::Cancelled) => self.junk(now, replies::AUTH_CANCELLED),
            Err(SaslError::Base64) => self.junk(now, replies::AUTH_BASE64),
            Err(_) => self.junk(now, replies::AUTH_MALFORMED),
        }
    }

    /// Counts refused credentials; true if that was one too many and the session ended.
    fn count_failure(&mut self) -> bool {
        self.authentication_failures += 1;
        let too_many = self.authentication_failures >= self.config.max_authentication_failures;
        if too_many {
            self.say(replies::AUTH_TOO_MANY_FAILURES);
            self.close(Abandonment::Refused);
        }
        too_many
    }
}

/// RFC 4954 §4: lines of an exchange have up to 12,288 octets.
pub(super) const LINE_LIMIT: usize = 12_288;
