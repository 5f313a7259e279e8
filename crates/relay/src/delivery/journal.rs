use jiff::Timestamp;
use queue::id::{MessageId, TaskId};
use serde::Serialize;

/// What an attempt made of a task, as the journal of outcomes has it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JournalLine<'a> {
    pub(super) at: Timestamp,
    pub(super) message: MessageId,
    pub(super) task: TaskId,
    pub(super) tenant: &'a str,
    /// Reverse-path; empty for a notification.
    pub(super) sender: &'a str,
    pub(super) attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trace_id: Option<String>,
    pub(super) recipients: Vec<JournalRecipient<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JournalRecipient<'a> {
    pub(super) address: &'a str,
    /// `delivered`, `deferred`, `failed` or `expired`.
    pub(super) outcome: &'static str,
    /// Enhanced status code (RFC 3463).
    pub(super) status: String,
    pub(super) reply: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<&'a str>,
}

impl JournalLine<'_> {
    pub(super) fn write(&self) -> bytes::Bytes {
        // Nothing in it can fail to be written: no maps, no foreign types.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}
