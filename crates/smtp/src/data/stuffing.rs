use bytes::{BufMut, BytesMut};

/// Takes dot-stuffing off content that comes in pieces.
#[derive(Clone, Debug)]
pub struct Unstuffing {
    at_line_start: bool,
}

impl Default for Unstuffing {
    fn default() -> Self {
        Self {
            at_line_start: true,
        }
    }
}

impl Unstuffing {
    /// The next slice of the message at the front of `stuffed`, taken off it; `None` at its end. Further
    /// pieces may follow, cut anywhere.
    pub fn next_slice<'a>(&mut self, stuffed: &mut &'a [u8]) -> Option<&'a [u8]> {
        if self.at_line_start
            && let Some(rest) = stuffed.strip_prefix(b".")
        {
            *stuffed = rest;
            self.at_line_start = false;
        }
        if stuffed.is_empty() {
            return None;
        }
        let end = memchr::memmem::find(stuffed, b"\n.").map(|found| found + 1);
        let (slice, rest) = stuffed.split_at_checked(end.unwrap_or(stuffed.len()))?;
        *stuffed = rest;
        self.at_line_start = slice.ends_with(b"\n");
        Some(slice)
    }
}

/// Writes content dot-stuffed (RFC 5321 §4.5.2): a dot at the front of a line is doubled.
///
/// It does not judge line ends; [`Content`](super::Content) does.
#[derive(Clone, Debug)]
pub struct DotStuffing {
    at_line_start: bool,
}

impl Default for DotStuffing {
    fn default() -> Self {
        Self {
            at_line_start: true,
        }
    }
}

impl DotStuffing {
    /// Writes further octets, which may begin and end anywhere in a line.
    pub fn write(&mut self, raw: &[u8], out: &mut BytesMut) {
        let mut rest = raw;
        while let Some(first) = rest.first() {
            if self.at_line_start && *first == b'.' {
                out.put_u8(b'.');
            }
            let end = memchr::memmem::find(rest, b"\n.").map_or(rest.len(), |found| found + 1);
            let (slice, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            out.put_slice(slice);
            self.at_line_start = slice.ends_with(b"\n");
            rest = behind;
        }
    }
}
