//! What of the original goes back.

use smtp::Content;

use crate::text::content;

/// The original, whole or in part.
pub(super) enum Returned {
    Message(Content),
    Headers(Content),
}

impl Returned {
    /// Chooses by what fits into `room`.
    pub(super) fn new(original: &Content, size: u64, room: usize) -> Self {
        let fits = size <= MAX_WHOLE as u64 && original.stuffed_len() <= room as u64;
        if fits && lines_fit(original) {
            Self::Message(original.clone())
        } else {
            Self::headers(original, room)
        }
    }

    /// The header section, as far as it fits into `room`.
    pub(super) fn headers(original: &Content, room: usize) -> Self {
        Self::Headers(headers(original, room.clamp(MIN_HEADERS, MAX_WHOLE)))
    }

    pub(super) fn content(&self) -> &Content {
        match self {
            Self::Message(content) | Self::Headers(content) => content,
        }
    }

    pub(super) fn into_content(self) -> Content {
        match self {
            Self::Message(content) | Self::Headers(content) => content,
        }
    }

    /// The header section of the part, with the empty line behind it.
    pub(super) fn part_header(&self) -> &'static str {
        // RFC 2046 §5.2.1 allows message/rfc822 to be 7bit or 8bit and nothing else.
        match (self, self.content().has_8bit()) {
            (Self::Message(_), false) => {
                "Content-Description: Undelivered message\r\n\
                 Content-Type: message/rfc822\r\n\r\n"
            }
            (Self::Message(_), true) => {
                "Content-Description: Undelivered message\r\n\
                 Content-Type: message/rfc822\r\n\
                 Content-Transfer-Encoding: 8bit\r\n\r\n"
            }
            (Self::Headers(_), false) => {
                "Content-Description: Header section of the message\r\n\
                 Content-Type: text/rfc822-headers\r\n\r\n"
            }
            (Self::Headers(_), true) => {
                "Content-Description: Header section of the message\r\n\
                 Content-Type: text/rfc822-headers\r\n\
                 Content-Transfer-Encoding: 8bit\r\n\r\n"
            }
        }
    }
}

/// A boundary that no line of the original begins with.
pub(super) fn boundary(original: &Content, id: &str) -> String {
    let is_free = |boundary: &String| {
        let delimiter = format!("--{boundary}");
        !original
            .lines()
            .any(|line| line.starts_with(delimiter.as_bytes()))
    };
    let candidate = |number: u64| format!("=_report_{number}_{}", id.get(..40).unwrap_or(id));
    // Each line rules out one number at most, so one of these is free.
    (0..=original.stuffed_len())
        .map(candidate)
        .find(is_free)
        .unwrap_or_else(|| candidate(0))
}

fn headers(original: &Content, room: usize) -> Content {
    let mut out = Vec::new();
    for line in original.lines().take_while(|line| !line.is_empty()) {
        let line = line.get(..MAX_LINE).unwrap_or(&line);
        if out.len() + line.len() + 2 > room {
            break;
        }
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
    // It is made of lines of valid content, cut between octets that are not CR or LF.
    Content::from_raw(&out).unwrap_or_else(|_| content(""))
}

fn lines_fit(original: &Content) -> bool {
    original.lines().all(|line| line.len() <= MAX_LINE)
}

const MAX_WHOLE: usize = 50_000;
/// Enough for From, To, Subject and Message-ID.
const MIN_HEADERS: usize = 2_000;
/// RFC 5321 §4.5.3.1.6: 1000 octets with CRLF.
const MAX_LINE: usize = 998;
