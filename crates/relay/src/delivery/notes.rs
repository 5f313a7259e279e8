//! What the queue keeps of a task's failed attempts, for the notification at its end.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smtp::EnhancedStatus;

/// The last word on each recipient that is still open. Written by one pod, read by another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Notes {
    /// When the task was first tried.
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    /// The sender has been told that the message is late.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) delay_told: bool,
    /// Recipients that got the same answer share an entry.
    pub(crate) answers: Vec<Answer>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Answer {
    pub(crate) recipients: Vec<u16>,
    pub(crate) status: String,
    pub(crate) text: String,
    /// Whether `text` is what a peer replied.
    pub(crate) is_reply: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
}

impl Notes {
    /// Reads what an earlier attempt wrote. What cannot be read is worth nothing more.
    pub(crate) fn read(octets: &[u8]) -> Self {
        serde_json::from_slice(octets).unwrap_or_default()
    }

    /// Adds what `recipient` was told last.
    pub(crate) fn add(
        &mut self,
        recipient: u16,
        status: EnhancedStatus,
        text: &str,
        is_reply: bool,
        host: Option<&str>,
    ) {
        let text = &text[..text.floor_char_boundary(MAX_TEXT)];
        let status = status.to_string();
        let same = self.answers.iter_mut().find(|answer| {
            answer.status == status
                && answer.text == text
                && answer.host.as_deref() == host
                && answer.is_reply == is_reply
        });
        match same {
            Some(answer) => answer.recipients.push(recipient),
            None => self.answers.push(Answer {
                recipients: vec![recipient],
                status,
                text: text.to_owned(),
                is_reply,
                host: host.map(str::to_owned),
            }),
        }
    }

    /// Their stored form, within the queue's bound: the longest lists lose their texts first.
    pub(crate) fn write(&mut self) -> Bytes {
        loop {
            // Numbers, strings and lists of them always have a JSON form.
            let octets = serde_json::to_vec(self).unwrap_or_default();
            if octets.len() <= MAX_OCTETS || self.answers.is_empty() {
                return octets.into();
            }
            self.answers.pop();
        }
    }

    pub(crate) fn answer(&self, recipient: u16) -> Option<&Answer> {
        self.answers
            .iter()
            .find(|answer| answer.recipients.contains(&recipient))
    }
}

const MAX_OCTETS: usize = 16 << 10;
const MAX_TEXT: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_by_recipient_and_shared() {
        let mut notes = Notes {
            first_ms: 1,
            last_ms: 2,
            delay_told: false,
            answers: Vec::new(),
        };
        let busy = EnhancedStatus::transient(2, 0);
        notes.add(0, busy, "450 4.2.0 busy", true, Some("mx.example"));
        notes.add(3, busy, "450 4.2.0 busy", true, Some("mx.example"));
        notes.add(4, busy, "450 4.2.0 busy", true, None);
        let read = Notes::read(&notes.write());
        assert_eq!(read, notes);
        assert_eq!(read.answers.len(), 2);
        assert_eq!(read.answer(3).unwrap().host.as_deref(), Some("mx.example"));
        assert_eq!(read.answer(9), None);
    }

    #[test]
    fn they_are_bounded_and_rubbish_is_none() {
        let mut notes = Notes::default();
        for recipient in 0..1000 {
            let text = format!("450 {recipient} {}", "é".repeat(400));
            notes.add(
                recipient,
                EnhancedStatus::transient(0, 0),
                &text,
                true,
                None,
            );
        }
        let written = notes.write();
        assert!(written.len() <= MAX_OCTETS);
        assert!(Notes::read(&written).answer(0).is_some());
        assert_eq!(Notes::read(b"\xff{"), Notes::default());
        assert_eq!(Notes::read(b""), Notes::default());
    }
}
