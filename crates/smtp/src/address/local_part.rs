use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::AddressError;

/// What stands before the `@`, exactly as it was written.
///
/// ```abnf
/// Local-part    = Dot-string / Quoted-string
/// Dot-string    = Atom *("." Atom)
/// Quoted-string = DQUOTE *( qtextSMTP / quoted-pairSMTP ) DQUOTE
/// ```
///
/// The case is kept (RFC 5321 §2.4) and so are the quotes: dropping them makes another address, or
/// none.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalPart(Arc<str>);

impl LocalPart {
    /// Parses a local part, in quotes or not.
    ///
    /// # Errors
    ///
    /// [`AddressError::LocalPart`], [`AddressError::LocalPartTooLong`] or
    /// [`AddressError::NonAscii`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        // RFC 5321 §4.5.3.1.1
        if text.len() > 64 {
            return Err(AddressError::LocalPartTooLong);
        }
        if !text.is_ascii() {
            return Err(AddressError::NonAscii);
        }
        let valid = if text.starts_with('"') {
            quoted_string_len(text.as_bytes()) == Some(text.len())
        } else {
            text.split('.')
                .all(|atom| !atom.is_empty() && atom.bytes().all(is_atext))
        };
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(AddressError::LocalPart)
        }
    }

    /// The text as it was written, with its quotes if it has any.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the local part means: without quotes and backslashes.
    pub fn unquoted(&self) -> Cow<'_, str> {
        let Some(inner) = self
            .0
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
        else {
            return Cow::Borrowed(&self.0);
        };
        if !inner.contains('\\') {
            return Cow::Borrowed(inner);
        }
        let mut out = String::with_capacity(inner.len());
        let mut characters = inner.chars();
        while let Some(character) = characters.next() {
            out.extend(if character == '\\' {
                characters.next()
            } else {
                Some(character)
            });
        }
        Cow::Owned(out)
    }

    /// Whether another address may be hidden in it: `user%elsewhere`, `elsewhere!user`,
    /// `"user@elsewhere"`.
    ///
    /// Hosts behind a relay may still honour such routes, so a relay that forwards them for
    /// strangers can be an open one.
    pub fn hides_route(&self) -> bool {
        memchr::memchr3(b'%', b'!', b'@', self.0.as_bytes()).is_some()
    }
}

impl fmt::Display for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LocalPart {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// The length of the quoted string at the start of `octets`, both quotes counted.
pub(super) fn quoted_string_len(octets: &[u8]) -> Option<usize> {
    let mut position = 1;
    loop {
        match octets.get(position)? {
            b'"' => return Some(position + 1),
            b'\\' => {
                octets
                    .get(position + 1)
                    .filter(|o| (32..=126).contains(*o))?;
                position += 2;
            }
            32..=126 => position += 1,
            _ => return None,
        }
    }
}

/// RFC 5322 §3.2.3
fn is_atext(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&octet)
}
