use std::fmt;
use std::str::FromStr;

use super::{AddressError, Domain, Mailbox};

/// Whom to tell about a failure; the null reverse-path for nobody.
///
/// ```abnf
/// Reverse-path = Path / "<>"
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: a notification, which never causes another one.
    Null,
    /// The mailbox that gets notifications.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// Parses a path in angle brackets. A source route is dropped.
    ///
    /// # Errors
    ///
    /// Any [`AddressError`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        match inner(text)? {
            "" => Ok(Self::Null),
            path => without_source_route(path)
                .and_then(Mailbox::parse)
                .map(Self::Mailbox),
        }
    }

    /// The mailbox, unless this is the null reverse-path.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }

    /// Whether this is the null reverse-path.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

impl From<Mailbox> for ReversePath {
    fn from(mailbox: Mailbox) -> Self {
        Self::Mailbox(mailbox)
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Mailbox(mailbox) => write!(f, "<{mailbox}>"),
        }
    }
}

impl FromStr for ReversePath {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Whom a message is for.
///
/// ```abnf
/// Forward-path = Path / "<Postmaster>"
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ForwardPath {
    /// `<Postmaster>` without a domain (RFC 5321 §4.5.1): the one at the receiving host.
    Postmaster,
    /// Any mailbox.
    Mailbox(Mailbox),
}

impl ForwardPath {
    /// Parses a path in angle brackets. A source route is dropped: the last mailbox counts.
    ///
    /// # Errors
    ///
    /// Any [`AddressError`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        match inner(text)? {
            path if path.eq_ignore_ascii_case("postmaster") => Ok(Self::Postmaster),
            path => without_source_route(path)
                .and_then(Mailbox::parse)
                .map(Self::Mailbox),
        }
    }

    /// The mailbox, unless this is the postmaster without a domain.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Postmaster => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }
}

impl From<Mailbox> for ForwardPath {
    fn from(mailbox: Mailbox) -> Self {
        Self::Mailbox(mailbox)
    }
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postmaster => f.write_str("<Postmaster>"),
            Self::Mailbox(mailbox) => write!(f, "<{mailbox}>"),
        }
    }
}

impl FromStr for ForwardPath {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

fn inner(text: &str) -> Result<&str, AddressError> {
    // RFC 5321 §4.5.3.1.3. A source route counts too, dropped or not.
    if text.len() > 256 {
        return Err(AddressError::PathTooLong);
    }
    text.strip_prefix('<')
        .and_then(|rest| rest.strip_suffix('>'))
        .ok_or(AddressError::Brackets)
}

/// RFC 5321 §4.1.1.3 and appendix C: `@one,@two:user@three` is accepted, and only `user@three` is
/// looked at.
fn without_source_route(path: &str) -> Result<&str, AddressError> {
    if !path.starts_with('@') {
        return Ok(path);
    }
    let (route, mailbox) = path.split_once(':').ok_or(AddressError::SourceRoute)?;
    let is_hop = |hop: &str| {
        hop.strip_prefix('@')
            .is_some_and(|d| Domain::parse(d).is_ok())
    };
    if route.split(',').all(is_hop) {
        Ok(mailbox)
    } else {
        Err(AddressError::SourceRoute)
    }
}
