use std::time::Duration;

use crate::address::HeloName;
use crate::sasl::Credentials;

/// How a client session behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// What to call oneself in EHLO.
    pub helo_name: HeloName,
    /// What to do about TLS.
    pub tls: Tls,
    /// As whom to authenticate, if at all.
    pub credentials: Option<Credentials>,
    /// Whether credentials may be sent without TLS.
    pub clear_text_authentication: ClearTextAuthentication,
    /// How long the peer may take.
    pub timeouts: Timeouts,
}

impl Config {
    /// A configuration with opportunistic TLS and no authentication.
    pub fn new(helo_name: HeloName) -> Self {
        Self {
            helo_name,
            tls: Tls::Opportunistic,
            credentials: None,
            clear_text_authentication: ClearTextAuthentication::Refused,
            timeouts: Timeouts::default(),
        }
    }
}

/// What to do about TLS. Whom to trust is the driver's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tls {
    /// STARTTLS is not used.
    Disabled,
    /// The connection was encrypted before the greeting (RFC 8314).
    Implicit,
    /// STARTTLS is used if it is offered and the peer is ready for it.
    Opportunistic,
    /// No mail without STARTTLS.
    Required,
}

/// What to do about credentials that whoever listens could read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearTextAuthentication {
    /// Sent under TLS only.
    Refused,
    /// Sent always: for connections that do not leave the machine.
    Allowed,
}

/// How long the peer may take (RFC 5321 §4.5.3.2). The time runs per reply, not per read.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until the greeting (§4.5.3.2.1).
    pub greeting: Duration,
    /// For EHLO and HELO.
    pub hello: Duration,
    /// For STARTTLS, and again for the handshake.
    pub starttls: Duration,
    /// For each step of AUTH.
    pub authentication: Duration,
    /// For MAIL (§4.5.3.2.2), and RSET before it.
    pub mail: Duration,
    /// For RCPT (§4.5.3.2.3).
    pub recipient: Duration,
    /// For DATA (§4.5.3.2.4).
    pub data: Duration,
    /// From the content to the release of the final dot (§4.5.3.2.5).
    pub content: Duration,
    /// For the final dot (§4.5.3.2.6): long, because a reply lost here is a duplicate.
    pub final_dot: Duration,
    /// For QUIT: nothing depends on it.
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        const fn minutes(minutes: u64) -> Duration {
            Duration::from_secs(60 * minutes)
        }
        Self {
            greeting: minutes(5),
            hello: minutes(5),
            starttls: minutes(2),
            authentication: minutes(2),
            mail: minutes(5),
            recipient: minutes(5),
            data: minutes(2),
            content: minutes(3),
            final_dot: minutes(10),
            quit: Duration::from_secs(5),
        }
    }
}
