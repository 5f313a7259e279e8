use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_resolver::proto::rr::Name;
use smtp::Domain;

/// The host of a candidate, as it is named in logs and in the certificate to expect: a name in
/// lower case without a trailing dot, or an address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostName {
    Address(IpAddr),
    Name(Arc<str>),
}

impl HostName {
    /// A host as it is configured: a name, fully qualified or not, or an address, in brackets or
    /// not.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(address) = bare.parse() {
            return Some(Self::Address(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        is_host_name(name).then(|| Self::Name(name.to_ascii_lowercase().into()))
    }

    /// The target of a DNS record.
    pub(crate) fn from_dns(name: &Name) -> Option<Self> {
        let text = name.to_ascii();
        let text = text.strip_suffix('.').unwrap_or(&text);
        is_host_name(text).then(|| Self::Name(text.to_ascii_lowercase().into()))
    }

    /// The name to look up, fully qualified; `None` for an address.
    pub(crate) fn to_dns(&self) -> Option<Name> {
        let Self::Name(name) = self else { return None };
        let mut name = Name::from_ascii(name).ok()?;
        name.set_fqdn(true);
        Some(name)
    }
}

impl From<&Domain> for HostName {
    fn from(domain: &Domain) -> Self {
        Self::Name(domain.as_str().into())
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Letters, digits and hyphens, and the underscore: RFC 1123 §2.1 has none, but there are mail
/// exchangers called `_dc-mx.…`, and nobody gains from not reaching them.
fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        let check = |text: &str, expected: Option<&str>| {
            let host = HostName::parse(text).map(|host| host.to_string());
            assert_eq!(host.as_deref(), expected, "{text:?}");
        };
        check("MX1.Example.COM.", Some("mx1.example.com"));
        check("receiver.mail.svc", Some("receiver.mail.svc"));
        check("_dc-mx.example.com", Some("_dc-mx.example.com"));
        check("192.0.2.1", Some("192.0.2.1"));
        check("[192.0.2.1]", Some("192.0.2.1"));
        check("2001:db8::1", Some("2001:db8::1"));
        check("[2001:db8::1]", Some("2001:db8::1"));
        check("", None);
        check(".", None);
        check("a..b", None);
        check("a b", None);
        check("a\r\nb", None);
        check(&"a".repeat(64), None);
        check(&"a.".repeat(127), Some(&"a.".repeat(127)[..253]));
        check(&"a.".repeat(128), None);
    }
}
