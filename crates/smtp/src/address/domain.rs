use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::AddressError;

/// A domain name, in lower case.
///
/// ```abnf
/// Domain     = sub-domain *("." sub-domain)
/// sub-domain = Let-dig [Ldh-str]
/// ```
///
/// Domains compare without regard to case (RFC 5321 §2.4), so the text is normalised when parsed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Arc<str>);

impl Domain {
    /// Parses a domain name without a trailing dot.
    ///
    /// # Errors
    ///
    /// [`AddressError::Domain`], [`AddressError::DomainTooLong`] or [`AddressError::NonAscii`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        // RFC 5321 §4.5.3.1.2
        if text.len() > 255 {
            return Err(AddressError::DomainTooLong);
        }
        if !text.is_ascii() {
            return Err(AddressError::NonAscii);
        }
        if !text.split('.').all(is_label) {
            return Err(AddressError::Domain);
        }
        if text.bytes().any(|octet| octet.is_ascii_uppercase()) {
            return Ok(Self(text.to_ascii_lowercase().into()));
        }
        Ok(Self(text.into()))
    }

    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl AsRef<str> for Domain {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

fn is_label(label: &str) -> bool {
    // RFC 1035 §2.3.4: a label has at most 63 octets.
    let octets = label.as_bytes();
    let (Some(first), Some(last)) = (octets.first(), octets.last()) else {
        return false;
    };
    octets.len() <= 63
        && first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && octets
            .iter()
            .all(|o| o.is_ascii_alphanumeric() || *o == b'-')
}
