use std::fmt;

use super::CommandError;
use crate::address::ReversePath;

/// The parameters of MAIL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// `SIZE=`: how many octets the message will have (RFC 1870).
    pub size: Option<u64>,
    /// `BODY=`: what octets it will have (RFC 6152).
    pub body: Option<Body>,
    /// `AUTH=`: who submitted it first; null for unknown (RFC 4954 §5).
    pub auth: Option<ReversePath>,
}

impl MailParameters {
    pub(super) fn parse(text: &str) -> Result<Self, CommandError> {
        let mut parameters = Self::default();
        for parameter in text.split(' ').filter(|parameter| !parameter.is_empty()) {
            let (keyword, value) = match parameter.split_once('=') {
                Some((keyword, value)) => (keyword, Some(value)),
                None => (parameter, None),
            };
            let value = || value.ok_or(CommandError::ParameterValue);
            if keyword.eq_ignore_ascii_case("SIZE") {
                set(&mut parameters.size, parse_size(value()?)?)?;
            } else if keyword.eq_ignore_ascii_case("BODY") {
                set(&mut parameters.body, Body::parse(value()?)?)?;
            } else if keyword.eq_ignore_ascii_case("AUTH") {
                set(&mut parameters.auth, parse_auth(value()?)?)?;
            } else {
                return Err(CommandError::ParameterUnknown);
            }
        }
        Ok(parameters)
    }
}

impl fmt::Display for MailParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(size) = self.size {
            write!(f, " SIZE={size}")?;
        }
        if let Some(body) = self.body {
            write!(f, " BODY={body}")?;
        }
        match &self.auth {
            None => Ok(()),
            Some(ReversePath::Null) => f.write_str(" AUTH=<>"),
            Some(ReversePath::Mailbox(mailbox)) => {
                write!(f, " AUTH={}", encode_xtext(&mailbox.to_string()))
            }
        }
    }
}

/// The parameters of RCPT: none yet; DSN (RFC 3461) brings NOTIFY and ORCPT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecipientParameters {}

impl RecipientParameters {
    pub(super) fn parse(text: &str) -> Result<Self, CommandError> {
        if text.bytes().all(|o| o == b' ') {
            Ok(Self::default())
        } else {
            Err(CommandError::ParameterUnknown)
        }
    }
}

impl fmt::Display for RecipientParameters {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// The body types of RFC 6152.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Body {
    /// `7BIT`
    SevenBit,
    /// `8BITMIME`
    EightBitMime,
}

impl Body {
    fn parse(value: &str) -> Result<Self, CommandError> {
        if value.eq_ignore_ascii_case("7BIT") {
            Ok(Self::SevenBit)
        } else if value.eq_ignore_ascii_case("8BITMIME") {
            Ok(Self::EightBitMime)
        } else {
            // RFC 3030 §3: BINARYMIME cannot be asked for where it is not offered.
            Err(CommandError::ParameterValue)
        }
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SevenBit => "7BIT",
            Self::EightBitMime => "8BITMIME",
        })
    }
}

/// Encodes as xtext (RFC 3461 §4).
pub(crate) fn encode_xtext(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'+' | b'=' | 0..=32 | 127.. => out.push_str(&format!("+{octet:02X}")),
            _ => out.push(char::from(octet)),
        }
    }
    out
}

/// Decodes xtext; the result may have any octet and must be parsed like any input.
fn decode_xtext(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        match octet {
            b'+' => {
                let mut digit = || match octets.next()? {
                    octet @ b'0'..=b'9' => Some(octet - b'0'),
                    octet @ b'A'..=b'F' => Some(octet - b'A' + 10),
                    _ => None,
                };
                let high = digit()?;
                out.push(high << 4 | digit()?);
            }
            33..=60 | 62..=126 => out.push(octet),
            _ => return None,
        }
    }
    String::from_utf8(out).ok()
}

fn set<T>(slot: &mut Option<T>, value: T) -> Result<(), CommandError> {
    // RFC 5321 §4.1.1.11: each keyword at most once.
    if slot.is_some() {
        return Err(CommandError::ParameterTwice);
    }
    *slot = Some(value);
    Ok(())
}

/// RFC 1870 §3: `size-value = 1*20DIGIT`. What does not fit 64 bits is too large all the same.
fn parse_size(value: &str) -> Result<u64, CommandError> {
    if value.is_empty() || value.len() > 20 || !value.bytes().all(|o| o.is_ascii_digit()) {
        return Err(CommandError::ParameterValue);
    }
    Ok(value.parse().unwrap_or(u64::MAX))
}

fn parse_auth(value: &str) -> Result<ReversePath, CommandError> {
    let decoded = decode_xtext(value).ok_or(CommandError::ParameterValue)?;
    if decoded == "<>" {
        return Ok(ReversePath::Null);
    }
    decoded
        .parse()
        .map(ReversePath::Mailbox)
        .map_err(|_| CommandError::ParameterValue)
}
