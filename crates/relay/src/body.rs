//! What a record says of its content.

use aws_lc_rs::digest;
use queue::record::{Body, Form};
use smtp::Content;

/// `content` as it is stored: dot-stuffed, in the form it is sent in.
pub(crate) fn describe(content: &Content) -> Body {
    Body {
        form: Form::DotStuffed,
        stored: content.stuffed_len(),
        size: content.raw_len(),
        sha256: sha256(content),
        eight_bit: content.has_8bit(),
        chunks: 0,
    }
}

/// Of the message itself, without dot-stuffing: the same however it came.
fn sha256(content: &Content) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for slice in content.raw_slices() {
        context.update(slice);
    }
    let mut text = String::with_capacity(64);
    for octet in context.finish().as_ref() {
        for digit in [octet >> 4, octet & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
    text
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
        assert_eq!(describe(&content).sha256, expected);
    }
}
