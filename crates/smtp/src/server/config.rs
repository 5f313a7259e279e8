use std::time::Duration;

use crate::address::Domain;
use crate::sasl::Mechanism;

/// What a server session does and allows. Shared by the sessions of a listener.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name in the greeting and in the reply to EHLO.
    pub hostname: Domain,
    /// The largest message in octets, announced by SIZE.
    pub max_message_size: u64,
    /// Content is handed over whole, unless it is larger than this many octets: then in parts of about
    /// as many, so that no session holds much more.
    pub max_part_size: usize,
    /// How many recipients a transaction may have (RFC 5321 §4.5.3.1.8: at least 100).
    pub max_recipients: usize,
    /// Whether TLS is offered or demanded.
    pub starttls: StartTls,
    /// Whether authentication is offered or demanded.
    pub authentication: Authentication,
    /// The mechanisms that are offered.
    pub mechanisms: Vec<Mechanism>,
    /// Whether passwords may cross the connection in clear.
    pub clear_text_authentication: ClearTextAuthentication,
    /// How long a client may take.
    pub timeouts: Timeouts,
    /// After how many commands that are none, or make no sense, the session ends.
    pub max_junk_commands: u32,
    /// After how many commands that do nothing (NOOP, VRFY, ...) the session ends.
    pub max_idle_commands: u32,
    /// After how many refused credentials the session ends.
    pub max_authentication_failures: u32,
}

impl Config {
    /// A configuration for `hostname` that offers neither TLS nor authentication.
    pub fn new(hostname: Domain) -> Self {
        Self {
            hostname,
            max_message_size: 50 * 1024 * 1024,
            max_part_size: usize::MAX,
            max_recipients: 1000,
            starttls: StartTls::NotOffered,
            authentication: Authentication::NotOffered,
            mechanisms: vec![Mechanism::Plain, Mechanism::Login],
            clear_text_authentication: ClearTextAuthentication::Refused,
            timeouts: Timeouts::default(),
            max_junk_commands: 10,
            max_idle_commands: 100,
            max_authentication_failures: 3,
        }
    }
}

/// STARTTLS (RFC 3207).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTls {
    /// Not there.
    NotOffered,
    /// There, as long as the connection is in clear.
    Offered,
    /// Nothing but EHLO, NOOP, QUIT and STARTTLS before it.
    Required,
}

/// AUTH (RFC 4954).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Not there.
    NotOffered,
    /// There.
    Offered,
    /// There, and no mail without it.
    Required,
}

/// What to do about mechanisms that show the password to whoever listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearTextAuthentication {
    /// Offered under TLS only.
    Refused,
    /// Offered always: for connections that do not leave the machine.
    Allowed,
}

/// Whether the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionSecurity {
    /// It is not.
    Clear,
    /// It is.
    Tls,
}

/// How long a client may take. A deadline is set per request and does not move with each octet.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From a reply to the end of the next command (RFC 5321 §4.5.3.2.7), or of the handshake.
    pub command: Duration,
    /// From `354` to the end of the content.
    pub content: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            command: Duration::from_secs(5 * 60),
            content: Duration::from_secs(10 * 60),
        }
    }
}
