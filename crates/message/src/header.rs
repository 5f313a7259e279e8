use smtp::{Content, EnhancedStatus, Reply, ReplyCode};

/// What a relay wants to know of a header section.
///
/// Lines that are no fields are passed over, as mail systems do: the header section ends at the
/// first empty line and nowhere else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderSection {
    has_date: bool,
    has_from: bool,
    message_id: Option<String>,
    received: usize,
    traceparent: Option<String>,
    starts_with_text: bool,
    is_complete: bool,
}

impl HeaderSection {
    /// Reads up to the first empty line, or the limit of 128 KiB.
    pub fn scan(content: &Content) -> Self {
        let mut section = Self::default();
        let mut octets = 0;
        let mut value_wanted = None;
        for (number, line) in content.lines().enumerate() {
            if line.is_empty() {
                section.is_complete = true;
                return section;
            }
            octets += line.len() + 2;
            if octets > MAX_SCANNED {
                return section;
            }
            if let [b' ' | b'\t', ..] = *line {
                // RFC 5322 §2.2.3: a folded line goes on.
                if let Some(value) = section.value(value_wanted) {
                    append(value, &line);
                }
                section.starts_with_text |= number == 0;
                continue;
            }
            value_wanted = match split_field(&line) {
                Some((name, value)) => section.field(name, value),
                None => {
                    // A line "From someone Tue ..." of an mbox file has come over with the message.
                    section.starts_with_text |= number == 0 && !line.starts_with(b"From ");
                    None
                }
            };
        }
        // No empty line at all: a message without a body.
        section.is_complete = true;
        section
    }

    /// Whether there is a `Date` field.
    pub fn has_date(&self) -> bool {
        self.has_date
    }

    /// Whether there is a `From` field.
    pub fn has_from(&self) -> bool {
        self.has_from
    }

    /// The value of the first `Message-ID` field, without white space around it. Whoever wrote
    /// the message chose it.
    pub fn message_id(&self) -> Option<&str> {
        self.message_id.as_deref()
    }

    /// How many `Received` fields there are: one for each system that had the message.
    pub fn received(&self) -> usize {
        self.received
    }

    /// The value of the first `traceparent` field.
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    /// Whether the message begins with a line that is no field: it has no header section, and
    /// anything put in front needs an empty line behind.
    pub fn starts_with_text(&self) -> bool {
        self.starts_with_text
    }

    /// Whether all of the header section was within the limit.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Tells a loop by the number of systems passed.
    ///
    /// # Errors
    ///
    /// [`TooManyHops`] over [`MAX_HOPS`].
    pub fn check_hops(&self) -> Result<(), TooManyHops> {
        if self.received > MAX_HOPS {
            Err(TooManyHops)
        } else {
            Ok(())
        }
    }

    /// Notes a field, and tells of which value a folded line would be a part.
    fn field(&mut self, name: &[u8], value: &[u8]) -> Option<Wanted> {
        let wanted = if name.eq_ignore_ascii_case(b"received") {
            self.received += 1;
            return None;
        } else if name.eq_ignore_ascii_case(b"date") {
            self.has_date = true;
            return None;
        } else if name.eq_ignore_ascii_case(b"from") {
            self.has_from = true;
            return None;
        } else if name.eq_ignore_ascii_case(b"message-id") {
            Wanted::MessageId
        } else if name.eq_ignore_ascii_case(b"traceparent") {
            Wanted::Traceparent
        } else {
            return None;
        };
        let slot = match wanted {
            Wanted::MessageId => &mut self.message_id,
            Wanted::Traceparent => &mut self.traceparent,
        };
        if slot.is_some() {
            return None;
        }
        append(slot.insert(String::new()), value);
        Some(wanted)
    }

    fn value(&mut self, wanted: Option<Wanted>) -> Option<&mut String> {
        match wanted? {
            Wanted::MessageId => self.message_id.as_mut(),
            Wanted::Traceparent => self.traceparent.as_mut(),
        }
    }
}

/// The message has passed so many systems that it is in a loop (RFC 5321 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message has passed more than {MAX_HOPS} mail systems")]
pub struct TooManyHops;

impl TooManyHops {
    /// What a client is answered.
    pub fn reply(self) -> Reply {
        let status = EnhancedStatus::permanent(4, 6);
        Reply::new(
            ReplyCode::TRANSACTION_FAILED,
            Some(status),
            "Too many hops, mail loops",
        )
    }
}

/// RFC 5321 §6.3 asks for a limit of at least 100 `Received` fields only where nothing better is
/// known; loops between two systems reach 50 as surely, with half the harm.
pub const MAX_HOPS: usize = 50;

#[derive(Clone, Copy)]
enum Wanted {
    MessageId,
    Traceparent,
}

/// RFC 5322 §2.2: a name of printable octets without a colon; §4.5.8 allows white space behind it.
fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|octet| *octet == b':')?;
    let (name, value) = line.split_at_checked(colon)?;
    let name = name.trim_ascii_end();
    let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    is_name.then_some((name, value.get(1..)?))
}

/// Adds a part of a value, unfolded, up to a bound far above any sensible value.
fn append(value: &mut String, part: &[u8]) {
    let part = String::from_utf8_lossy(part.trim_ascii());
    if part.is_empty() || value.len() + part.len() >= MAX_VALUE {
        return;
    }
    if !value.is_empty() {
        value.push(' ');
    }
    value.push_str(&part);
}

const MAX_SCANNED: usize = 128 * 1024;
const MAX_VALUE: usize = 998;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn scan(raw: &str) -> HeaderSection {
        HeaderSection::scan(&Content::from_raw(raw.as_bytes()).unwrap())
    }

    #[test]
    fn fields_of_interest() {
        let section = scan(
            "Received: from a\r\n\tby b; then\r\nRECEIVED: from c\r\ndate : Tue\r\n\
             From: a@example.org\r\nMessage-Id:\r\n <1@example.org>\r\n \
             \r\nTraceParent: 00-1\r\ntraceparent: 00-2\r\n\r\nReceived: no\r\nMessage-ID: no\r\n",
        );
        assert!(section.has_date() && section.has_from() && section.is_complete());
        assert!(!section.starts_with_text());
        assert_eq!(section.received(), 2);
        assert_eq!(section.message_id(), Some("<1@example.org>"));
        assert_eq!(section.traceparent(), Some("00-1"));
    }

    #[test]
    fn odd_beginnings() {
        let check = |raw: &str, starts_with_text: bool, has_from: bool| {
            let section = scan(raw);
            assert_eq!(
                (
                    section.starts_with_text(),
                    section.has_from(),
                    section.is_complete()
                ),
                (starts_with_text, has_from, true),
                "{raw:?}"
            );
        };
        check("", false, false);
        check("\r\nbody\r\n", false, false);
        check("Hello,\r\n\r\nFrom: x\r\n", true, false);
        check(" folded\r\nFrom: x\r\n", true, true);
        check("From someone Tue Nov 24\r\nFrom: x\r\n\r\n", false, true);
        check(
            "Subject: x\r\nno field at all\r\nFrom: x\r\n\r\n",
            false,
            true,
        );
        check("..dots\r\nFrom: x\r\n\r\n", true, true);
        check(": no name\r\n\r\n", true, false);
        check("From: x", false, true);
    }

    #[test]
    fn any_slicing_reads_the_same() {
        let raw = "Subject: x\r\nMessage-ID: <a@b>\r\n.Dot: x\r\nFrom: y\r\n\r\nDate: no\r\n";
        let whole = scan(raw);
        assert_eq!(whole.message_id(), Some("<a@b>"));
        let stuffed = Content::from_raw(raw.as_bytes())
            .unwrap()
            .into_chunks()
            .concat();
        for at in 0..stuffed.len() {
            let chunks = [&stuffed[..at], &stuffed[at..]].map(Bytes::copy_from_slice);
            let content = Content::from_stuffed(chunks).unwrap();
            assert_eq!(HeaderSection::scan(&content), whole, "split at {at}");
        }
    }

    #[test]
    fn endless_header_sections_are_given_up() {
        let section = scan(&format!(
            "{}From: x\r\n\r\n",
            "X-Filler: x\r\n".repeat(20_000)
        ));
        assert!(!section.is_complete() && !section.has_from());
    }

    #[test]
    fn values_are_bounded() {
        let section = scan(&format!(
            "Message-ID: <a@b>\r\n{}\r\n",
            " y\r\n".repeat(10_000)
        ));
        assert!(section.message_id().unwrap().len() < MAX_VALUE);
    }

    #[test]
    fn loops_are_told_by_their_length() {
        let hops = |count| scan(&format!("{}\r\n", "Received: x\r\n".repeat(count))).check_hops();
        assert_eq!(hops(50), Ok(()));
        assert_eq!(hops(51), Err(TooManyHops));
        assert_eq!(
            TooManyHops.reply().to_string(),
            "554 5.4.6 Too many hops, mail loops"
        );
    }
}
