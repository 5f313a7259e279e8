//! Replies: the code of RFC 5321 §4.2, the enhanced status of RFC 3463, and lines of text.

mod code;
mod parser;
mod status;

pub use code::{ReplyCode, Severity};
pub use parser::{ReplyError, ReplyReader};
pub use status::{EnhancedStatus, InvalidStatus, StatusClass};

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use bytes::{BufMut, BytesMut};

/// A reply of one or more lines.
///
/// ```abnf
/// Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF
/// ```
///
/// The text has no control characters, whoever wrote it. Making a reply of one constant line does
/// not allocate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reply {
    code: ReplyCode,
    enhanced: Option<EnhancedStatus>,
    first: Cow<'static, str>,
    rest: Vec<Cow<'static, str>>,
}

impl Reply {
    /// Makes a reply. A line feed in `text` begins another line; other control characters become
    /// spaces, and lines are cut where they would break the limit of RFC 5321 §4.5.3.1.5.
    pub fn new(
        code: ReplyCode,
        enhanced: Option<EnhancedStatus>,
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        let text = text.into();
        if is_clean(&text) && text.len() <= MAX_TEXT {
            return Self {
                code,
                enhanced,
                first: text,
                rest: Vec::new(),
            };
        }
        let mut lines = text.split('\n').map(|line| {
            let line = line.strip_suffix('\r').unwrap_or(line);
            Cow::Owned(cleaned(truncated(line)).into_owned())
        });
        let first = lines.next().unwrap_or_default();
        Self {
            code,
            enhanced,
            first,
            rest: lines.collect(),
        }
    }

    /// Adds a line of text.
    #[must_use]
    pub fn with_line(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        let line = Self::new(self.code, self.enhanced, text);
        self.rest.push(line.first);
        self.rest.extend(line.rest);
        self
    }

    /// The reply code.
    pub fn code(&self) -> ReplyCode {
        self.code
    }

    /// The enhanced status code, if the reply has one.
    pub fn enhanced(&self) -> Option<EnhancedStatus> {
        self.enhanced
    }

    /// The text, line by line, without the codes.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.first)
            .chain(&self.rest)
            .map(|line| &**line)
    }

    /// What the first digit of the code says.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// Whether the first digit is 2.
    pub fn is_positive(&self) -> bool {
        self.severity() == Severity::PositiveCompletion
    }

    /// Whether the first digit is 4.
    pub fn is_transient(&self) -> bool {
        self.severity() == Severity::TransientNegative
    }

    /// Whether the first digit is 5.
    pub fn is_permanent(&self) -> bool {
        self.severity() == Severity::PermanentNegative
    }

    /// Appends the reply in its form on the wire.
    pub fn write_to(&self, out: &mut BytesMut) {
        let last = self.rest.len();
        for (index, line) in self.lines().enumerate() {
            self.code.write_to(out);
            out.put_u8(if index == last { b' ' } else { b'-' });
            if let Some(enhanced) = self.enhanced {
                enhanced.write_to(out);
                out.put_u8(b' ');
            }
            out.put_slice(line.as_bytes());
            out.put_slice(b"\r\n");
        }
    }

    pub(crate) fn from_lines(
        code: ReplyCode,
        enhanced: Option<EnhancedStatus>,
        lines: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut lines = lines.into_iter().map(Cow::Owned);
        let first = lines.next().unwrap_or_default();
        Self {
            code,
            enhanced,
            first,
            rest: lines.collect(),
        }
    }
}

/// One line for logs and records: the codes once, then the text, its lines joined by spaces.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        self.lines()
            .filter(|line| !line.is_empty())
            .try_for_each(|line| write!(f, " {line}"))
    }
}

/// Parses what `Display` wrote.
impl FromStr for Reply {
    type Err = ReplyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut wire = BytesMut::with_capacity(text.len() + 2);
        wire.put_slice(text.as_bytes());
        wire.put_slice(b"\r\n");
        let reply = ReplyReader::default()
            .read(&mut wire)?
            .ok_or(ReplyError::Malformed)?;
        if wire.is_empty() {
            Ok(reply)
        } else {
            Err(ReplyError::Malformed)
        }
    }
}

fn is_clean(text: &str) -> bool {
    !text.bytes().any(|octet| octet.is_ascii_control())
}

pub(crate) fn cleaned(text: &str) -> Cow<'_, str> {
    if is_clean(text) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(|c: char| c.is_ascii_control(), " "))
}

fn truncated(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT))
        .unwrap_or(text)
}

/// RFC 5321 §4.5.3.1.5: a line has 512 octets; the codes, spaces and CRLF take at most 18.
const MAX_TEXT: usize = 494;
