//! Tasks go to a worker: by name for expiry, otherwise in turn and within the slots of each site.

use std::collections::HashSet;
use std::time::Duration;

use super::Scheduler;
use super::expiry::PUT_OFF;
use super::state::{Ms, Place, QueueRef};
use crate::id::{Call, Handle, SlotId, TaskId};
use crate::operation::{Claim, Claimed, Grant, NextReply, Then};

impl Scheduler {
    pub(super) fn claim(&mut self, now: Ms, call: Call, claim: &Claim, reply: &mut NextReply) {
        let withheld: HashSet<TaskId> = claim.withheld.iter().copied().collect();
        for handle in &claim.by_name {
            reply
                .named
                .extend(self.claim_by_name(now, call, handle, &withheld));
        }
        self.promote(now);
        let grants = usize::from(claim.grants);
        // A visit without a grant parks a queue; a step stays bounded whatever there is to park.
        let mut visits = 64 + grants;
        while reply.grants.len() < grants && visits > 0 && !self.turn.is_empty() {
            let slot = SlotId {
                lane: call.lane,
                n: call.n,
                index: reply.grants.len() as u16,
            };
            reply
                .grants
                .extend(self.visit(now, call, slot, claim.tasks_per_grant, &withheld));
            visits -= 1;
        }
        reply.then = self.when_next(now);
    }

    /// Only where it waits, or is held. No slot and no turn, so that mail which cannot be claimed
    /// still expires.
    fn claim_by_name(
        &mut self,
        now: Ms,
        call: Call,
        handle: &Handle,
        withheld: &HashSet<TaskId>,
    ) -> Option<Claimed> {
        let task = self.tasks.get(&handle.task)?;
        if withheld.contains(&handle.task)
            || *task.queue.id() != handle.queue
            || !(self.take_waiting(handle.task) || self.take_held_to_expire(now, handle.task))
        {
            return None;
        }
        self.put_off_if_expired(now, PUT_OFF, handle.task.message);
        Some(self.hand_out(now, call, handle.task))
    }

    /// One visit to the queue whose turn it is: a grant, or the queue is parked. Due comes before
    /// slot: a queue with nothing due never waits for one.
    fn visit(
        &mut self,
        now: Ms,
        call: Call,
        slot: SlotId,
        tasks_per_grant: u16,
        withheld: &HashSet<TaskId>,
    ) -> Option<Grant> {
        let (queue, virtual_time) = self.turn.first()?;
        let site = queue.site();
        let kept = self.due_and_withheld(now, &queue, withheld);
        let free = self.limits.of(site).saturating_sub(self.turn.used(site)) as usize;
        let tasks_per_grant = usize::from(tasks_per_grant.max(1));
        // No more are counted than can make a difference.
        let countable = (tasks_per_grant * free.max(1)).max(tasks_per_grant + 1);
        let ready = self.due(now, &queue, withheld).take(countable).count();
        if ready == 0 {
            self.deactivate(&queue, virtual_time);
            self.park(now, &queue, kept);
            self.unblock(now, site, 1);
            return None;
        }
        if let Some(scope) = self.suspensions.of(now, &queue) {
            self.deactivate(&queue, virtual_time);
            self.suspensions.park(scope, &queue);
            self.schedule(&queue, now + self.safety_wake);
            self.unblock(now, site, 1);
            return None;
        }
        if free == 0 {
            self.deactivate(&queue, virtual_time);
            self.block(now, &queue, virtual_time);
            return None;
        }
        let tokens = self.tokens(now, site).unwrap_or(usize::MAX);
        if tokens == 0 {
            self.deactivate(&queue, virtual_time);
            self.block(now, &queue, virtual_time);
            self.wake_at_rate(now, site);
            return None;
        }
        // Few tasks spread over the free slots.
        let count = tasks_per_grant.min(ready.div_ceil(free)).min(tokens);
        let mut tasks: Vec<TaskId> = self.due(now, &queue, withheld).take(count).collect();
        let count = self.before_suspect(&tasks).unwrap_or(count);
        tasks.truncate(count);
        self.turn.take_slot(site);
        if let Some(member) = self.workers.get_mut(&call.worker) {
            member.slots.insert(slot, site.to_owned());
        }
        if self.charge(now, site, tasks.len()) {
            for task in &tasks {
                if let Some(known) = self.tasks.get_mut(task) {
                    known.charged = Some(site.into());
                }
            }
        }
        self.turn.served_at(virtual_time);
        let virtual_time = virtual_time + self.limits.cost(queue.tenant(), tasks.len());
        let tasks = tasks
            .into_iter()
            .map(|task| {
                self.take_waiting(task);
                self.hand_out(now, call, task)
            })
            .collect();
        if ready > count {
            self.turn.sequence += 1;
            self.requeue(&queue, virtual_time);
        } else {
            self.deactivate(&queue, virtual_time);
            self.park(now, &queue, kept);
        }
        Some(Grant {
            slot,
            site: queue.site().to_owned(),
            queue: queue.id().clone(),
            tasks,
        })
    }

    /// Puts a task that was taken from its queue into the claim set and describes it.
    fn hand_out(&mut self, now: Ms, call: Call, task: TaskId) -> Claimed {
        self.enter_claim(call.worker, task, now + self.claim, false);
        let known = &self.tasks[&task];
        let expires_in = self
            .messages
            .get(&task.message)
            .filter(|message| !message.expired)
            .map_or(0, |message| message.expires.saturating_sub(now));
        Claimed {
            handle: Handle::new(task, known.queue.id().clone()),
            state: known.state.as_deref().cloned().unwrap_or_default(),
            expires_in: Duration::from_millis(expires_in),
        }
    }

    /// Tasks of `queue` that are due and may be given to this caller.
    fn due<'a>(
        &'a self,
        now: Ms,
        queue: &QueueRef,
        withheld: &'a HashSet<TaskId>,
    ) -> impl Iterator<Item = TaskId> + 'a {
        let tasks = self
            .queues
            .get(queue.id())
            .map(|waiting| waiting.tasks.iter());
        tasks
            .into_iter()
            .flatten()
            .take_while(move |(due, _)| *due <= now)
            .map(|(_, task)| *task)
            .filter(|task| !withheld.contains(task))
    }

    fn due_and_withheld(&self, now: Ms, queue: &QueueRef, withheld: &HashSet<TaskId>) -> bool {
        withheld
            .iter()
            .filter_map(|task| self.tasks.get(task))
            .any(|task| {
                task.queue == *queue && matches!(task.place, Place::Waiting { due } if due <= now)
            })
    }

    fn when_next(&self, now: Ms) -> Then {
        if !self.turn.is_empty() {
            return Then::More;
        }
        match self.turn.first_wake() {
            None => Then::Empty,
            Some(at) if at <= now => Then::More,
            Some(at) => Then::Sleep(Duration::from_millis(at - now)),
        }
    }
}
