//! Takes back what an enqueue without a reply may have left.

use super::Scheduler;
use super::state::{Ms, Place};
use crate::id::{Call, Handle, MessageId};
use crate::operation::Aborted;

impl Scheduler {
    /// Bars `call`, then removes all tasks of the message or none: a task that neither waits nor
    /// is held nor claimed by this worker without having been begun may have been seen by somebody.
    pub fn abort(
        &mut self,
        now: Ms,
        call: Call,
        message: MessageId,
        handles: &[Handle],
    ) -> Aborted {
        if self.expiry_of(call.worker).is_some() && call.n > self.last_of(call.worker, call.lane) {
            self.record(call, None);
        }
        let Some(known) = self.messages.get(&message) else {
            self.unstage(message);
            return Aborted::Gone;
        };
        let removable = |handle: &Handle| {
            self.tasks.get(&handle.task).is_some_and(|task| {
                handle.task.message == message
                    && *task.queue.id() == handle.queue
                    && match task.place {
                        Place::Waiting { .. } | Place::Held { .. } => true,
                        Place::Claimed { by, begun, .. } => by == call.worker && !begun,
                    }
            })
        };
        if handles.len() != usize::from(known.open) || !handles.iter().all(removable) {
            return Aborted::Held;
        }
        for handle in handles {
            if !self.take_waiting(handle.task) && !self.take_held(handle.task) {
                self.unclaim(call.worker, handle.task);
                self.return_token(now, handle.task);
            }
            self.end(handle.task);
        }
        Aborted::Gone
    }
}
