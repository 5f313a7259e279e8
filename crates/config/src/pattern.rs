//! What a recipient domain or a sender address is matched with.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hostname::is_domain;

/// `example.com` (that domain alone), `*.example.com` (every domain below it, not itself), or `*`
/// (any). In lower case; compared without regard to case (RFC 5321 §2.4).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DomainPattern {
    Exact(String),
    /// The part behind `*.`.
    Below(String),
    Any,
}

impl DomainPattern {
    pub fn matches(&self, domain: &str) -> bool {
        match self {
            Self::Exact(name) => name.eq_ignore_ascii_case(domain),
            Self::Below(parent) => domain
                .len()
                .checked_sub(parent.len())
                .filter(|&at| at >= 2 && domain.is_char_boundary(at))
                .map(|at| domain.split_at(at))
                .is_some_and(|(head, tail)| {
                    head.ends_with('.') && tail.eq_ignore_ascii_case(parent)
                }),
            Self::Any => true,
        }
    }
}

impl FromStr for DomainPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (below, name) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if !is_domain(name) {
            return Err(PatternError::Domain(text.chars().take(80).collect()));
        }
        let name = name.to_ascii_lowercase();
        Ok(if below {
            Self::Below(name)
        } else {
            Self::Exact(name)
        })
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(parent) => write!(f, "*.{parent}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// A mailbox that may be a reverse-path: `noreply@example.com`, `*@example.com`, `*@*.example.com`
/// or `*` (any). The local part is compared exactly (RFC 5321 §2.4).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SenderPattern {
    /// `None` is any.
    local_part: Option<String>,
    domain: DomainPattern,
}

impl SenderPattern {
    pub fn matches(&self, local_part: &str, domain: &str) -> bool {
        self.local_part
            .as_deref()
            .is_none_or(|wanted| wanted == local_part)
            && self.domain.matches(domain)
    }
}

impl FromStr for SenderPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self {
                local_part: None,
                domain: DomainPattern::Any,
            });
        }
        let malformed = || PatternError::Sender(text.chars().take(80).collect());
        let (local_part, domain) = text.rsplit_once('@').ok_or_else(malformed)?;
        let domain = domain.parse().map_err(|_| malformed())?;
        let local_part = match local_part {
            "*" => None,
            local if is_local_part(local) => Some(local.to_owned()),
            _ => return Err(malformed()),
        };
        Ok(Self { local_part, domain })
    }
}

impl fmt::Display for SenderPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.local_part, &self.domain) {
            (None, DomainPattern::Any) => f.write_str("*"),
            (local, domain) => write!(f, "{}@{domain}", local.as_deref().unwrap_or("*")),
        }
    }
}

/// RFC 5321 §4.1.2 Dot-string; quoted local parts cannot be patterns.
fn is_local_part(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.split('.').all(|atom| {
            !atom.is_empty()
                && atom
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
        })
}

macro_rules! as_string {
    ($($name:ty),+) => {$(
        impl TryFrom<String> for $name {
            type Error = PatternError;

            fn try_from(text: String) -> Result<Self, PatternError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(pattern: $name) -> Self {
                pattern.to_string()
            }
        }
    )+};
}

as_string!(DomainPattern, SenderPattern);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    #[error("`{0}` is not a domain pattern: write example.com, *.example.com or *")]
    Domain(String),
    #[error("`{0}` is not a sender pattern: write name@example.com, *@example.com or *")]
    Sender(String),
}

#[cfg(test)]
mod tests {
    use super::{DomainPattern, SenderPattern};

    #[test]
    fn domains() {
        for (pattern, domain, matches) in [
            ("example.com", "EXAMPLE.com", true),
            ("example.com", "a.example.com", false),
            ("*.example.com", "a.b.Example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "aexample.com", false),
            ("*.ample.com", "éample.com", false),
            ("*", "anything.test", true),
        ] {
            let parsed: DomainPattern = pattern.parse().expect(pattern);
            assert_eq!(parsed.matches(domain), matches, "{pattern} {domain}");
            assert_eq!(parsed.to_string(), pattern);
        }
        for pattern in ["", "**", "*.", "a.*.b", "*a.com", "a b", "a\r\n"] {
            assert!(pattern.parse::<DomainPattern>().is_err(), "{pattern:?}");
        }
    }

    #[test]
    fn senders() {
        for (pattern, local, domain, matches) in [
            ("noreply@example.com", "noreply", "example.COM", true),
            ("noreply@example.com", "NoReply", "example.com", false),
            ("*@example.com", "any", "example.com", true),
            ("*@example.com", "any", "b.example.com", false),
            ("*@*.example.com", "any", "b.example.com", true),
            ("*", "any", "b.test", true),
        ] {
            let parsed: SenderPattern = pattern.parse().expect(pattern);
            assert_eq!(
                parsed.matches(local, domain),
                matches,
                "{pattern} {local}@{domain}"
            );
            assert_eq!(parsed.to_string(), pattern);
        }
        for pattern in [
            "",
            "example.com",
            "@example.com",
            "a@",
            "a..b@c",
            "\"q\"@c",
            "a\n@c",
        ] {
            assert!(pattern.parse::<SenderPattern>().is_err(), "{pattern:?}");
        }
    }
}
