//! Settle, release, claim: in this order, one step.

use super::Scheduler;
use super::change::Change;
use super::state::Ms;
use crate::operation::{Next, NextReply, Taken};
use crate::record::NewMessage;

/// What the first half of [`Scheduler::next`] leaves for the second.
#[derive(Debug, Default)]
pub struct Settled<'a> {
    pub stale: Vec<u32>,
    /// To be inserted before the second half.
    pub notifications: Vec<&'a NewMessage>,
    /// More than ends of tasks, which may be forgotten for a moment at the price of a duplicate:
    /// a store writes it before the second half.
    pub must_last: bool,
}

impl Scheduler {
    pub fn next(&mut self, now: Ms, next: &Next) -> Taken<NextReply> {
        match self.settle_all(now, next) {
            Taken::Ran(settled) => {
                settled
                    .notifications
                    .iter()
                    .for_each(|message| self.insert_message(now, message));
                self.release_and_claim(now, next, settled.stale)
            }
            Taken::Expired => Taken::Expired,
            Taken::Reaped => Taken::Reaped,
            Taken::Refused => Taken::Refused,
        }
    }

    /// The first half, for a store that has to write notifications before they may be seen.
    pub fn settle_all<'a>(&mut self, now: Ms, next: &'a Next) -> Taken<Settled<'a>> {
        match self.admit(now, next.call, false) {
            Taken::Ran(()) => {}
            Taken::Expired => return Taken::Expired,
            Taken::Reaped => return Taken::Reaped,
            Taken::Refused => return Taken::Refused,
        }
        let mut settled = Settled::default();
        let before = self.changes.len();
        for (position, settlement) in (0..).zip(&next.settlements) {
            if self.settle(now, next.call.worker, settlement) {
                settled.notifications.extend(&settlement.notification);
            } else {
                settled.stale.push(position);
            }
        }
        self.journal(now, &next.settlements, &settled.stale);
        if !next.settlements.is_empty() {
            self.record(next.call, None);
        }
        let states = self.changes[before..]
            .iter()
            .any(|change| matches!(change, Change::State { .. }));
        settled.must_last = states || !settled.notifications.is_empty();
        Taken::Ran(settled)
    }

    /// The second half. `Reaped` when that has happened between the two.
    pub fn release_and_claim(&mut self, now: Ms, next: &Next, stale: Vec<u32>) -> Taken<NextReply> {
        if self.expiry_of(next.call.worker).is_none() {
            return Taken::Reaped;
        }
        self.free_slots(now, next.call.worker, &next.releases);
        let mut reply = NextReply {
            stale,
            ..NextReply::default()
        };
        if let Some(claim) = &next.claim {
            self.claim(now, next.call, claim, &mut reply);
        }
        // An idle poll leaves nothing behind: repeated, it asks again.
        let idle = self.last_of(next.call.worker, next.call.lane) < next.call.n
            && next.releases.is_empty()
            && reply.named.is_empty()
            && reply.grants.is_empty();
        if !idle {
            self.record(next.call, Some(reply.clone()));
        }
        Taken::Ran(reply)
    }
}
