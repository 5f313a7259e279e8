//! Heartbeats, and what dead workers held goes back.
//!
//! Only who has held its own lease for a whole lease without a gap may reap: after an outage of
//! the store everybody renews first, and nobody's mail is taken away.

use std::time::Duration;

use super::Scheduler;
use super::state::Ms;
use crate::id::{SlotId, TaskId, WorkerId};
use crate::operation::Beat;

impl Scheduler {
    pub fn beat(&mut self, now: Ms, worker: WorkerId) -> Beat {
        self.drop_overdue(now);
        let (lease, beat) = (self.lease, self.beat);
        let Some((member, expires)) = self
            .workers
            .get_mut(&worker)
            .and_then(|member| member.expires.map(|expires| (member, expires)))
        else {
            return Beat::Reaped;
        };
        let gap = now.saturating_sub(expires.saturating_sub(lease));
        if gap * 2 > beat * 3 || member.since > now {
            member.since = now;
        }
        let since = member.since;
        member.expires = Some(now + lease);
        self.forget_arrivals(now);
        // Leases of before the clock went back end too late, if their owners have died. Two of
        // them: somebody else's may be longer.
        for expires in self.workers.values_mut().filter_map(|m| m.expires.as_mut()) {
            if *expires > now + 2 * lease {
                *expires = now + lease;
            }
        }

        let mut step = Step {
            budget: HANDLES_PER_STEP,
            reaped: 0,
            held: Vec::new(),
            more: false,
        };
        if now - since >= lease {
            self.reap(now, &mut step);
        }
        let foreign = self
            .workers
            .iter()
            .filter(|(id, _)| **id != worker)
            .filter_map(|(_, member)| member.expires)
            .min();
        Beat::Renewed {
            late: expires <= now,
            reaped: step.reaped,
            held: step.held,
            more: step.more,
            // Not before this worker may reap.
            next_foreign_expiry: foreign
                .map(|at| Duration::from_millis(at.max(since + lease).saturating_sub(now))),
        }
    }

    /// From its first step on the victim is nobody: its beats and calls answer `Reaped`, even
    /// while it still owns what later steps take from it.
    fn reap(&mut self, now: Ms, step: &mut Step) {
        let mut victims: Vec<(Ms, WorkerId)> = self
            .workers
            .iter()
            .filter_map(|(id, member)| Some((member.expires?, *id)))
            .filter(|(expires, _)| *expires <= now)
            .collect();
        victims.sort_unstable();
        victims.truncate(VICTIMS_PER_STEP);
        step.more = victims.len() == VICTIMS_PER_STEP;
        for (_, victim) in victims {
            if let Some(member) = self.workers.get_mut(&victim) {
                member.expires = None;
            }
        }
        let (living, dying): (Vec<_>, Vec<_>) = self
            .workers
            .iter()
            .map(|(id, member)| (*id, member.expires.is_some()))
            .partition(|(_, lives)| *lives);
        for (victim, _) in dying {
            if step.budget > 0 {
                self.drain(now, victim, step);
            }
        }
        for (worker, _) in living {
            let overdue = self.claims_of(worker, step.budget, |deadline| deadline <= now);
            self.take_back(now, worker, overdue, step);
        }
        step.more |= step.budget == 0;
    }

    /// Claims, then slots; one that owns nothing any more is forgotten.
    fn drain(&mut self, now: Ms, victim: WorkerId, step: &mut Step) {
        let claims = self.claims_of(victim, step.budget, |_| true);
        self.take_back(now, victim, claims, step);
        if step.budget == 0 {
            return;
        }
        let slots: Vec<SlotId> = self
            .workers
            .get(&victim)
            .map(|member| member.slots.keys().copied().collect())
            .unwrap_or_default();
        let freed = slots.len().min(step.budget);
        self.free_slots(now, victim, &slots[..freed]);
        step.budget -= freed;
        if freed < slots.len() {
            return;
        }
        self.workers.remove(&victim);
    }

    fn claims_of(
        &self,
        worker: WorkerId,
        max: usize,
        which: impl Fn(Ms) -> bool,
    ) -> Vec<(TaskId, bool)> {
        self.workers.get(&worker).map_or_else(Vec::new, |member| {
            member
                .claims
                .iter()
                .take_while(|(deadline, ..)| which(*deadline))
                .take(max)
                .map(|(_, begun, task)| (*task, *begun))
                .collect()
        })
    }

    fn take_back(
        &mut self,
        now: Ms,
        owner: WorkerId,
        claims: Vec<(TaskId, bool)>,
        step: &mut Step,
    ) {
        for (task, begun) in claims {
            self.unclaim(owner, task);
            if begun && self.suspect(task) {
                step.held.push(task);
            }
            if !begun {
                self.return_token(now, task);
            }
            self.come_back(now, task, begun, now, false);
            step.reaped += 1;
            step.budget -= 1;
        }
    }
}

/// How far one step goes.
struct Step {
    budget: usize,
    reaped: u32,
    held: Vec<TaskId>,
    more: bool,
}

const HANDLES_PER_STEP: usize = 500;
const VICTIMS_PER_STEP: usize = 16;
