//! What a server answers, as texts, and its refusals as errors.

use redis::{ServerError, Value};

use crate::queue::QueueError;

/// A string, however it was sent.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(octets) => Some(String::from_utf8_lossy(octets).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        Value::Okay => Some("OK".to_owned()),
        _ => None,
    }
}

/// A refusal as the server wrote it.
pub(super) fn refusal_text(error: &ServerError) -> String {
    match error.details() {
        Some(details) => format!("{} {details}", error.code()),
        None => error.code().to_owned(),
    }
}

/// The server's own refusals are made before it executes anything.
pub(super) fn refusal(text: String) -> QueueError {
    match text.split_once(' ').map_or(text.as_str(), |(code, _)| code) {
        "OOM" => QueueError::Full(text),
        "MISCONF" | "NOREPLICAS" => QueueError::NotDurable(text),
        // Of another server than the one that has the queue now, or of one that is not ready.
        "ASK" | "BUSY" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "MOVED" | "NOAUTH"
        | "READONLY" | "TRYAGAIN" => QueueError::Unreachable(text),
        _ => QueueError::Protocol(text),
    }
}

pub(super) fn unexpected(command: &str, reply: &Value) -> QueueError {
    QueueError::Protocol(format!("{command} answered {reply:?}"))
}
