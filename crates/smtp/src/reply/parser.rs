use std::str;

use bytes::{Buf, BytesMut};

use super::{EnhancedStatus, Reply, ReplyCode, cleaned};

/// Reads replies from a stream, strictly: one code on all lines, CRLF at their ends, bounds on
/// length and number.
#[derive(Debug, Default)]
pub struct ReplyReader {
    code: Option<ReplyCode>,
    enhanced: Option<EnhancedStatus>,
    lines: Vec<String>,
    scanned: usize,
}

impl ReplyReader {
    /// Takes a whole reply off the front of `input`, or the lines of it that are there.
    ///
    /// # Errors
    ///
    /// [`ReplyError`]; the stream cannot be read any further then.
    pub fn read(&mut self, input: &mut BytesMut) -> Result<Option<Reply>, ReplyError> {
        loop {
            let unseen = input.get(self.scanned..).unwrap_or_default();
            let Some(found) = memchr::memchr(b'\n', unseen) else {
                self.scanned = input.len();
                if self.scanned > MAX_LINE {
                    return Err(ReplyError::LineTooLong);
                }
                return Ok(None);
            };
            let length = self.scanned + found + 1;
            self.scanned = 0;
            if length > MAX_LINE {
                return Err(ReplyError::LineTooLong);
            }
            let Some(line) = input
                .get(..length)
                .and_then(|line| line.strip_suffix(b"\r\n"))
            else {
                return Err(ReplyError::BareLineFeed);
            };
            let more = self.line(line)?;
            input.advance(length);
            if !more {
                return Ok(self.finish());
            }
            if self.lines.len() >= MAX_LINES {
                return Err(ReplyError::TooManyLines);
            }
        }
    }

    /// Whether a reply has begun but not ended.
    pub fn is_inside(&self) -> bool {
        self.code.is_some() || self.scanned > 0
    }

    /// Takes one line in, and tells whether another one follows.
    fn line(&mut self, line: &[u8]) -> Result<bool, ReplyError> {
        let (digits, rest) = line.split_at_checked(3).ok_or(ReplyError::Malformed)?;
        let code = parse_code(digits).ok_or(ReplyError::Malformed)?;
        if self.code.is_some_and(|first| first != code) {
            return Err(ReplyError::MixedCodes);
        }
        let (more, text) = match rest.split_first() {
            // RFC 5321 §4.2: the text, and the space before it, may be missing.
            None => (false, rest),
            Some((b' ', text)) => (false, text),
            Some((b'-', text)) => (true, text),
            Some(_) => return Err(ReplyError::Malformed),
        };
        if memchr::memchr(b'\r', text).is_some() {
            return Err(ReplyError::BareCarriageReturn);
        }
        let text = String::from_utf8_lossy(text);
        let text = cleaned(&text);
        let (enhanced, text) = split_status(code, &text);
        if self.code.is_none() {
            self.code = Some(code);
            self.enhanced = enhanced;
        }
        // A line that repeats another status keeps it as text: nothing the peer said is lost.
        let kept = if enhanced == self.enhanced {
            text.0
        } else {
            text.1
        };
        self.lines.push(kept.to_owned());
        Ok(more)
    }

    fn finish(&mut self) -> Option<Reply> {
        let enhanced = self.enhanced.take();
        let lines = std::mem::take(&mut self.lines);
        self.code
            .take()
            .map(|code| Reply::from_lines(code, enhanced, lines))
    }
}

/// Why octets are not a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// A CR that does not end a line.
    #[error("a reply has a bare CR")]
    BareCarriageReturn,
    /// A line that ends in LF alone.
    #[error("a reply line ends in a bare LF")]
    BareLineFeed,
    /// A line that goes on and on.
    #[error("a reply line is too long")]
    LineTooLong,
    /// Not three digits from 200 to 599 and a space or hyphen.
    #[error("a reply line does not begin with a reply code")]
    Malformed,
    /// Lines of one reply with different codes.
    #[error("the lines of a reply have different codes")]
    MixedCodes,
    /// More lines than any reply needs.
    #[error("a reply has too many lines")]
    TooManyLines,
}

fn parse_code(digits: &[u8]) -> Option<ReplyCode> {
    digits
        .iter()
        .try_fold(0, |code: u16, o| {
            o.is_ascii_digit().then(|| code * 10 + u16::from(o - b'0'))
        })
        .and_then(ReplyCode::new)
}

/// Splits an enhanced status off a line's text: the status, the text without it, the whole text.
fn split_status(code: ReplyCode, text: &str) -> (Option<EnhancedStatus>, (&str, &str)) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let status = word
        .parse::<EnhancedStatus>()
        .ok()
        .filter(|status| status.class().fits(code.severity()));
    (status, (if status.is_some() { rest } else { text }, text))
}

/// RFC 5321 §4.5.3.1.5 has 512; longer ones occur and do no harm.
const MAX_LINE: usize = 2048;
/// The longest replies, to EHLO, have some thirty lines.
const MAX_LINES: usize = 128;
