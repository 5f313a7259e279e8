use std::borrow::Cow;
use std::fmt;

use bytes::{Bytes, BytesMut};

use super::{DotStuffing, Unstuffing};

/// The content of a message, header section and body, in the dot-stuffed form of DATA without the
/// dot line that ends it.
///
/// Every value is safe to send: lines end in CRLF, there is no bare CR, bare LF or NUL, and no line
/// is a single dot. The octets are shared, so a clone costs a few counters.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content {
    chunks: Vec<Bytes>,
    stuffed_len: u64,
    dots: u64,
    has_8bit: bool,
}

impl Content {
    /// Takes octets that are dot-stuffed already, for example from a queue's record. A missing CRLF
    /// at the end is added (RFC 5321 §4.1.1.4).
    ///
    /// # Errors
    ///
    /// [`ContentError`] if sending them would break the line rule.
    pub fn from_stuffed(chunks: impl IntoIterator<Item = Bytes>) -> Result<Self, ContentError> {
        let mut content = Self::default();
        let mut scan = Scan::default();
        for chunk in chunks.into_iter().filter(|chunk| !chunk.is_empty()) {
            scan.chunk(&chunk)?;
            content.push(chunk);
        }
        if scan.line_is_open()? {
            content.push(Bytes::from_static(b"\r\n"));
        }
        content.dots = scan.dots;
        Ok(content)
    }

    /// Takes octets that are not dot-stuffed.
    ///
    /// # Errors
    ///
    /// [`ContentError`] if they break the line rule.
    pub fn from_raw(raw: &[u8]) -> Result<Self, ContentError> {
        let mut out = BytesMut::with_capacity(raw.len() + raw.len() / 64 + 16);
        DotStuffing::default().write(raw, &mut out);
        Self::from_stuffed([out.freeze()])
    }

    /// The header section of dot-stuffed content, with the empty line behind it, from pieces of it that
    /// may be cut anywhere; whole lines of it where its end is not in them. What it is not in is not
    /// looked at.
    ///
    /// # Errors
    ///
    /// [`ContentError`] if sending it would break the line rule.
    pub fn header_section_of<'a>(
        pieces: impl IntoIterator<Item = &'a Bytes>,
    ) -> Result<Self, ContentError> {
        let mut head = BytesMut::new();
        for piece in pieces {
            let seen = head.len().saturating_sub(3);
            head.extend_from_slice(piece);
            let found = memchr::memmem::find(head.get(seen..).unwrap_or_default(), b"\r\n\r\n");
            let end = match found {
                _ if head.starts_with(b"\r\n") => Some(2),
                found => found.map(|found| seen + found + 4),
            };
            if let Some(end) = end {
                head.truncate(end);
                return Self::from_stuffed([head.freeze()]);
            }
        }
        head.truncate(memchr::memrchr(b'\n', &head).map_or(0, |last| last + 1));
        Self::from_stuffed([head.freeze()])
    }

    pub(super) fn from_reader(chunks: Vec<Bytes>, len: u64, dots: u64, has_8bit: bool) -> Self {
        Self {
            chunks,
            stuffed_len: len,
            dots,
            has_8bit,
        }
    }

    /// The dot-stuffed octets.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// The dot-stuffed octets, taken out.
    pub fn into_chunks(self) -> Vec<Bytes> {
        self.chunks
    }

    /// How many octets the dot-stuffed form has.
    pub fn stuffed_len(&self) -> u64 {
        self.stuffed_len
    }

    /// How many octets the message has (RFC 1870 §3).
    pub fn raw_len(&self) -> u64 {
        self.stuffed_len - self.dots
    }

    /// Whether there are no octets at all.
    pub fn is_empty(&self) -> bool {
        self.stuffed_len == 0
    }

    /// Whether there are octets outside ASCII.
    pub fn has_8bit(&self) -> bool {
        self.has_8bit
    }

    /// Puts other content in front, as a relay does with its trace fields.
    pub fn prepend(&mut self, mut head: Self) {
        head.chunks.append(&mut self.chunks);
        self.chunks = head.chunks;
        self.stuffed_len += head.stuffed_len;
        self.dots += head.dots;
        self.has_8bit |= head.has_8bit;
    }

    /// The octets of the message without dot-stuffing, as slices of what is there.
    pub fn raw_slices(&self) -> RawSlices<'_> {
        RawSlices {
            chunks: self.chunks.iter(),
            rest: &[],
            unstuffing: Unstuffing::default(),
        }
    }

    /// The lines of the message without dot-stuffing and CRLF. A line is copied only if it lies in
    /// more than one chunk.
    pub fn lines(&self) -> Lines<'_> {
        Lines {
            chunks: self.chunks.iter(),
            rest: &[],
        }
    }

    /// The octets of the message without dot-stuffing, copied.
    pub fn to_raw(&self) -> Vec<u8> {
        self.raw_slices().flatten().copied().collect()
    }

    fn push(&mut self, chunk: Bytes) {
        self.stuffed_len += chunk.len() as u64;
        self.has_8bit |= !chunk.is_ascii();
        self.chunks.push(chunk);
    }
}

/// Sizes only: the octets are somebody's letter.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("raw_len", &self.raw_len())
            .field("chunks", &self.chunks.len())
            .field("has_8bit", &self.has_8bit)
            .finish()
    }
}

/// Iterator of [`Content::raw_slices`].
#[derive(Clone, Debug)]
pub struct RawSlices<'a> {
    chunks: std::slice::Iter<'a, Bytes>,
    rest: &'a [u8],
    unstuffing: Unstuffing,
}

impl<'a> Iterator for RawSlices<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if let Some(slice) = self.unstuffing.next_slice(&mut self.rest) {
                return Some(slice);
            }
            self.rest = self.chunks.next()?;
        }
    }
}

/// Iterator of [`Content::lines`].
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    chunks: std::slice::Iter<'a, Bytes>,
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = Cow<'a, [u8]>;

    fn next(&mut self) -> Option<Cow<'a, [u8]>> {
        if self.rest.is_empty() {
            self.rest = self.chunks.next()?;
        }
        if let Some(line) = self.until_line_feed() {
            return Some(Cow::Borrowed(unstuffed(line)));
        }
        let mut line = self.rest.to_vec();
        loop {
            self.rest = self.chunks.next()?;
            if let Some(end) = self.until_line_feed() {
                line.extend_from_slice(end);
                return Some(Cow::Owned(unstuffed(&line).to_vec()));
            }
            line.extend_from_slice(self.rest);
        }
    }
}

impl<'a> Lines<'a> {
    fn until_line_feed(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(b'\n', self.rest)?;
        let (line, rest) = self.rest.split_at_checked(end + 1)?;
        self.rest = rest;
        Some(line)
    }
}

/// Why octets cannot be the content of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// A CR without an LF behind it.
    #[error("bare CR in message content")]
    BareCarriageReturn,
    /// An LF without a CR before it.
    #[error("bare LF in message content")]
    BareLineFeed,
    /// Fewer or more octets than were announced.
    #[error("message content is not as long as announced")]
    Length,
    /// A line of a single dot, which would end the content early.
    #[error("message content has a line of a single dot that is not stuffed")]
    DotLine,
    /// An octet of value zero.
    #[error("NUL in message content")]
    Nul,
}

/// Judges dot-stuffed octets chunk by chunk.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    state: ScanState,
    /// How many are stuffing.
    pub(crate) dots: u64,
}

#[derive(Clone, Copy, Debug, Default)]
enum ScanState {
    #[default]
    LineStart,
    Dot,
    DotCarriageReturn,
    Text,
    CarriageReturn,
}

impl Scan {
    pub(crate) fn chunk(&mut self, chunk: &[u8]) -> Result<(), ContentError> {
        let mut rest = chunk;
        while let Some((octet, behind)) = rest.split_first() {
            (self.state, rest) = match (self.state, octet) {
                (ScanState::LineStart, b'.') => (ScanState::Dot, behind),
                (ScanState::LineStart, _) => (ScanState::Text, rest),
                (ScanState::Dot, b'\r') => (ScanState::DotCarriageReturn, behind),
                (ScanState::Dot, _) => {
                    self.dots += 1;
                    (ScanState::Text, rest)
                }
                (ScanState::DotCarriageReturn, b'\n') => return Err(ContentError::DotLine),
                (ScanState::CarriageReturn, b'\n') => (ScanState::LineStart, behind),
                (ScanState::DotCarriageReturn | ScanState::CarriageReturn, _) => {
                    return Err(ContentError::BareCarriageReturn);
                }
                (ScanState::Text, _) => match memchr::memchr3(b'\r', b'\n', 0, rest) {
                    None => (ScanState::Text, &[][..]),
                    Some(at) => match rest.get(at..).unwrap_or_default() {
                        [b'\r', behind @ ..] => (ScanState::CarriageReturn, behind),
                        [b'\n', ..] => return Err(ContentError::BareLineFeed),
                        _ => return Err(ContentError::Nul),
                    },
                },
            };
        }
        Ok(())
    }

    /// Whether the last line lacks its CRLF.
    pub(crate) fn line_is_open(&self) -> Result<bool, ContentError> {
        match self.state {
            ScanState::LineStart => Ok(false),
            ScanState::Text => Ok(true),
            ScanState::Dot => Err(ContentError::DotLine),
            ScanState::CarriageReturn | ScanState::DotCarriageReturn => {
                Err(ContentError::BareCarriageReturn)
            }
        }
    }
}

fn unstuffed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\r\n").unwrap_or(line);
    line.strip_prefix(b".").unwrap_or(line)
}
