//! Outcomes. Membership in the claim set is the fence: what the caller does not hold any more is
//! stale, and of a stale settlement only `delivered` counts.

use super::Scheduler;
use super::change::Change;
use super::state::{Ms, Place};
use crate::id::{TaskId, WorkerId};
use crate::operation::{Rest, Settlement};
use crate::record::{Resolution, TaskState};

impl Scheduler {
    /// False when it was stale. Who settled what it held may enqueue a notification.
    pub(super) fn settle(&mut self, now: Ms, worker: WorkerId, settlement: &Settlement) -> bool {
        let Some(begun) = self.held(worker, &settlement.handle) else {
            self.settle_stale(now, settlement);
            return false;
        };
        let task = settlement.handle.task;
        let marked = self.mark(task, &settlement.delivered, Resolution::Delivered)
            | self.mark(task, &settlement.failed, Resolution::Failed);
        let over = settlement.rest == Rest::None || self.is_resolved(task, settlement.recipients);
        if settlement.rest == Rest::Kept && !over {
            if marked {
                self.state_changed(task, now);
            }
            return true;
        }
        self.unclaim(worker, task);
        if over {
            self.end(task);
            return true;
        }
        match &settlement.rest {
            Rest::Deferred { due_in, notes } => {
                let due = now + due_in.as_millis() as u64;
                let state = self.state_of(task);
                state.attempts += 1;
                state.notes = notes.clone();
                if let Some(known) = self.tasks.get_mut(&task) {
                    known.reclaims = 0;
                }
                self.come_back(now, task, false, due, true);
            }
            Rest::Held { reason } => {
                if !begun {
                    self.return_token(now, task);
                }
                self.state_of(task).hold = Some(reason.clone());
                self.come_back(now, task, begun, now, true);
            }
            Rest::GivenBack | Rest::Kept | Rest::None => {
                if !begun {
                    self.return_token(now, task);
                }
                self.come_back(now, task, begun, now, marked);
            }
        }
        true
    }

    /// A delivery is a fact whoever reports it. It takes the recipient out of the task wherever the
    /// task is; out of another's claim set too, so that nobody notifies about what was delivered.
    fn settle_stale(&mut self, now: Ms, settlement: &Settlement) {
        let task = settlement.handle.task;
        let Some(known) = self.tasks.get(&task) else {
            return;
        };
        let place = known.place;
        if *known.queue.id() != settlement.handle.queue
            || !self.mark(task, &settlement.delivered, Resolution::Delivered)
        {
            return;
        }
        let over = self.is_resolved(task, settlement.recipients);
        match place {
            Place::Waiting { due } => {
                if over {
                    self.take_waiting(task);
                } else {
                    self.state_changed(task, due);
                }
            }
            Place::Held { since } => {
                if over {
                    self.take_held(task);
                } else {
                    self.state_changed(task, since);
                }
            }
            Place::Claimed { by, begun, .. } => {
                self.unclaim(by, task);
                if !begun {
                    self.return_token(now, task);
                }
                if !over {
                    self.come_back(now, task, begun, now, true);
                }
            }
        }
        if over {
            self.end(task);
        }
    }

    /// Only for who took the task from its queue or a claim set in this same step: the count of
    /// open tasks and the record change with a removal and never without one.
    pub(super) fn end(&mut self, task: TaskId) {
        if self.tasks.remove(&task).is_none() {
            return;
        }
        let Some(message) = self.messages.get_mut(&task.message) else {
            return;
        };
        message.open -= 1;
        if message.open > 0 {
            self.changes.push(Change::Ended(task));
            return;
        }
        self.expiry.remove(&(message.expires, task.message));
        self.messages.remove(&task.message);
        self.changes.push(Change::Removed(task.message));
    }

    /// Where a task goes whose claim has ended: it ends or is held if that was asked for meanwhile,
    /// otherwise it waits again. A task that was begun by an owner that did not settle it keeps that
    /// mark until it ends: its later owners ask before the last octet. `changed`: its state has.
    pub(super) fn come_back(&mut self, now: Ms, task: TaskId, begun: bool, due: Ms, changed: bool) {
        let Some(known) = self.tasks.get(&task) else {
            return;
        };
        let queue = known.queue.clone();
        let state = known.state.as_deref();
        let is_held = state.is_some_and(|state| state.hold.is_some());
        if state.is_some_and(|state| state.dropped) {
            self.end(task);
            return;
        }
        if begun {
            self.state_of(task).reclaimed_begun = true;
        }
        if is_held {
            self.hold(now, task);
            return;
        }
        if begun || changed {
            self.state_changed(task, due);
        }
        self.wait(&queue, task, due);
    }

    /// Notes outcomes; whoever comes first wrote them. False when there was nothing new.
    fn mark(&mut self, task: TaskId, recipients: &[u16], resolution: Resolution) -> bool {
        let mut marked = false;
        for recipient in recipients {
            let resolved = self
                .tasks
                .get(&task)
                .and_then(|known| known.state.as_deref());
            let position = resolved
                .map_or(&[][..], |state| &state.resolved)
                .binary_search_by_key(recipient, |(index, _)| *index);
            if let Err(position) = position {
                self.state_of(task)
                    .resolved
                    .insert(position, (*recipient, resolution));
                marked = true;
            }
        }
        marked
    }

    pub(super) fn is_resolved(&self, task: TaskId, recipients: u16) -> bool {
        let state = self
            .tasks
            .get(&task)
            .and_then(|known| known.state.as_deref());
        recipients > 0 && state.is_some_and(|state| state.resolved.len() >= usize::from(recipients))
    }

    /// # Panics
    /// When there is no such task; callers have just looked it up.
    pub(super) fn state_of(&mut self, task: TaskId) -> &mut TaskState {
        let known = self
            .tasks
            .get_mut(&task)
            .expect("callers have looked the task up");
        known.state.get_or_insert_default()
    }
}
