use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::id::TaskId;

/// The tasks this process has open, from the claim to the confirmed settlement, and the deliveries
/// among them that the queue has not confirmed.
pub(super) struct Ledger {
    state: Mutex<State>,
    bound: usize,
    age: Duration,
    /// Something was confirmed, closed or given up.
    changed: Notify,
}

#[derive(Default)]
struct State {
    next_serial: u64,
    open: HashMap<TaskId, u64>,
    /// Of the open ones those that a claim must not hand out again: begun by an earlier owner, or
    /// claimed under an earlier id of this process.
    withheld: HashSet<TaskId>,
    /// Serial numbers of open claims that the queue has taken back.
    revoked: HashSet<u64>,
    /// Delivered and not confirmed: serial -> since when.
    unconfirmed: BTreeMap<u64, Duration>,
    /// Commits that wait for their answer.
    commits: usize,
}

impl Ledger {
    pub(super) fn new(bound: usize, age: Duration) -> Self {
        Self {
            state: Mutex::default(),
            bound,
            age,
            changed: Notify::new(),
        }
    }

    /// Opens a task under a new serial number, unless this process has it open already: then it
    /// is withheld from the next claims until that transaction is over. That it could be claimed
    /// again says that the claim of that transaction does not hold any more.
    pub(super) fn open(&self, task: TaskId, withhold: bool) -> Option<u64> {
        let mut state = self.state();
        if let Some(serial) = state.open.get(&task).copied() {
            state.withheld.insert(task);
            state.revoked.insert(serial);
            return None;
        }
        state.next_serial += 1;
        let serial = state.next_serial;
        state.open.insert(task, serial);
        if withhold {
            state.withheld.insert(task);
        }
        Some(serial)
    }

    pub(super) fn is_open(&self, task: TaskId) -> bool {
        self.state().open.contains_key(&task)
    }

    pub(super) fn is_revoked(&self, serial: u64) -> bool {
        self.state().revoked.contains(&serial)
    }

    /// The next hop has accepted the message of `serial` at `now`.
    pub(super) fn delivered(&self, serial: u64, now: Duration) {
        self.state().unconfirmed.insert(serial, now);
    }

    /// The queue has taken note of what was delivered so far of the task of `serial`.
    pub(super) fn confirmed(&self, serial: u64) {
        self.state().unconfirmed.remove(&serial);
        self.changed.notify_waiters();
    }

    /// The queue has taken note of the task's outcome, or never will.
    pub(super) fn close(&self, task: TaskId, serial: u64) {
        let mut state = self.state();
        state.unconfirmed.remove(&serial);
        state.revoked.remove(&serial);
        if state.open.get(&task) == Some(&serial) {
            state.open.remove(&task);
            state.withheld.remove(&task);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// A new term begins: whatever is open was claimed under an earlier id.
    pub(super) fn withhold_all(&self) {
        let mut state = self.state();
        state.withheld = state.open.keys().copied().collect();
    }

    pub(super) fn withheld(&self) -> Vec<TaskId> {
        self.state().withheld.iter().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.state().open.len()
    }

    /// Whether one more final dot keeps what a kill leaves in doubt within the bound.
    pub(super) fn admits_dot(&self, now: Duration) -> bool {
        let state = self.state();
        state.unconfirmed.len() <= self.bound
            && state
                .unconfirmed
                .first_key_value()
                .is_none_or(|(_, since)| now.saturating_sub(*since) <= self.age)
    }

    pub(super) fn commit_waits(&self) {
        self.state().commits += 1;
    }

    pub(super) fn commit_answered(&self) {
        self.state().commits -= 1;
        self.changed.notify_waiters();
    }

    /// Completes at the next change after the first poll.
    pub(super) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// Waits until nothing is open and no commit waits.
    pub(super) async fn emptied(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                if self.is_empty() {
                    return;
                }
            }
            changed.await;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        let state = self.state();
        state.open.is_empty() && state.commits == 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
