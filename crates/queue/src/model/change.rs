//! What a store must write so that a restart finds every message where it was.

use super::Scheduler;
use super::state::{Message, Place, Task};
use crate::id::{MessageId, QueueId, Scope, TaskId};
use crate::operation::Journaled;
use crate::record::TaskState;

/// One consequence of a step. What is not said here may be forgotten: a message that was enqueued
/// waits, all of its tasks due, until something else is said about it. Claims are forgotten too:
/// who restarts the store is the only one who could have held them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The task has ended, others of its message are open.
    Ended(TaskId),
    /// The last task has ended: nothing of the message is needed any more.
    Removed(MessageId),
    /// The message is not going to be enqueued: its chunks are not needed any more.
    Unstaged(MessageId),
    Resumed(Scope),
    Suspended {
        scope: Scope,
        until: Option<u64>,
        reason: String,
    },
    /// The task has got attempts, marks or notes, or is held, as the state says.
    State {
        task: TaskId,
        /// Or since when it is held.
        due: u64,
        state: TaskState,
    },
    /// The journal grows by this.
    Journaled(Journaled),
}

/// A task found in a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    pub ordinal: u16,
    pub queue: QueueId,
    /// Or since when it is held.
    pub due: u64,
    pub state: Option<TaskState>,
}

impl Scheduler {
    /// What the steps since the last call have changed, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Puts a message back that a store has kept, with those of its tasks that are open.
    pub fn restore(&mut self, message: MessageId, expires: u64, tasks: Vec<Restored>) {
        if tasks.is_empty() || self.messages.contains_key(&message) {
            return;
        }
        self.messages.insert(
            message,
            Message {
                open: tasks.len() as u16,
                expires,
                expired: false,
            },
        );
        self.expiry.insert((expires, message));
        for restored in tasks {
            let task = TaskId::new(message, restored.ordinal);
            let queue = self.queue_ref(&restored.queue);
            let state = restored.state.map(Box::new);
            let is_held = state.as_ref().is_some_and(|state| state.hold.is_some());
            let is_dropped = state.as_ref().is_some_and(|state| state.dropped);
            let place = Place::Waiting { due: restored.due };
            self.tasks.insert(
                task,
                Task {
                    queue: queue.clone(),
                    place,
                    state,
                    reclaims: 0,
                    charged: None,
                },
            );
            if is_dropped {
                self.end(task);
            } else if is_held {
                self.hold(restored.due, task);
            } else {
                self.wait(&queue, task, restored.due);
            }
        }
    }

    /// Notes the state of a task for the store.
    pub(super) fn state_changed(&mut self, task: TaskId, due: u64) {
        if let Some(state) = self
            .tasks
            .get(&task)
            .and_then(|known| known.state.as_deref())
        {
            self.changes.push(Change::State {
                task,
                due,
                state: state.clone(),
            });
        }
    }
}
