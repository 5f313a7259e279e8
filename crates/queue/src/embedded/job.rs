//! What waits to be written, and who waits for it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::id::{Call, Handle, MessageId, QueueId};
use crate::model::Change;
use crate::operation::{Aborted, Acted, Next, NextReply, Resolved, Taken};
use crate::queue::QueueError;
use crate::record::NewMessage;

/// A message on its way to the file.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) id: MessageId,
    pub(super) lifetime_ms: u64,
    pub(super) prefix: Bytes,
    pub(super) content: Vec<Bytes>,
    /// How many chunks hold the content instead.
    pub(super) chunks: u32,
    pub(super) queues: Vec<QueueId>,
}

impl Incoming {
    pub(super) fn new(message: &NewMessage) -> Result<Self, QueueError> {
        let prefix = message
            .prefix()
            .map_err(|error| QueueError::Conflict(error.to_string()))?;
        Ok(Self {
            id: message.id,
            lifetime_ms: message.header.lifetime_ms,
            prefix,
            content: message.content.clone(),
            chunks: message.header.body.chunks,
            queues: message
                .header
                .tasks
                .iter()
                .map(|task| task.queue.clone())
                .collect(),
        })
    }

    pub(super) fn has_chunks(&self) -> bool {
        self.chunks > 0
    }

    pub(super) fn content_length(&self) -> usize {
        self.content.iter().map(Bytes::len).sum()
    }
}

/// One line of what has happened in memory and is to be written, in this order. Every transaction
/// takes all of it, so what one step has added is never written by halves.
#[derive(Debug)]
pub(super) enum Entry {
    Change(Change),
    /// A notification: the step that wrote it also wrote the end of its cause.
    Record(Arc<Incoming>),
}

/// Who waits for the thread, in order.
#[derive(Debug)]
pub(super) enum Job {
    Enqueue {
        messages: Vec<Incoming>,
        reply: Reply<()>,
    },
    /// Its settlements are in the log; the rest of the call follows when that is written.
    Next {
        next: Next,
        stale: Vec<u32>,
        notifications: Vec<Arc<Incoming>>,
        reply: Reply<Taken<NextReply>>,
    },
    /// What it has done is in the log; the answer follows when that is written.
    Act {
        acted: Vec<Acted>,
        notices: Vec<Arc<Incoming>>,
        reply: Reply<Vec<Acted>>,
    },
    /// Behind the enqueue it takes back.
    Abort {
        call: Call,
        message: MessageId,
        handles: Vec<Handle>,
        reply: Reply<Aborted>,
    },
    /// Everything before it has been written.
    Flush { reply: Reply<()> },
    /// Behind the call it asks about.
    Resolve { call: Call, reply: Reply<Resolved> },
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, QueueError>>;
