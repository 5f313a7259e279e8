//! Flat replies of scripts, read in order.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;

use super::reply::unexpected;
use crate::queue::QueueError;
use crate::record::{Resolution, TaskState};

pub(super) struct Fields {
    items: std::vec::IntoIter<Value>,
    script: &'static str,
}

impl Fields {
    pub(super) fn of(reply: Value, script: &'static str) -> Result<Self, QueueError> {
        match reply {
            Value::Array(items) => Ok(Self {
                items: items.into_iter(),
                script,
            }),
            other => Err(unexpected(script, &other)),
        }
    }

    pub(super) fn unexpected(&self, what: impl Display) -> QueueError {
        QueueError::Protocol(format!(
            "{} answered without {what} where it must be",
            self.script
        ))
    }

    pub(super) fn integer(&mut self) -> Result<i64, QueueError> {
        match self.items.next() {
            Some(Value::Int(number)) => Ok(number),
            Some(Value::BulkString(text)) => std::str::from_utf8(&text)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| self.unexpected("a number")),
            _ => Err(self.unexpected("a number")),
        }
    }

    pub(super) fn count(&mut self) -> Result<usize, QueueError> {
        usize::try_from(self.integer()?).map_err(|_| self.unexpected("a count"))
    }

    /// Negative is none.
    pub(super) fn milliseconds(&mut self) -> Result<Option<Duration>, QueueError> {
        Ok(u64::try_from(self.integer()?)
            .ok()
            .map(Duration::from_millis))
    }

    pub(super) fn octets(&mut self) -> Result<Bytes, QueueError> {
        match self.items.next() {
            Some(Value::BulkString(octets)) => Ok(octets.into()),
            _ => Err(self.unexpected("a string")),
        }
    }

    /// An id in its written form.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self) -> Result<T, QueueError> {
        let octets = self.octets()?;
        let text = std::str::from_utf8(&octets).map_err(|error| self.unexpected(error))?;
        text.parse().map_err(|error| {
            QueueError::Protocol(format!("{} answered {text:?}: {error}", self.script))
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.as_slice().is_empty()
    }

    /// Ids up to the end.
    pub(super) fn rest<T: FromStr<Err: Display>>(&mut self) -> Result<Vec<T>, QueueError> {
        let mut ids = Vec::new();
        while !self.is_empty() {
            ids.push(self.parsed()?);
        }
        Ok(ids)
    }

    /// Count of names and values, then these: the hash of a task.
    pub(super) fn task_state(&mut self) -> Result<TaskState, QueueError> {
        let mut state = TaskState::default();
        for _ in 0..self.count()? / 2 {
            let name = self.octets()?;
            match name.as_ref() {
                b"a" => {
                    let attempts = self.count()?;
                    state.attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
                }
                b"rb" => {
                    self.octets()?;
                    state.reclaimed_begun = true;
                }
                b"h" => {
                    let reason = self.octets()?;
                    state.hold = Some(String::from_utf8_lossy(&reason).into_owned());
                }
                b"s" => state.notes = self.octets()?,
                b"x" => {
                    self.octets()?;
                    state.dropped = true;
                }
                [b'r', index @ ..] => {
                    let index = std::str::from_utf8(index)
                        .ok()
                        .and_then(|text| text.parse().ok());
                    let index = index.ok_or_else(|| self.unexpected("a recipient"))?;
                    let resolution = match self.octets()?.as_ref() {
                        b"d" => Resolution::Delivered,
                        _ => Resolution::Failed,
                    };
                    state.resolved.push((index, resolution));
                }
                // A newer program may keep more.
                _ => _ = self.octets()?,
            }
        }
        state.resolved.sort_unstable_by_key(|(index, _)| *index);
        Ok(state)
    }
}
