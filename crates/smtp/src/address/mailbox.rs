use std::fmt;
use std::str::FromStr;

use super::local_part::quoted_string_len;
use super::{AddressError, AddressLiteral, Domain, LocalPart};

/// A mailbox.
///
/// ```abnf
/// Mailbox = Local-part "@" ( Domain / address-literal )
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mailbox {
    local_part: LocalPart,
    host: Host,
}

impl Mailbox {
    /// Puts a mailbox together.
    ///
    /// # Errors
    ///
    /// [`AddressError::PathTooLong`].
    pub fn new(local_part: LocalPart, host: Host) -> Result<Self, AddressError> {
        let host_len = match &host {
            Host::Domain(domain) => domain.as_str().len(),
            Host::Literal(literal) => literal.to_string().len(),
        };
        if local_part.as_str().len() + 1 + host_len > MAX_LEN {
            return Err(AddressError::PathTooLong);
        }
        Ok(Self { local_part, host })
    }

    /// Parses `local-part@domain`, without angle brackets.
    ///
    /// # Errors
    ///
    /// Any [`AddressError`] but those of brackets and source routes.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let at = if text.starts_with('"') {
            quoted_string_len(text.as_bytes()).ok_or(AddressError::LocalPart)?
        } else {
            text.find('@').ok_or(AddressError::MissingDomain)?
        };
        let (local_part, rest) = text.split_at_checked(at).ok_or(AddressError::NonAscii)?;
        let host = rest.strip_prefix('@').ok_or(AddressError::MissingDomain)?;
        Self::new(LocalPart::parse(local_part)?, Host::parse(host)?)
    }

    /// What stands before the `@`.
    pub fn local_part(&self) -> &LocalPart {
        &self.local_part
    }

    /// What stands behind the `@`.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The domain, unless the mailbox has an address literal.
    pub fn domain(&self) -> Option<&Domain> {
        match &self.host {
            Host::Domain(domain) => Some(domain),
            Host::Literal(_) => None,
        }
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local_part, self.host)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mailbox {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// The right side of a mailbox.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A domain name.
    Domain(Domain),
    /// A network address in brackets.
    Literal(AddressLiteral),
}

impl Host {
    /// Parses a domain or an address literal.
    ///
    /// # Errors
    ///
    /// The errors of [`Domain::parse`] and [`AddressLiteral::parse`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.starts_with('[') {
            AddressLiteral::parse(text).map(Self::Literal)
        } else {
            Domain::parse(text).map(Self::Domain)
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domain) => domain.fmt(f),
            Self::Literal(literal) => literal.fmt(f),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Host {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// RFC 5321 §4.5.3.1.3: a path has at most 256 octets with its punctuation, the angle brackets.
const MAX_LEN: usize = 254;
