//! Tasks and messages as they are shown.

use jiff::Timestamp;
use queue::RecordError;
use queue::operation::{Place, Seen};
use queue::record::{Header, Resolution};
use serde::Serialize;

use super::Found;
use crate::delivery::notes::Notes;

/// A task, and what its message says of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::admin) struct TaskView {
    task: String,
    message: String,
    place: &'static str,
    /// Held, or due, for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    since_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_in_seconds: Option<u64>,
    /// Who has claimed it, and whether they have begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    begun: Option<bool>,
    tenant: String,
    route: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<String>,
    recipients: Vec<RecipientView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_reply: Option<String>,
    /// Why it is held, or will be when its claim ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    hold_reason: Option<String>,
    /// It ends with its claim.
    #[serde(skip_serializing_if = "is_not")]
    dropped: bool,
    /// Why its record cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecipientView {
    address: String,
    /// Absent while there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_reply: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
}

impl TaskView {
    pub(super) fn of(seen: &Seen, header: Option<&Result<Header, RecordError>>) -> Self {
        let (handle, state) = (&seen.handle, &seen.state);
        let notes = Notes::read(&state.notes);
        let (readable, unreadable) = match header {
            Some(Ok(header)) => (Some(header), None),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, None),
        };
        let task = readable.and_then(|header| header.tasks.get(usize::from(handle.task.ordinal)));
        let recipients = (0..).zip(task.into_iter().flat_map(|task| &task.recipients));
        let recipients = recipients
            .map(|(index, recipient)| {
                let answer = notes.answer(index);
                let outcome = state.resolved.iter().find(|(known, _)| *known == index);
                RecipientView {
                    address: recipient.address.clone(),
                    outcome: outcome.map(|(_, resolution)| match resolution {
                        Resolution::Delivered => "delivered",
                        Resolution::Failed => "failed",
                    }),
                    last_reply: answer.map(|answer| answer.text.clone()),
                    host: answer.and_then(|answer| answer.host.clone()),
                }
            })
            .collect();
        let (since, due_in, by) = match &seen.place {
            Place::Deferred { due_in } => (None, Some(*due_in), None),
            Place::Held { since } | Place::Ready { since } => (Some(*since), None, None),
            Place::InFlight { by, begun } => (None, None, Some((by, begun))),
        };
        Self {
            task: handle.task.to_string(),
            message: handle.task.message.to_string(),
            place: seen.place.name().as_str(),
            since_seconds: since.map(|since| since.as_secs()),
            due_in_seconds: due_in.map(|due_in| due_in.as_secs()),
            worker: by.map(|(worker, _)| worker.to_string()),
            begun: by.map(|(_, begun)| *begun),
            tenant: handle.queue.tenant.clone(),
            route: handle.queue.route.clone(),
            sender: readable.map(|header| header.reverse_path.clone()),
            recipients,
            received: readable.map(received),
            size: readable.map(|header| header.body.size),
            attempts: state.attempts,
            last_reply: notes.answers.first().map(|answer| answer.text.clone()),
            hold_reason: state.hold.clone(),
            dropped: state.dropped,
            unreadable,
        }
    }
}

/// A message with its tasks.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::admin) struct MessageView {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<Timestamp>,
    /// When it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_by: Option<String>,
    tasks: Vec<TaskView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
}

impl MessageView {
    pub(super) fn of(found: &Found) -> Self {
        let header = found.header.as_ref().ok();
        let tasks = found.tasks.iter();
        Self {
            message: found.message.to_string(),
            sender: header.map(|header| header.reverse_path.clone()),
            tenant: header.map(|header| header.tenant.clone()),
            received: header.map(received),
            expires: header.map(|header| {
                timestamp(header.received_unix_ms.saturating_add(header.lifetime_ms))
            }),
            size: header.map(|header| header.body.size),
            sha256: header.map(|header| header.body.sha256.clone()),
            trace: header.and_then(|header| header.trace.clone()),
            accepted_by: header.map(|header| header.accepted_by.clone()),
            tasks: tasks
                .map(|seen| TaskView::of(seen, Some(&found.header)))
                .collect(),
            unreadable: found.header.as_ref().err().map(ToString::to_string),
        }
    }
}

fn received(header: &Header) -> Timestamp {
    timestamp(header.received_unix_ms)
}

fn timestamp(unix_ms: u64) -> Timestamp {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_not(flag: &bool) -> bool {
    !*flag
}
