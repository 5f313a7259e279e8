//! Bodies that arrive in chunks before their message is enqueued. The scheduler knows which are there;
//! a store keeps the octets.

use std::collections::BTreeSet;

use super::Scheduler;
use super::change::Change;
use super::state::Ms;
use crate::id::MessageId;
use crate::operation::STAGED_FOR;

/// Chunks of a message that is not enqueued yet.
#[derive(Debug, Default)]
pub(super) struct Staged {
    /// The last moment at which they are there.
    until: Ms,
    numbers: BTreeSet<u32>,
}

impl Scheduler {
    /// A chunk is going to be written.
    pub fn stage(&mut self, now: Ms, message: MessageId) {
        let staged = self.staged.entry(message).or_default();
        if staged.until < now {
            staged.numbers.clear();
        }
        staged.until = now + STAGED_FOR.as_millis() as u64;
    }

    /// Whether it may be: nobody has given the message up meanwhile.
    pub fn is_staged(&self, message: MessageId) -> bool {
        self.staged.contains_key(&message)
    }

    /// It is written. False when the message was given up meanwhile.
    pub fn staged(&mut self, message: MessageId, number: u32) -> bool {
        let staged = self.staged.get_mut(&message);
        staged.is_some_and(|staged| {
            staged.numbers.insert(number);
            true
        })
    }

    /// A message that has been enqueued keeps its chunks.
    pub fn unstage(&mut self, message: MessageId) {
        if self.staged.remove(&message).is_some() {
            self.changes.push(Change::Unstaged(message));
        }
    }

    /// A store has lost what it had not yet written for good.
    pub fn unstage_all(&mut self) {
        let all = std::mem::take(&mut self.staged);
        self.changes.extend(all.into_keys().map(Change::Unstaged));
    }

    /// Whether somebody still needs the chunks of `message`.
    pub fn keeps_body(&self, now: Ms, message: MessageId) -> bool {
        let staged = self.staged.get(&message);
        self.messages.contains_key(&message) || staged.is_some_and(|staged| staged.until >= now)
    }

    /// Drops what nobody has enqueued in time.
    pub(super) fn drop_overdue(&mut self, now: Ms) {
        let overdue = self.staged.extract_if(|_, staged| staged.until < now);
        let overdue: Vec<_> = overdue.map(|(message, _)| message).collect();
        self.changes
            .extend(overdue.into_iter().map(Change::Unstaged));
    }

    /// Of messages and the number of their chunks, the first that lacks some.
    pub(super) fn incomplete(
        &self,
        mut messages: impl Iterator<Item = (MessageId, u32)>,
    ) -> Option<MessageId> {
        let lacks = |(message, chunks): &(MessageId, u32)| {
            *chunks > 0
                && self
                    .staged
                    .get(message)
                    .is_none_or(|staged| staged.numbers.len() != *chunks as usize)
        };
        messages.find(lacks).map(|(message, _)| message)
    }
}
