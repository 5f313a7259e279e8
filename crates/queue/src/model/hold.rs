//! The third place of a task: held, until it is released or dropped or its message expires. What
//! nobody can deliver without harm comes here, and what an administrator wants to stay.

use super::Scheduler;
use super::expiry::PUT_OFF;
use super::state::{Ms, Place};
use crate::id::TaskId;
use crate::operation::HeldExpiry;

impl Scheduler {
    /// Holds a task. The caller has taken it from wherever it was, and its state says why.
    pub(super) fn hold(&mut self, since: Ms, task: TaskId) {
        let Some(known) = self.tasks.get_mut(&task) else {
            return;
        };
        known.place = Place::Held { since };
        self.held.insert((since, task));
        self.state_changed(task, since);
    }

    /// Takes a task out of the hold.
    pub(super) fn take_held(&mut self, task: TaskId) -> bool {
        match self.tasks.get(&task).map(|known| known.place) {
            Some(Place::Held { since }) => self.held.remove(&(since, task)),
            _ => false,
        }
    }

    /// Held mail expires as any other, unless the queue is to keep it: then it is not looked at again
    /// for a while.
    pub(super) fn take_held_to_expire(&mut self, now: Ms, task: TaskId) -> bool {
        match self.limits.held {
            HeldExpiry::Expire => self.take_held(task),
            HeldExpiry::Keep => {
                let is_held = self
                    .tasks
                    .get(&task)
                    .is_some_and(|known| matches!(known.place, Place::Held { .. }));
                if is_held {
                    self.put_off_if_expired(now, KEPT, task.message);
                }
                false
            }
        }
    }

    /// Counts one more owner that began `task` and did not settle it. After so many it may be what
    /// ends them, and is to be held: true.
    pub(super) fn suspect(&mut self, task: TaskId) -> bool {
        let Some(known) = self.tasks.get_mut(&task) else {
            return false;
        };
        known.reclaims += 1;
        let reclaims = known.reclaims;
        let state = self.state_of(task);
        if reclaims < HELD_AFTER || state.hold.is_some() || state.dropped {
            return false;
        }
        state.hold = Some(format!("it was begun {reclaims} times and never settled"));
        true
    }

    /// Of tasks about to be granted together: how many stand before the first that may be what ends
    /// its owners. Such a one is granted alone.
    pub(super) fn before_suspect(&self, tasks: &[TaskId]) -> Option<usize> {
        let suspect = |task: &TaskId| {
            let known = self.tasks.get(task);
            known.is_some_and(|known| known.reclaims >= ALONE_AFTER)
        };
        tasks.iter().position(suspect).map(|before| before.max(1))
    }

    /// Of a task that is released: it has its next attempts, each alone if it had come to that.
    pub(super) fn clear_suspicion(&mut self, task: TaskId) {
        if let Some(known) = self.tasks.get_mut(&task) {
            known.reclaims = known.reclaims.min(ALONE_AFTER);
        }
    }
}

const _: () = assert!(KEPT > PUT_OFF);
/// How long nobody looks again for the expiry of what is kept.
const KEPT: Ms = 3_600_000;
const ALONE_AFTER: u32 = 3;
const HELD_AFTER: u32 = 6;
