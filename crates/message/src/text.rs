//! Texts on their way into header fields and reports.

use jiff::Timestamp;
use smtp::Content;

/// A date of RFC 5322 §3.3, in UTC.
pub(crate) fn date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// `text` in printable ASCII, each other character replaced, and no longer than `max` octets.
pub(crate) fn printable(text: &str, max: usize) -> String {
    text.chars()
        .map(|c| {
            if c == ' ' || c.is_ascii_graphic() {
                c
            } else {
                '?'
            }
        })
        .take(max)
        .collect()
}

/// Like [`printable`], and nothing that could end an atom or a comment.
pub(crate) fn token(text: &str, max: usize) -> String {
    text.chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-._:".contains(*c))
        .take(max)
        .collect()
}

/// Appends `text` in lines of at most 72 characters behind `indent`, as far as its words allow.
pub(crate) fn wrap(out: &mut String, indent: &str, text: &str) {
    let mut width = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if width > 0 && width + 1 + word.len() <= WIDTH {
            out.push(' ');
            width += 1;
        } else {
            if width > 0 {
                out.push_str("\r\n");
            }
            out.push_str(indent);
            width = indent.len();
        }
        out.push_str(word);
        width += word.len();
    }
    if width > 0 {
        out.push_str("\r\n");
    }
}

/// Text written in this crate as content.
pub(crate) fn content(text: &str) -> Content {
    Content::from_raw(text.as_bytes())
        .expect("what is written here has lines that end in CRLF and no control characters")
}

const WIDTH: usize = 72;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(
            date(Timestamp::UNIX_EPOCH),
            "Thu, 01 Jan 1970 00:00:00 +0000"
        );
        let leap = "2028-02-29T23:59:59.9+01:00".parse().unwrap();
        assert_eq!(date(leap), "Tue, 29 Feb 2028 22:59:59 +0000");
    }

    #[test]
    fn cleaned() {
        assert_eq!(printable("a\r\nB: c\u{7f}é\0 d", 99), "a??B: c??? d");
        assert_eq!(printable("abc", 2), "ab");
        assert_eq!(token("TLS1.3 (a\r\n)", 99), "TLS1.3a");
    }

    #[test]
    fn wrapped() {
        let mut out = String::new();
        wrap(&mut out, "  ", &"word ".repeat(20));
        assert_eq!(
            out,
            format!(
                "  {}\r\n  {}\r\n",
                ["word"; 14].join(" "),
                ["word"; 6].join(" ")
            )
        );
        out.clear();
        wrap(&mut out, "  ", &"x".repeat(100));
        assert_eq!(out, format!("  {}\r\n", "x".repeat(100)));
        out.clear();
        wrap(&mut out, "  ", "  ");
        assert_eq!(out, "");
    }
}
