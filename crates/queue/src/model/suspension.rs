//! Queues from which nothing is granted for a while, by decision of somebody.
//!
//! A suspended queue that comes to its turn leaves it and is noted with its suspension; whoever ends
//! that wakes those it finds there, some in each step. A note may outlive its cause: then a wake-up
//! finds nothing to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Scheduler;
use super::change::Change;
use super::state::{Ms, QueueRef};
use super::turn::PROMOTED_AT_ONCE;
use crate::id::Scope;
use crate::operation::Suspension;

#[derive(Debug, Default)]
pub(super) struct Suspensions {
    known: BTreeMap<Scope, InForce>,
    /// Queues that were kept back, by what kept them.
    parked: BTreeMap<Scope, BTreeSet<QueueRef>>,
}

#[derive(Debug)]
struct InForce {
    until: Option<Ms>,
    reason: String,
}

impl InForce {
    fn stands(&self, now: Ms) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

impl Suspensions {
    /// What keeps `queue` back: the widest scope that does.
    pub(super) fn of(&self, now: Ms, queue: &QueueRef) -> Option<Scope> {
        if self.known.is_empty() {
            return None;
        }
        let scopes = [
            Scope::All,
            Scope::Tenant(queue.tenant().to_owned()),
            Scope::Site(queue.site().to_owned()),
        ];
        scopes
            .into_iter()
            .find(|scope| self.known.get(scope).is_some_and(|one| one.stands(now)))
    }

    pub(super) fn park(&mut self, scope: Scope, queue: &QueueRef) {
        self.parked.entry(scope).or_default().insert(queue.clone());
    }

    pub(super) fn parked(&self) -> usize {
        self.parked.values().map(BTreeSet::len).sum()
    }
}

impl Scheduler {
    pub fn suspend(&mut self, now: Ms, suspension: &Suspension) {
        let lasts = suspension.lasts.map(|lasts| lasts.as_millis() as u64);
        let until = lasts.map(|lasts| now.saturating_add(lasts));
        self.put_suspension(suspension.scope.clone(), until, suspension.reason.clone());
        self.changes.push(Change::Suspended {
            scope: suspension.scope.clone(),
            until,
            reason: suspension.reason.clone(),
        });
    }

    /// As a store has kept it.
    pub fn restore_suspension(&mut self, scope: Scope, until: Option<u64>, reason: String) {
        self.put_suspension(scope, until, reason);
    }

    pub fn resume(&mut self, now: Ms, scope: &Scope) -> bool {
        let Some(ended) = self.suspensions.known.remove(scope) else {
            return false;
        };
        self.changes.push(Change::Resumed(scope.clone()));
        self.turn.clear_suspension_wake(scope);
        if self.suspensions.parked.contains_key(scope) {
            self.turn.wake_suspension(scope, now);
        }
        ended.stands(now)
    }

    pub fn suspensions(&self, now: Ms) -> Vec<Suspension> {
        let known = self.suspensions.known.iter();
        known
            .filter(|(_, one)| one.stands(now))
            .map(|(scope, one)| Suspension {
                scope: scope.clone(),
                lasts: one.until.map(|until| Duration::from_millis(until - now)),
                reason: one.reason.clone(),
            })
            .collect()
    }

    /// Its wake-up: it may have ended, by its time or by somebody. Queues that it kept back are looked
    /// at again.
    pub(super) fn look_at_suspension(&mut self, now: Ms, scope: &Scope) {
        if let Some(one) = self.suspensions.known.get(scope) {
            if one.stands(now) {
                if let Some(until) = one.until {
                    self.turn.wake_suspension(scope, until);
                }
                return;
            }
            self.suspensions.known.remove(scope);
            self.changes.push(Change::Resumed(scope.clone()));
        }
        let Some(parked) = self.suspensions.parked.get_mut(scope) else {
            return;
        };
        let mut woken = Vec::new();
        while woken.len() < PROMOTED_AT_ONCE
            && let Some(queue) = parked.pop_first()
        {
            woken.push(queue);
        }
        if parked.is_empty() {
            self.suspensions.parked.remove(scope);
        } else {
            self.turn.wake_suspension(scope, now);
        }
        for queue in woken {
            let waiting = self.queues.get(queue.id());
            if waiting.is_some_and(|waiting| !waiting.tasks.is_empty()) {
                self.schedule(&queue, now);
            }
        }
    }

    fn put_suspension(&mut self, scope: Scope, until: Option<Ms>, reason: String) {
        self.turn.clear_suspension_wake(&scope);
        if let Some(until) = until {
            self.turn.wake_suspension(&scope, until);
        }
        self.suspensions
            .known
            .insert(scope, InForce { until, reason });
    }
}
