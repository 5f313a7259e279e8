use bytes::{BufMut, BytesMut};

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
