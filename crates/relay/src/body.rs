//! What a record says of its content.

use aws_lc_rs::digest;
use bytes::Bytes;
use queue::record::{Body, Form};
use smtp::Content;
use smtp::data::Unstuffing;

/// `content` as it is stored behind its header: dot-stuffed, in the form it is sent in.
pub(crate) fn describe(content: &Content) -> Body {
    let mut digest = Digest::default();
    content
        .raw_slices()
        .for_each(|slice| digest.0.update(slice));
    Body {
        form: Form::DotStuffed,
        stored: content.stuffed_len(),
        size: content.raw_len(),
        sha256: digest.finish(),
        eight_bit: content.has_8bit(),
        chunks: 0,
    }
}

/// Describes content of which only pieces are at hand, each for a moment.
#[derive(Clone, Default)]
pub(crate) struct Describing {
    digest: Digest,
    unstuffing: Unstuffing,
    stored: u64,
    size: u64,
    eight_bit: bool,
}

impl Describing {
    /// Takes note of the next piece, dot-stuffed and cut anywhere.
    pub(crate) fn add(&mut self, piece: &Bytes) {
        self.stored += piece.len() as u64;
        self.eight_bit |= !piece.is_ascii();
        let mut stuffed = &piece[..];
        while let Some(slice) = self.unstuffing.next_slice(&mut stuffed) {
            self.size += slice.len() as u64;
            self.digest.0.update(slice);
        }
    }

    /// Octets so far, as stored.
    pub(crate) fn stored(&self) -> u64 {
        self.stored
    }

    /// Of content in chunks.
    pub(crate) fn finish(self) -> Body {
        Body {
            form: Form::DotStuffed,
            stored: self.stored,
            size: self.size,
            sha256: self.digest.finish(),
            eight_bit: self.eight_bit,
            chunks: Body::chunks_of(self.stored),
        }
    }
}

/// SHA-256 of the message itself, without dot-stuffing: the same however it came.
#[derive(Clone)]
struct Digest(digest::Context);

impl Default for Digest {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Digest {
    fn finish(self) -> String {
        let mut text = String::with_capacity(64);
        for octet in self.0.finish().as_ref() {
            for digit in [octet >> 4, octet & 15] {
                text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_of_the_raw_form() {
        let content = Content::from_raw(b"Subject: x\r\n\r\n.dot\r\n").unwrap();
        assert_ne!(content.stuffed_len(), content.raw_len());
        let expected = digest::digest(&digest::SHA256, b"Subject: x\r\n\r\n.dot\r\n");
        let expected: String = expected
            .as_ref()
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect();
        let whole = describe(&content);
        assert_eq!(whole.sha256, expected);

        let stuffed = content.chunks().concat();
        for cut in 1..stuffed.len() {
            let mut describing = Describing::default();
            stuffed
                .chunks(cut)
                .for_each(|piece| describing.add(&Bytes::copy_from_slice(piece)));
            let body = describing.finish();
            assert_eq!(body.chunks, 1);
            assert_eq!(Body { chunks: 0, ..body }, whole, "cut {cut}");
        }
    }
}
