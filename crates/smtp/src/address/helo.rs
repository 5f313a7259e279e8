use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{AddressError, AddressLiteral, Domain, Host};

/// What a client calls itself in EHLO or HELO.
///
/// RFC 5321 §4.1.4 asks for a domain or an address literal, and forbids to refuse mail because the
/// name does not verify. Clients send single labels, underscores and bare addresses, so the text
/// may be anything of letters, digits and `-._:[]`: enough for every name in use, and nothing that
/// could break out of a trace field. [`HeloName::host`] tells what it is, if it is proper.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HeloName(Arc<str>);

impl HeloName {
    /// Parses the argument of EHLO or HELO.
    ///
    /// # Errors
    ///
    /// [`AddressError::Domain`], [`AddressError::DomainTooLong`] or [`AddressError::NonAscii`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > 255 {
            return Err(AddressError::DomainTooLong);
        }
        if !text.is_ascii() {
            return Err(AddressError::NonAscii);
        }
        let fits = |o: u8| o.is_ascii_alphanumeric() || b"-._:[]".contains(&o);
        if text.is_empty() || !text.bytes().all(fits) {
            return Err(AddressError::Domain);
        }
        Ok(Self(text.into()))
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a domain or an address literal, if it is one.
    pub fn host(&self) -> Option<Host> {
        Host::parse(&self.0).ok()
    }
}

impl From<Domain> for HeloName {
    fn from(domain: Domain) -> Self {
        Self(domain.as_str().into())
    }
}

impl From<AddressLiteral> for HeloName {
    fn from(literal: AddressLiteral) -> Self {
        Self(literal.to_string().into())
    }
}

impl fmt::Display for HeloName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HeloName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HeloName {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}
