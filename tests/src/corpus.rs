//! Messages as a function of run and index, and the digest by which they are compared.

use sha2::{Digest, Sha256};

/// The header field that carries a message's id through everything.
pub const ID_FIELD: &str = "X-Kurier-Test-Id";

/// One message of the corpus, in raw form (not dot-stuffed), as an application would hold it.
pub struct Message {
    pub id: String,
    pub raw: Vec<u8>,
    pub eight_bit: bool,
}

impl Message {
    /// Message `index` of `run`: a dozen shapes that have broken mail systems, and plain text
    /// between 1 kB and 250 kB for the rest.
    pub fn new(run: &str, index: u32, traceparent: Option<&str>, headers: &str) -> Self {
        Self::of(run, index, body(run, index), traceparent, headers)
    }

    /// As [`Message::new`], but mostly a few kilobytes of plain text: for runs of very many.
    pub fn small(run: &str, index: u32) -> Self {
        let shaped = match index % 64 {
            // The largest of the shapes is for few.
            7 => index % 1024 == 7,
            shape => shape < 7,
        };
        let body = if shaped {
            body(run, index)
        } else {
            let mut noise = Noise::of(run, index);
            let size = 200 + noise.below(6_000);
            ("text", noise.text(size))
        };
        Self::of(run, index, body, None, "")
    }

    fn of(
        run: &str,
        index: u32,
        (shape, body): (&str, Vec<u8>),
        traceparent: Option<&str>,
        headers: &str,
    ) -> Self {
        let id = format!("{run}-{index}");
        let mut raw = format!(
            "From: Load <load@example.com>\r\nTo: <sink@receiver.example>\r\n\
             Subject: {shape} {index}\r\n{ID_FIELD}: {id}\r\n"
        );
        if let Some(traceparent) = traceparent {
            raw.push_str(&format!("traceparent: {traceparent}\r\n"));
        }
        raw.push_str(headers);
        raw.push_str("\r\n");
        let eight_bit = body.iter().any(|octet| *octet > 127);
        let mut raw = raw.into_bytes();
        raw.extend_from_slice(&body);
        Self { id, raw, eight_bit }
    }

    /// What must arrive: everything after the first blank line, with the final line ended.
    pub fn digest(&self) -> String {
        let mut wire = self.raw.clone();
        end_line(&mut wire);
        body_digest(&wire)
    }

    /// The message as DATA carries it: dot-stuffed, with the terminating dot line.
    pub fn wire(&self) -> Vec<u8> {
        let mut raw = self.raw.clone();
        end_line(&mut raw);
        let mut wire = Vec::with_capacity(raw.len() + 64);
        for line in raw.split_inclusive(|octet| *octet == b'\n') {
            if line.first() == Some(&b'.') {
                wire.push(b'.');
            }
            wire.extend_from_slice(line);
        }
        wire.extend_from_slice(b".\r\n");
        wire
    }
}

/// RFC 5321 §4.1.1.4: content that does not end in CRLF gets one before the dot.
fn end_line(raw: &mut Vec<u8>) {
    if !raw.ends_with(b"\r\n") {
        raw.extend_from_slice(b"\r\n");
    }
}

fn body(run: &str, index: u32) -> (&'static str, Vec<u8>) {
    let mut noise = Noise::of(run, index);
    match index % 16 {
        0 => (
            "leading dots",
            b"..\r\n.\r\n...\r\n.a\r\n\r\n.\r\n".to_vec(),
        ),
        1 => {
            let mut body = "Grüße aus Köln, 漢字, ∑\r\n".as_bytes().to_vec();
            body.extend_from_slice(b"\xff\xfe\x80\r\n");
            ("8-bit", body)
        }
        2 => {
            let mut body = Vec::new();
            for _ in 0..20 {
                body.extend(std::iter::repeat_n(b'x', 998));
                body.extend_from_slice(b"\r\n");
            }
            // The stuffed dot makes this line 999 octets on the wire, which RFC 5321 §4.5.2 allows.
            body.push(b'.');
            body.extend(std::iter::repeat_n(b'y', 997));
            body.extend_from_slice(b"\r\n");
            ("998-octet lines", body)
        }
        3 => ("empty body", Vec::new()),
        4 => ("missing final CRLF", b"the last line has no end".to_vec()),
        5 => ("only a dot", b".\r\n".to_vec()),
        6 => ("white space", b" \r\n\t\r\n   \r\n\r\n\r\n".to_vec()),
        7 => ("250 kB", noise.text(250_000)),
        _ => {
            let size = 1_000 + noise.below(40_000);
            ("text", noise.text(size))
        }
    }
}

/// SHA-256 (hex) of everything after the first blank line of a raw message.
pub fn body_digest(raw: &[u8]) -> String {
    let start = raw
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map_or(raw.len(), |at| at + 4);
    Sha256::digest(&raw[start..])
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect()
}

/// Value of a header field, if the message has it.
pub fn field<'a>(raw: &'a [u8], name: &str) -> Option<&'a str> {
    let end = raw
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or(raw.len());
    std::str::from_utf8(&raw[..end])
        .ok()?
        .split("\r\n")
        .find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
}

/// A small deterministic generator (splitmix64): the corpus is data, not chance.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn of(run: &str, index: u32) -> Self {
        let seed = run.bytes().fold(u64::from(index) + 1, |seed, octet| {
            seed.wrapping_mul(0x0100_0000_01b3) ^ u64::from(octet)
        });
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.next() % bound).expect("below a small bound")
    }

    fn text(&mut self, size: impl TryInto<usize>) -> Vec<u8> {
        let size = size.try_into().unwrap_or(0);
        let mut body = Vec::with_capacity(size + 80);
        while body.len() < size {
            let length = 1 + self.below(76);
            for _ in 0..length {
                // Printable US-ASCII, dots at line starts included.
                body.push(b' ' + u8::try_from(self.next() % 95).expect("below 95"));
            }
            body.extend_from_slice(b"\r\n");
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::{Message, body_digest, field};

    #[test]
    fn wire_form_unstuffs_to_what_the_digest_names() {
        for index in 0..32 {
            let message = Message::new("self", index, None, "");
            let wire = message.wire();
            let content = wire.strip_suffix(b".\r\n").expect("ends with the dot line");
            let raw: Vec<u8> = content
                .split_inclusive(|octet| *octet == b'\n')
                .flat_map(|line| line.strip_prefix(b".").unwrap_or(line).to_vec())
                .collect();
            assert_eq!(body_digest(&raw), message.digest(), "message {index}");
            assert_eq!(field(&raw, super::ID_FIELD), Some(message.id.as_str()));
        }
    }
}
