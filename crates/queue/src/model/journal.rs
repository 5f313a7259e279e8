//! The journal of outcomes: what settled, for those who follow it. The step that settles writes it, so
//! it neither misses an outcome nor tells one that did not happen.

use super::Scheduler;
use super::change::Change;
use super::state::Ms;
use crate::id::JournalId;
use crate::operation::{Journaled, Settlement};

impl Scheduler {
    /// One entry for all settlements of a call; `stale` are the positions of those it did not hold.
    pub(super) fn journal(&mut self, now: Ms, settlements: &[Settlement], stale: &[u32]) {
        let outcomes: Vec<_> = (0..)
            .zip(settlements)
            .filter(|(position, settlement)| settlement.is_journaled(stale.contains(position)))
            .map(|(_, settlement)| settlement.journal.clone())
            .collect();
        if outcomes.is_empty() {
            return;
        }
        // Positions only grow, whatever the clock does.
        let last = &mut self.last_journaled;
        *last = if now > last.ms {
            JournalId { ms: now, n: 0 }
        } else {
            JournalId {
                ms: last.ms,
                n: last.n + 1,
            }
        };
        let id = *last;
        self.changes
            .push(Change::Journaled(Journaled { id, outcomes }));
    }

    /// After a restart: entries go on behind `last`.
    pub fn restore_journal(&mut self, last: JournalId) {
        self.last_journaled = last;
    }
}
