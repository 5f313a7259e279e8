//! Who takes part, and what a worker asks about its own claims.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Scheduler;
use super::state::{Ms, Place, Worker};
use crate::id::{Handle, WorkerId};
use crate::operation::Begun;

impl Scheduler {
    /// Makes `worker` a member. False when the id is known: it may own what this process does not
    /// know of.
    pub fn register(&mut self, now: Ms, worker: WorkerId) -> bool {
        if self.workers.contains_key(&worker) {
            return false;
        }
        let member = Worker {
            expires: Some(now + self.lease),
            since: now,
            claims: BTreeSet::new(),
            slots: BTreeMap::new(),
            lanes: HashMap::new(),
        };
        self.workers.insert(worker, member);
        true
    }

    /// Marks claims begun and gives them the longer deadline. Without a valid lease nothing is
    /// held: the reap may be on its way.
    pub fn begin(&mut self, now: Ms, worker: WorkerId, handles: &[Handle]) -> Vec<Begun> {
        let valid = self.lease_stands(now, worker);
        let deadline = now + self.begun;
        handles
            .iter()
            .map(|handle| {
                if !valid || self.held(worker, handle).is_none() {
                    return Begun::NotHeld;
                }
                self.unclaim(worker, handle.task);
                self.enter_claim(worker, handle.task, deadline, true);
                Begun::Begun
            })
            .collect()
    }

    /// The dot check.
    pub fn check(&self, now: Ms, worker: WorkerId, handle: &Handle) -> bool {
        self.lease_stands(now, worker) && self.held(worker, handle).is_some()
    }

    pub(super) fn lease_stands(&self, now: Ms, worker: WorkerId) -> bool {
        self.expiry_of(worker).is_some_and(|expires| expires > now)
    }

    /// When the lease runs out; `None` for who is unknown or being reaped.
    pub(super) fn expiry_of(&self, worker: WorkerId) -> Option<Ms> {
        self.workers.get(&worker)?.expires
    }

    /// The fence: whether `handle` is in the claim set of `worker`, and then whether it is begun.
    pub(super) fn held(&self, worker: WorkerId, handle: &Handle) -> Option<bool> {
        let task = self.tasks.get(&handle.task)?;
        match task.place {
            Place::Claimed { by, begun, .. }
                if by == worker && *task.queue.id() == handle.queue =>
            {
                Some(begun)
            }
            _ => None,
        }
    }

    pub(super) fn enter_claim(
        &mut self,
        worker: WorkerId,
        task: crate::id::TaskId,
        deadline: Ms,
        begun: bool,
    ) {
        let (Some(member), Some(known)) =
            (self.workers.get_mut(&worker), self.tasks.get_mut(&task))
        else {
            return;
        };
        known.place = Place::Claimed {
            by: worker,
            deadline,
            begun,
        };
        member.claims.insert((deadline, begun, task));
    }

    /// Takes a task out of a claim set. Whoever calls this ends the task or lets it wait.
    pub(super) fn unclaim(&mut self, worker: WorkerId, task: crate::id::TaskId) {
        let (Some(member), Some(known)) =
            (self.workers.get_mut(&worker), self.tasks.get_mut(&task))
        else {
            return;
        };
        if let Place::Claimed {
            deadline, begun, ..
        } = known.place
        {
            member.claims.remove(&(deadline, begun, task));
        }
    }

    /// A claim that was charged to the rate of a site comes back without a transaction.
    pub(super) fn return_token(&mut self, now: Ms, task: crate::id::TaskId) {
        let charged = self
            .tasks
            .get_mut(&task)
            .and_then(|known| known.charged.take());
        if let Some(site) = charged {
            self.refund(now, &site);
        }
    }
}
