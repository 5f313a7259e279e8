//! The stored message: `m:<mid>` = version octet, header length (u32 big-endian), header (JSON),
//! content exactly as the descriptor says. Versioned and length-checked; never trusted.
//!
//! The content of a large message is not in its record: it is put aside in chunks while it arrives
//! ([`Queue::stage`](crate::Queue::stage)), and the record says how many there are.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{MessageId, QueueId};

mod body;
mod codec;

pub use body::{Body, CHUNK, ChunkError, Form, INLINE};
pub use codec::{FIXED, MAX_HEADER, Prefix, VERSION};

/// A message on its way into the queue.
#[derive(Clone, Debug)]
pub struct NewMessage {
    pub id: MessageId,
    pub header: Header,
    /// The content in the form the header's body descriptor names, in slices as received; nothing
    /// where that is in chunks.
    pub content: Vec<Bytes>,
}

/// A message read back.
#[derive(Clone, Debug)]
pub struct Record {
    pub header: Header,
    /// Nothing where the content is in chunks.
    pub content: Vec<Bytes>,
}

/// Everything about the message but its content. Unknown fields are ignored, so that a newer
/// writer may add some within one version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// RFC 5321 reverse-path without angle brackets; empty is the null reverse-path.
    pub reverse_path: String,
    pub tenant: String,
    /// When it was accepted, by the accepting pod's clock (for trace fields and notices only).
    pub received_unix_ms: u64,
    /// How long it may stay in the queue.
    pub lifetime_ms: u64,
    /// `traceparent` of the span that enqueued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Whose work accepted it: pod name or host, for logs and spans.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub accepted_by: String,
    pub tasks: Vec<Task>,
    pub body: Body,
}

/// One recipient domain by one route. Its ordinal is its index in [`Header::tasks`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// A [`QueueId`] in its written form.
    pub queue: QueueId,
    /// Recipients are named by their index here in every settlement.
    pub recipients: Vec<Recipient>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recipient {
    /// RFC 5321 forward-path mailbox, without angle brackets and source route.
    pub address: String,
}

/// Mutable state of a task: absent until its first deferral, take-over or hold.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct TaskState {
    /// Begun attempts that ended in a deferral.
    pub attempts: u32,
    /// Begun by an owner that did not settle it: its dot checks ask the back end.
    pub reclaimed_begun: bool,
    /// Recipients (by index) that already have an outcome, and which.
    pub resolved: Vec<(u16, Resolution)>,
    /// The worker's own notes (JSON: first try, last reply per recipient), opaque here, <= 16 KiB.
    pub notes: Bytes,
    /// Why it is held; of a claimed task: why it will be when its claim ends.
    pub hold: Option<String>,
    /// It ends with its claim, whatever becomes of that.
    pub dropped: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolution {
    Delivered,
    Failed,
}
