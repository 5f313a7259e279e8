//! A host's name as it goes into greetings, trace fields and notifications.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// RFC 5321 §2.3.5 domain name in its ASCII form, without a trailing dot; kept as written.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(String);

impl Hostname {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hostname {
    type Err = HostnameError;

    fn from_str(text: &str) -> Result<Self, HostnameError> {
        if is_domain(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(HostnameError(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for Hostname {
    type Error = HostnameError;

    fn try_from(text: String) -> Result<Self, HostnameError> {
        text.parse()
    }
}

impl From<Hostname> for String {
    fn from(name: Hostname) -> Self {
        name.0
    }
}

impl Deref for Hostname {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host name: write letters, digits and hyphens in parts joined by dots")]
pub struct HostnameError(String);

/// RFC 5321 §4.1.2: `Domain = sub-domain *("." sub-domain)`; RFC 1035 §2.3.4: 63 and 255 octets.
/// An underscore is let through, as internal zones use it.
pub(crate) fn is_domain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

#[cfg(test)]
mod tests {
    use super::Hostname;

    #[test]
    fn names() {
        for name in [
            "mail.example.com",
            "localhost",
            "a",
            "x-1.Example.ORG",
            "smtp_1.corp",
        ] {
            assert!(name.parse::<Hostname>().is_ok(), "{name}");
        }
        let long = "a".repeat(64);
        for name in [
            "",
            ".",
            "a..b",
            "a.",
            "-a",
            "a-",
            "a b",
            "a\r\nb",
            "mäil.example",
            &long,
        ] {
            assert!(name.parse::<Hostname>().is_err(), "{name:?}");
        }
    }
}
