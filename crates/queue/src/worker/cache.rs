use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::id::MessageId;
use crate::record::Record;

/// What this process has just accepted, for the claim that mostly follows at once: it spares the
/// way back from the store. Losing an entry costs a read and nothing else.
pub(super) struct Cache {
    capacity: usize,
    state: Mutex<State>,
    /// A commit was answered.
    answered: Notify,
}

#[derive(Default)]
struct State {
    entries: HashMap<MessageId, Entry>,
    /// In order of arrival; may name entries that are gone.
    order: VecDeque<MessageId>,
    octets: usize,
}

enum Entry {
    /// Submitted; a claim may come before the answer does.
    Committing,
    Ready {
        record: Arc<Record>,
        octets: usize,
        claims_left: usize,
    },
}

impl Cache {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            state: Mutex::default(),
            answered: Notify::new(),
        }
    }

    pub(super) fn committing(&self, ids: impl IntoIterator<Item = MessageId>) {
        let mut state = self.state();
        state
            .entries
            .extend(ids.into_iter().map(|id| (id, Entry::Committing)));
    }

    /// The commit of `ids` failed.
    pub(super) fn forget(&self, ids: impl IntoIterator<Item = MessageId>) {
        let mut state = self.state();
        for id in ids {
            state.remove(id);
        }
        drop(state);
        self.answered.notify_waiters();
    }

    pub(super) fn insert(&self, records: impl IntoIterator<Item = (MessageId, Record)>) {
        let mut state = self.state();
        for (id, record) in records {
            state.remove(id);
            let content: usize = record.content.iter().map(bytes::Bytes::len).sum();
            let octets = content + HEADER_OCTETS;
            if octets > self.capacity {
                continue;
            }
            state.octets += octets;
            let claims_left = record.header.tasks.len();
            state.entries.insert(
                id,
                Entry::Ready {
                    record: Arc::new(record),
                    octets,
                    claims_left,
                },
            );
            state.order.push_back(id);
        }
        while state.octets > self.capacity {
            let Some(oldest) = state.order.pop_front() else {
                break;
            };
            state.remove(oldest);
        }
        // Entries leave by being claimed; their names must not pile up.
        if state.order.len() > 64 + 2 * state.entries.len() {
            let State { entries, order, .. } = &mut *state;
            order.retain(|id| entries.contains_key(id));
        }
        drop(state);
        self.answered.notify_waiters();
    }

    /// Hands out the record of `id` to one of its tasks. Where its commit is not answered yet, the
    /// answer is waited for.
    pub(super) async fn take(&self, id: MessageId) -> Option<Arc<Record>> {
        loop {
            let mut answered = std::pin::pin!(self.answered.notified());
            answered.as_mut().enable();
            if let Some(found) = self.state().take(id) {
                return found;
            }
            answered.await;
        }
    }

    /// Whether a read of the store can be spared for `id`.
    pub(super) fn has(&self, id: MessageId) -> bool {
        self.state().entries.contains_key(&id)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// `None` while the commit of `id` is not answered.
    fn take(&mut self, id: MessageId) -> Option<Option<Arc<Record>>> {
        let found = match self.entries.get_mut(&id) {
            None => None,
            Some(Entry::Committing) => return None,
            Some(Entry::Ready {
                record,
                claims_left,
                ..
            }) => {
                *claims_left = claims_left.saturating_sub(1);
                Some((Arc::clone(record), *claims_left == 0))
            }
        };
        Some(found.map(|(record, was_last)| {
            if was_last {
                self.remove(id);
            }
            record
        }))
    }

    fn remove(&mut self, id: MessageId) {
        if let Some(Entry::Ready { octets, .. }) = self.entries.remove(&id) {
            self.octets -= octets;
        }
    }
}

/// What an entry costs beside its content, by rule of thumb.
const HEADER_OCTETS: usize = 1024;
