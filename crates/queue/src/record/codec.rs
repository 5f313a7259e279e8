//! Octets of a record. What comes from the store is never trusted: versions, lengths and bounds are
//! checked before anything is allocated for them.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Header, NewMessage, Record};
use crate::queue::RecordError;

/// The version this program writes, and the only one so far that it reads.
pub const VERSION: u8 = 1;
/// Octets before the header: version and header length.
pub const FIXED: usize = 5;
/// Longest header in octets; as many recipients as may be with the longest addresses fit.
pub const MAX_HEADER: usize = 32 * 1024 * 1024;

/// What the first octets of a record tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Prefix {
    Header(Box<Header>),
    /// This many octets from the beginning hold the whole header.
    Needs(usize),
}

impl NewMessage {
    /// Everything of the record that stands before the content.
    ///
    /// # Errors
    /// As [`Header::prefix`], and [`RecordError::Length`] when the content is not as long as the
    /// header says.
    pub fn prefix(&self) -> Result<Bytes, RecordError> {
        if self
            .content
            .iter()
            .map(|slice| slice.len() as u64)
            .sum::<u64>()
            != self.header.body.inline()
        {
            return Err(RecordError::Length(
                "content differs from the length in the header",
            ));
        }
        self.header.prefix()
    }
}

impl Header {
    /// Version, length and header.
    ///
    /// # Errors
    /// When it could not be read back: [`RecordError::Length`] if it is longer than
    /// [`MAX_HEADER`], [`RecordError::Header`] if it has too many tasks or recipients, or none.
    pub fn prefix(&self) -> Result<Bytes, RecordError> {
        self.check()?;
        let mut octets = BytesMut::with_capacity(512);
        octets.put_u8(VERSION);
        octets.put_u32(0);
        let mut writer = octets.writer();
        serde_json::to_writer(&mut writer, self)
            .map_err(|error| RecordError::Header(error.to_string()))?;
        let mut octets = writer.into_inner();
        let length = octets.len() - FIXED;
        if length > MAX_HEADER {
            return Err(RecordError::Length(
                "header is longer than this program reads",
            ));
        }
        octets[1..FIXED].copy_from_slice(&(length as u32).to_be_bytes());
        Ok(octets.freeze())
    }

    /// Reads the header from the first octets of a record, or says how many it needs.
    ///
    /// # Errors
    /// As [`Record::decode`]; the content is not looked at.
    pub fn decode_prefix(octets: &[u8]) -> Result<Prefix, RecordError> {
        let Some((fixed, rest)) = octets.split_first_chunk::<FIXED>() else {
            return Ok(Prefix::Needs(FIXED));
        };
        let [version, length @ ..] = *fixed;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_HEADER {
            return Err(RecordError::Length(
                "header is longer than this program reads",
            ));
        }
        let Some(json) = rest.get(..length) else {
            return Ok(Prefix::Needs(FIXED + length));
        };
        let header: Self =
            serde_json::from_slice(json).map_err(|error| RecordError::Header(error.to_string()))?;
        header.check()?;
        Ok(Prefix::Header(Box::new(header)))
    }

    /// Reads the header from all octets of a record there are.
    pub(crate) fn decode_whole(octets: &[u8]) -> Result<Self, RecordError> {
        match Self::decode_prefix(octets)? {
            Prefix::Header(header) => Ok(*header),
            Prefix::Needs(_) => Err(RecordError::Length("cut short within the header")),
        }
    }

    fn check(&self) -> Result<(), RecordError> {
        if !self.body.is_consistent() {
            return Err(RecordError::Length(
                "the number of chunks is not that of the octets",
            ));
        }
        // Ordinals of tasks and recipients are 16-bit.
        let bound = usize::from(u16::MAX);
        if self.tasks.is_empty() || self.tasks.len() > bound {
            return Err(RecordError::Header("no tasks, or too many".into()));
        }
        if self
            .tasks
            .iter()
            .any(|task| task.recipients.is_empty() || task.recipients.len() > bound)
        {
            return Err(RecordError::Header(
                "a task without recipients, or with too many".into(),
            ));
        }
        Ok(())
    }
}

impl Record {
    /// Reads a record; the content stays a slice of `octets`.
    ///
    /// # Errors
    /// [`RecordError::Version`] for a version that is not [`VERSION`], [`RecordError::Length`]
    /// when lengths contradict each other, [`RecordError::Header`] when the header is not one.
    pub fn decode(octets: Bytes) -> Result<Self, RecordError> {
        let header = Header::decode_whole(&octets)?;
        let length: [u8; 4] = octets[1..FIXED]
            .try_into()
            .map_err(|_| RecordError::Length("header length"))?;
        let content = octets.slice(FIXED + u32::from_be_bytes(length) as usize..);
        if content.len() as u64 != header.body.inline() {
            return Err(RecordError::Length(
                "content differs from the length in the header",
            ));
        }
        let content = if content.is_empty() {
            Vec::new()
        } else {
            vec![content]
        };
        Ok(Self { header, content })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::MessageId;
    use crate::record::{Body, Form, Recipient, Task};

    fn message(content: &[&'static [u8]]) -> NewMessage {
        let content: Vec<Bytes> = content
            .iter()
            .map(|slice| Bytes::from_static(slice))
            .collect();
        let stored = content.iter().map(|slice| slice.len() as u64).sum();
        NewMessage {
            id: MessageId::new(1, [1; 10]),
            header: Header {
                reverse_path: "a@example.org".into(),
                tenant: "t".into(),
                received_unix_ms: 1,
                lifetime_ms: 2,
                trace: None,
                accepted_by: String::new(),
                tasks: vec![Task {
                    queue: "t|||mx:example.net".parse().unwrap(),
                    recipients: vec![Recipient {
                        address: "b@example.net".into(),
                    }],
                }],
                body: Body {
                    form: Form::DotStuffed,
                    stored,
                    size: stored,
                    sha256: "00".into(),
                    eight_bit: false,
                    chunks: 0,
                },
            },
            content,
        }
    }

    fn octets(message: &NewMessage) -> Vec<u8> {
        let mut octets = message.prefix().unwrap().to_vec();
        message
            .content
            .iter()
            .for_each(|slice| octets.extend_from_slice(slice));
        octets
    }

    #[test]
    fn written_and_read_back() {
        for content in [&[][..], &[&b"Subject: x\r\n"[..], b"\r\nbody\r\n"][..]] {
            let message = message(content);
            let record = Record::decode(octets(&message).into()).unwrap();
            assert_eq!(record.header, message.header);
            assert_eq!(record.content.concat(), message.content.concat());
        }
    }

    #[test]
    fn content_in_chunks_is_not_in_the_record() {
        let mut message = message(&[]);
        (message.header.body.stored, message.header.body.chunks) = (600 << 10, 2);
        let record = Record::decode(octets(&message).into()).unwrap();
        assert_eq!(record.header, message.header);
        assert!(record.content.is_empty());
    }

    #[test]
    fn header_is_read_from_a_prefix() {
        let message = message(&[b"content"]);
        let all = octets(&message);
        assert_eq!(Header::decode_prefix(&all[..3]), Ok(Prefix::Needs(FIXED)));
        let Ok(Prefix::Needs(needs)) = Header::decode_prefix(&all[..FIXED]) else {
            panic!()
        };
        assert_eq!(needs, all.len() - b"content".len());
        assert_eq!(
            Header::decode_prefix(&all[..needs]),
            Ok(Prefix::Header(Box::new(message.header)))
        );
    }

    #[test]
    fn contradictions_are_refused() {
        let check = |change: &dyn Fn(&mut Vec<u8>), expected: fn(&RecordError) -> bool| {
            let mut octets = octets(&message(&[b"content"]));
            change(&mut octets);
            let error = Record::decode(octets.into()).unwrap_err();
            assert!(expected(&error), "{error}");
        };
        check(&|octets| octets[0] = 2, |error| {
            *error == RecordError::Version(2)
        });
        check(&|octets| octets.push(0), |error| {
            matches!(error, RecordError::Length(_))
        });
        check(&|octets| octets.truncate(20), |error| {
            matches!(error, RecordError::Length(_))
        });
        check(&|octets| octets.clear(), |error| {
            matches!(error, RecordError::Length(_))
        });
        check(&|octets| octets[1] = 0xff, |error| {
            matches!(error, RecordError::Length(_))
        });
        check(&|octets| octets[FIXED] = b'x', |error| {
            matches!(error, RecordError::Header(_))
        });
        for (stored, chunks) in [(3, 0), (7, 1), (7, 2), (u64::MAX, u32::MAX)] {
            let mut wrong = message(&[b"content"]);
            (wrong.header.body.stored, wrong.header.body.chunks) = (stored, chunks);
            assert!(matches!(wrong.prefix(), Err(RecordError::Length(_))));
        }
        let mut none = octets(&message(&[]));
        let header = String::from_utf8(none.split_off(FIXED)).unwrap();
        let (before, after) = header.split_once("{\"queue").unwrap();
        let (_, after) = after.split_once("}]}").unwrap();
        let header = [before, after].concat();
        none[1..].copy_from_slice(&(header.len() as u32).to_be_bytes());
        none.extend_from_slice(header.as_bytes());
        let error = Record::decode(none.into()).unwrap_err();
        assert!(
            matches!(&error, RecordError::Header(why) if why.contains("tasks")),
            "{error}"
        );
    }

    #[test]
    fn what_is_written_can_be_read_back() {
        let with = |recipients: usize, tasks: usize| {
            let mut message = message(&[]);
            let [task] = message.header.tasks.as_mut_slice() else {
                panic!()
            };
            let address = format!("{}@{}", "l".repeat(64), "d".repeat(255));
            task.recipients = vec![Recipient { address }; recipients];
            message.header.tasks = vec![task.clone(); tasks];
            message
        };
        for (recipients, tasks) in [(65_536, 1), (1, 65_536), (0, 1), (1, 0)] {
            let refused = with(recipients, tasks).prefix();
            assert!(
                matches!(refused, Err(RecordError::Header(_))),
                "{recipients} recipients of {tasks} tasks: {refused:?}"
            );
        }
        for (recipients, tasks) in [(65_535, 1), (1, 50_000)] {
            let message = with(recipients, tasks);
            let record = Record::decode(octets(&message).into()).unwrap();
            assert_eq!(record.header, message.header);
        }
    }

    #[test]
    fn fields_of_a_newer_writer_are_ignored() {
        let mut json = serde_json::to_value(message(&[]).header).unwrap();
        json["later"] = 1.into();
        let json = serde_json::to_vec(&json).unwrap();
        let mut octets = vec![VERSION];
        octets.extend_from_slice(&(json.len() as u32).to_be_bytes());
        octets.extend_from_slice(&json);
        assert_eq!(
            Record::decode(octets.into()).unwrap().header,
            message(&[]).header
        );
    }

    proptest! {
        #[test]
        fn hostile_octets_never_panic(octets: Vec<u8>, fixed: bool) {
            let mut octets = octets;
            if fixed && octets.len() >= FIXED {
                octets[..3].copy_from_slice(&[VERSION, 0, 0]);
            }
            let _ = Header::decode_prefix(&octets);
            let _ = Record::decode(octets.into());
        }

        #[test]
        fn changed_octets_never_panic(at: prop::sample::Index, octet: u8, cut: prop::sample::Index) {
            let mut octets = octets(&message(&[b"content"]));
            let index = at.index(octets.len());
            octets[index] = octet;
            octets.truncate(cut.index(octets.len() + 1));
            let _ = Record::decode(octets.into());
        }
    }
}
