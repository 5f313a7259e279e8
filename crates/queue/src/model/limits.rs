//! Concurrency limits, which are data of the queue.

use std::collections::HashMap;

use super::Scheduler;
use crate::operation::Limits;

#[derive(Debug)]
pub(super) struct Concurrency {
    generation: u64,
    default: u32,
    sites: HashMap<String, u32>,
}

impl Concurrency {
    pub(super) fn of(&self, site: &str) -> u32 {
        self.sites.get(site).copied().unwrap_or(self.default)
    }
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            generation: 0,
            default: 20,
            sites: HashMap::new(),
        }
    }
}

impl Scheduler {
    /// Replaces the limits unless newer ones are there, and wakes what a raised limit lets go.
    pub fn set_limits(&mut self, limits: &Limits) {
        if limits.generation < self.limits.generation {
            return;
        }
        self.limits = Concurrency {
            generation: limits.generation,
            default: limits.concurrency_default,
            sites: limits.concurrency.iter().cloned().collect(),
        };
        let mut blocked = self.turn.blocked_sites();
        blocked.sort_unstable();
        for (site, queues) in blocked {
            let free = self.limits.of(&site).saturating_sub(self.turn.used(&site)) as usize;
            for _ in 0..free.min(queues) {
                self.unblock_one(&site);
            }
        }
    }
}
