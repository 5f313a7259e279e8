//! From the greeting to the first transaction: EHLO, STARTTLS, EHLO again, AUTH.

use std::time::Instant;

use bytes::Bytes;

use super::Capabilities;
use super::config::{ClearTextAuthentication, Tls};
use super::event::{Event, FailureCause, Phase, Violation};
use super::session::{Session, State};
use crate::reply::{Reply, ReplyCode, Severity};
use crate::sasl::ClientExchange;

impl Session {
    pub(super) fn handle_setup_reply(&mut self, now: Instant, reply: Reply, last: bool) {
        let severity = reply.severity();
        if matches!(self.state, State::Auth(_)) {
            return self.handle_auth_reply(now, reply);
        }
        match (&self.state, severity) {
            (_, Severity::PositiveIntermediate) => self.violation(Violation::UnexpectedReply),
            (State::Greeting, Severity::PositiveCompletion) => self.hello(now),
            (State::Ehlo, Severity::PositiveCompletion) => {
                self.capabilities = Capabilities::parse(&reply);
                self.starttls_or_on(now);
            }
            // RFC 5321 §3.2: what does not know EHLO gets HELO.
            (State::Ehlo, Severity::PermanentNegative) => {
                self.line(&format!("HELO {}", self.config.helo_name));
                self.state = State::Helo;
                self.expect(now, self.config.timeouts.hello);
            }
            (State::Helo, Severity::PositiveCompletion) => {
                self.capabilities = Capabilities::default();
                self.starttls_or_on(now);
            }
            (State::StartTls, Severity::PositiveCompletion) => {
                // CVE-2011-0411, the client's side: what is behind the reply came in clear.
                if last {
                    self.start_tls(now);
                } else {
                    self.violation(Violation::OctetsBehindStartTls);
                }
            }
            // Opportunistic TLS (RFC 7435): a peer that is not ready gets the mail in clear.
            (State::StartTls, _) if self.config.tls == Tls::Opportunistic => {
                self.auth_or_ready(now);
            }
            _ => self.fail(FailureCause::Refused(reply)),
        }
    }

    pub(super) fn hello(&mut self, now: Instant) {
        self.line(&format!("EHLO {}", self.config.helo_name));
        self.state = State::Ehlo;
        self.expect(now, self.config.timeouts.hello);
    }

    fn starttls_or_on(&mut self, now: Instant) {
        let wanted = !self.encrypted && self.config.tls != Tls::Disabled;
        if wanted && self.capabilities.starttls {
            self.line("STARTTLS");
            self.state = State::StartTls;
            self.expect(now, self.config.timeouts.starttls);
        } else if wanted && self.config.tls == Tls::Required {
            self.fail_in(Phase::StartTls, FailureCause::TlsUnavailable);
        } else {
            self.auth_or_ready(now);
        }
    }

    fn auth_or_ready(&mut self, now: Instant) {
        let credentials = match &self.config.credentials {
            Some(credentials) if !self.authenticated => credentials.clone(),
            _ => {
                let capabilities = self.capabilities.clone();
                return self.become_ready(Event::Ready(capabilities));
            }
        };
        let clear_text = self.config.clear_text_authentication;
        if !self.encrypted && clear_text == ClearTextAuthentication::Refused {
            return self.fail_in(Phase::Auth, FailureCause::CredentialsInClear);
        }
        let Some(mechanism) = self.capabilities.auth.first().copied() else {
            return self.fail_in(Phase::Auth, FailureCause::AuthenticationUnavailable);
        };
        let mut exchange = ClientExchange::new(mechanism, credentials);
        match exchange.initial() {
            Some(initial) => self.line(&format!("AUTH {mechanism} {initial}")),
            None => self.line(&format!("AUTH {mechanism}")),
        }
        self.state = State::Auth(exchange);
        self.expect(now, self.config.timeouts.authentication);
    }

    fn handle_auth_reply(&mut self, now: Instant, reply: Reply) {
        let State::Auth(exchange) = &mut self.state else {
            return;
        };
        if reply.code() == ReplyCode::AUTH_CONTINUE {
            let challenge = reply.lines().next().unwrap_or_default();
            match exchange.step(challenge) {
                Some(response) => {
                    self.line(&response);
                    self.expect(now, self.config.timeouts.authentication);
                }
                None => self.violation(Violation::UnexpectedReply),
            }
        } else if reply.is_positive() {
            self.authenticated = true;
            self.auth_or_ready(now);
        } else if reply.severity() == Severity::PositiveIntermediate {
            self.violation(Violation::UnexpectedReply);
        } else {
            self.fail(FailureCause::Refused(reply));
        }
    }

    fn line(&mut self, text: &str) {
        self.write(Bytes::from([text, "\r\n"].concat()));
    }
}
