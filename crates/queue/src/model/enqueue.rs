//! A message becomes tasks, one for each recipient domain and route, that wait in their queues.

use super::Scheduler;
use super::state::{Message, Ms, Place, QueueRef, Task, WaitingQueue};
use crate::id::{Call, MessageId, QueueId, TaskId};
use crate::operation::Taken;
use crate::queue::QueueError;
use crate::record::NewMessage;

impl Scheduler {
    /// The whole step.
    ///
    /// # Errors
    /// [`QueueError::Incomplete`]; nothing has happened then, not even to the number of the call.
    pub fn enqueue(
        &mut self,
        now: Ms,
        call: Call,
        messages: &[NewMessage],
    ) -> Result<Taken<()>, QueueError> {
        let chunks = messages
            .iter()
            .map(|message| (message.id, message.header.body.chunks));
        let taken = self.admit_enqueue(now, call, chunks)?;
        if taken == Taken::Ran(()) {
            messages
                .iter()
                .for_each(|message| self.insert_message(now, message));
        }
        Ok(taken)
    }

    /// The first half, for a store that has to write the messages before they may be seen: their ids
    /// and how many chunks each has. A late worker may enqueue: what it enqueues does not become its
    /// own. From here on the chunks belong to their messages.
    ///
    /// # Errors
    /// As [`Scheduler::enqueue`].
    pub fn admit_enqueue(
        &mut self,
        now: Ms,
        call: Call,
        messages: impl Iterator<Item = (MessageId, u32)> + Clone,
    ) -> Result<Taken<()>, QueueError> {
        let taken = self.admit(now, call, true);
        if taken != Taken::Ran(()) {
            return Ok(taken);
        }
        self.drop_overdue(now);
        if let Some(incomplete) = self.incomplete(messages.clone()) {
            return Err(QueueError::Incomplete(incomplete));
        }
        for (message, chunks) in messages {
            if chunks > 0 {
                self.staged.remove(&message);
            }
        }
        self.record(call, None);
        Ok(Taken::Ran(()))
    }

    pub fn insert_message(&mut self, now: Ms, message: &NewMessage) {
        let header = &message.header;
        let queues = header.tasks.iter().map(|task| &task.queue);
        self.insert(now, message.id, header.lifetime_ms, queues);
    }

    /// The second half: one task for each of `queues`. A message that is there already stays as it
    /// is: ids of notifications are derived, so an equal one is the same.
    pub fn insert<'a>(
        &mut self,
        now: Ms,
        id: MessageId,
        lifetime_ms: u64,
        queues: impl IntoIterator<Item = &'a QueueId>,
    ) {
        if self.messages.contains_key(&id) {
            return;
        }
        let expires = now.saturating_add(lifetime_ms);
        let mut open = 0;
        for queue in queues {
            let queue = self.queue_ref(queue);
            let task = TaskId::new(id, open);
            let place = Place::Waiting { due: now };
            self.tasks.insert(
                task,
                Task {
                    queue: queue.clone(),
                    place,
                    state: None,
                    reclaims: 0,
                    charged: None,
                },
            );
            self.wait(&queue, task, now);
            open += 1;
        }
        self.messages.insert(
            id,
            Message {
                open,
                expires,
                expired: false,
            },
        );
        self.expiry.insert((expires, id));
    }

    pub(super) fn queue_ref(&mut self, id: &QueueId) -> QueueRef {
        if let Some(queue) = self.queues.get(id) {
            return queue.name.clone();
        }
        let name = QueueRef::new(id);
        let queue = WaitingQueue {
            name: name.clone(),
            tasks: std::collections::BTreeSet::new(),
            wake: None,
            active: None,
            blocked: None,
        };
        self.queues.insert(id.clone(), queue);
        name
    }

    /// Lets a task wait. The caller has taken it from wherever it was.
    pub(super) fn wait(&mut self, queue: &QueueRef, task: TaskId, due: Ms) {
        if let Some(known) = self.tasks.get_mut(&task) {
            known.place = Place::Waiting { due };
            known.charged = None;
        }
        self.queue_ref(queue.id());
        if let Some(waiting) = self.queues.get_mut(queue.id()) {
            waiting.tasks.insert((due, task));
        }
        self.schedule(queue, due);
    }

    /// Takes a task out of its queue.
    pub(super) fn take_waiting(&mut self, task: TaskId) -> bool {
        let Some(known) = self.tasks.get(&task) else {
            return false;
        };
        let Place::Waiting { due } = known.place else {
            return false;
        };
        self.queues
            .get_mut(known.queue.id())
            .is_some_and(|waiting| waiting.tasks.remove(&(due, task)))
    }
}
