use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::AddressError;

/// A network address in place of a domain: `[192.0.2.1]`, `[IPv6:2001:db8::1]`.
///
/// ```abnf
/// address-literal = "[" ( IPv4-address-literal / IPv6-address-literal ) "]"
/// ```
///
/// The general form with other tags is refused: no tag but `IPv6` is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressLiteral(IpAddr);

impl AddressLiteral {
    /// Parses a literal with its brackets.
    ///
    /// # Errors
    ///
    /// [`AddressError::Literal`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let inner = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .ok_or(AddressError::Literal)?;
        let address = match inner.split_at_checked(5) {
            Some((tag, rest)) if tag.eq_ignore_ascii_case("ipv6:") => {
                rest.parse::<Ipv6Addr>().map(IpAddr::V6)
            }
            _ => inner.parse::<Ipv4Addr>().map(IpAddr::V4),
        };
        address.map(Self).map_err(|_| AddressError::Literal)
    }

    /// The network address.
    pub fn address(self) -> IpAddr {
        self.0
    }
}

impl From<IpAddr> for AddressLiteral {
    fn from(address: IpAddr) -> Self {
        Self(address)
    }
}

impl fmt::Display for AddressLiteral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "[{address}]"),
            IpAddr::V6(address) => write!(f, "[IPv6:{address}]"),
        }
    }
}

impl FromStr for AddressLiteral {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}
