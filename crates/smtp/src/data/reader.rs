use bytes::{Buf, Bytes, BytesMut};

use super::Content;

/// Takes the content of DATA off a stream, up to and including the line with a single dot.
///
/// Only `CRLF . CRLF` ends the content. At a bare CR, a bare LF, a NUL or a broken limit the content
/// is refused, but read on to its end, so that the session stays in step with the client whatever
/// the client believes the end to be (CVE-2023-51764 and its kind).
#[derive(Debug)]
pub struct DataReader {
    limits: DataLimits,
    chunks: Vec<Bytes>,
    /// How many octets were taken off the stream.
    taken: u64,
    /// How many octets at the front of the input are judged already.
    scanned: usize,
    /// Where the current line begins in the stream.
    line_start: u64,
    at_line_start: bool,
    in_header: bool,
    /// How many dots at the front of lines are not part of the message.
    dots: u64,
    has_8bit: bool,
    refusal: Option<DataRefusal>,
    /// Octets in `chunks`.
    held: usize,
    /// Some of them have been taken away by [`DataReader::take_part`].
    in_parts: bool,
    /// Nobody wants the rest.
    discarding: bool,
}

impl DataReader {
    /// Begins to read behind the CRLF of the DATA command.
    pub fn new(limits: DataLimits) -> Self {
        Self {
            limits,
            chunks: Vec::new(),
            taken: 0,
            scanned: 0,
            line_start: 0,
            at_line_start: true,
            in_header: true,
            dots: 0,
            has_8bit: false,
            refusal: None,
            held: 0,
            in_parts: false,
            discarding: false,
        }
    }

    /// How many octets are held, of content that may still be good.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes away what is held, in pieces that may be cut anywhere. The content that [`read`](Self::read)
    /// then gives at its end is empty: its last part is to be taken like the others.
    pub fn take_part(&mut self) -> Vec<Bytes> {
        self.in_parts = true;
        self.held = 0;
        std::mem::take(&mut self.chunks)
    }

    /// Whether the content is taken away in parts.
    pub fn is_in_parts(&self) -> bool {
        self.in_parts
    }

    /// Drops what is held and what follows, which is read and judged all the same.
    pub fn discard(&mut self) {
        self.discarding = true;
        self.drop_held();
    }

    /// Reads on. `None` if the end is not there yet; the undecided rest stays in `input`.
    ///
    /// Octets are split off, never copied. They stay in `input` until a chunk is full or the
    /// content ends, so that the number of chunks does not depend on how the stream was cut.
    pub fn read(&mut self, input: &mut BytesMut) -> Option<Result<Content, DataRefusal>> {
        match self.scan(input) {
            Progress::End { at } => {
                self.check_size(at);
                self.take(input, at);
                input.advance(DOT_LINE.len());
                Some(self.finish())
            }
            Progress::More { at } => {
                self.check_size(at);
                self.check_line(at);
                if self.refusal.is_some() || self.discarding || at >= CHUNK {
                    self.take(input, at);
                } else {
                    self.scanned = at;
                }
                None
            }
        }
    }

    fn scan(&mut self, input: &[u8]) -> Progress {
        let mut at = self.scanned;
        loop {
            if self.at_line_start {
                match input.get(at..).unwrap_or_default() {
                    [b'.', b'\r', b'\n', ..] => return Progress::End { at },
                    [] | [b'.'] | [b'.', b'\r'] => return Progress::More { at },
                    [b'.', ..] => self.dots += 1,
                    _ => {}
                }
                self.at_line_start = false;
                self.line_start = self.taken + at as u64;
            }
            let rest = input.get(at..).unwrap_or_default();
            let Some(found) = memchr::memchr3(b'\r', b'\n', 0, rest) else {
                return Progress::More { at: input.len() };
            };
            at += found;
            match rest.get(found..).unwrap_or_default() {
                [b'\r'] => return Progress::More { at },
                [b'\r', b'\n', ..] => {
                    self.check_line(at);
                    at += 2;
                    self.at_line_start = true;
                    self.in_header &= self.taken + at as u64 != self.line_start + 2;
                }
                [b'\r', ..] => {
                    self.refuse(DataRefusal::BareCarriageReturn);
                    at += 1;
                }
                [b'\n', ..] => {
                    self.refuse(DataRefusal::BareLineFeed);
                    at += 1;
                }
                _ => {
                    self.refuse(DataRefusal::Nul);
                    at += 1;
                }
            }
        }
    }

    /// Judges the line up to `at`, whole or not.
    fn check_line(&mut self, at: usize) {
        let position = self.taken + at as u64;
        if !self.at_line_start && position - self.line_start > self.limits.line {
            self.refuse(DataRefusal::LineTooLong);
        }
        if self.in_header && position > self.limits.header_section {
            self.refuse(DataRefusal::HeaderTooLarge);
        }
    }

    fn check_size(&mut self, at: usize) {
        // RFC 1870 §3: the size counts the octets of the message, not the stuffing.
        if (self.taken + at as u64).saturating_sub(self.dots) > self.limits.size {
            self.refuse(DataRefusal::TooLarge);
        }
    }

    fn refuse(&mut self, refusal: DataRefusal) {
        // The verdict may not depend on how the stream was cut: broken limits, seen late or early,
        // outrank forbidden octets, and of these the first counts.
        if self
            .refusal
            .is_none_or(|known| known.rank() < refusal.rank())
        {
            self.refusal = Some(refusal);
        }
        self.drop_held();
    }

    fn drop_held(&mut self) {
        self.chunks = Vec::new();
        self.held = 0;
    }

    fn take(&mut self, input: &mut BytesMut, at: usize) {
        self.taken += at as u64;
        self.scanned = 0;
        if self.refusal.is_some() || self.discarding {
            input.advance(at);
        } else if at > 0 {
            let chunk = input.split_to(at).freeze();
            self.has_8bit |= !chunk.is_ascii();
            self.held += chunk.len();
            self.chunks.push(chunk);
        }
    }

    fn finish(&mut self) -> Result<Content, DataRefusal> {
        if self.in_parts && self.refusal.is_none() {
            return Ok(Content::default());
        }
        let chunks = std::mem::take(&mut self.chunks);
        match self.refusal {
            Some(refusal) => Err(refusal),
            None => Ok(Content::from_reader(
                chunks,
                self.taken,
                self.dots,
                self.has_8bit,
            )),
        }
    }
}

/// What content may have at most, in octets.
#[derive(Clone, Copy, Debug)]
pub struct DataLimits {
    /// The message, without dot-stuffing.
    pub size: u64,
    /// A line. RFC 5321 §4.5.3.1.6 has 1000, but longer ones are in use and do no harm.
    pub line: u64,
    /// Everything up to the first empty line.
    pub header_section: u64,
}

impl DataLimits {
    /// The limits for messages of up to `size` octets.
    pub const fn with_size(size: u64) -> Self {
        Self {
            size,
            line: 16 * 1024,
            header_section: 128 * 1024,
        }
    }
}

/// Why content is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DataRefusal {
    /// A CR without an LF behind it.
    #[error("bare CR in message content")]
    BareCarriageReturn,
    /// An LF without a CR before it.
    #[error("bare LF in message content")]
    BareLineFeed,
    /// A header section without end.
    #[error("message header section too large")]
    HeaderTooLarge,
    /// A line without end.
    #[error("line too long in message content")]
    LineTooLong,
    /// An octet of value zero.
    #[error("NUL in message content")]
    Nul,
    /// More octets than SIZE allows.
    #[error("message too large")]
    TooLarge,
}

impl DataRefusal {
    fn rank(self) -> u8 {
        match self {
            Self::BareCarriageReturn | Self::BareLineFeed | Self::Nul => 0,
            Self::LineTooLong => 1,
            Self::HeaderTooLarge => 2,
            Self::TooLarge => 3,
        }
    }
}

enum Progress {
    /// The dot line begins at `at`.
    End { at: usize },
    /// All octets before `at` are judged.
    More { at: usize },
}

const DOT_LINE: &[u8] = b".\r\n";
/// When to split octets off before the content ends: large enough to make chunks few, small enough
/// that growing the buffer costs nothing.
const CHUNK: usize = 64 * 1024;
