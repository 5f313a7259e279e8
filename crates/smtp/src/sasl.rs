//! The exchanges of AUTH (RFC 4954) as steps: what came in goes to a step, what to send comes out.
//!
//! A mechanism is one file with both sides. PLAIN and LOGIN end in [`Credentials`], which the relay
//! judges; a mechanism that proves knowledge of a password without sending it (SCRAM) has more
//! steps but the same shape.

mod exchange;
mod login;
mod plain;

pub use exchange::{ClientExchange, ServerExchange, ServerStep};

use std::fmt;
use std::str::FromStr;

/// A SASL mechanism, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// The mechanism without a standard that many clients prefer.
    Login,
}

impl Mechanism {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mechanism {
    type Err = SaslError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Plain, Self::Login]
            .into_iter()
            .find(|mechanism| text.eq_ignore_ascii_case(mechanism.as_str()))
            .ok_or(SaslError::UnknownMechanism)
    }
}

/// Who somebody is, and the proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// As whom to act, if not as oneself.
    pub authorization_identity: Option<String>,
    /// Who it is.
    pub authentication_identity: String,
    /// The password or token.
    pub secret: Secret,
}

/// A text that never shows in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes a secret in.
    pub fn new(secret: impl Into<Box<str>>) -> Self {
        Self(secret.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a step of an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SaslError {
    /// Not base64, or not without padding errors.
    #[error("the response is not valid base64")]
    Base64,
    /// The other side gave up with `*`.
    #[error("the exchange was cancelled")]
    Cancelled,
    /// Decoded, but not what the mechanism has at this step.
    #[error("the response is not one of the mechanism")]
    Malformed,
    /// A mechanism that is not there.
    #[error("the mechanism is not supported")]
    UnknownMechanism,
}
