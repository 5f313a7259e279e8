//! Concurrency limits and tenants' weights, which are data of the queue.

use std::collections::HashMap;

use super::Scheduler;
use crate::operation::{COST, Limits};

#[derive(Debug)]
pub(super) struct InForce {
    generation: u64,
    default: u32,
    sites: HashMap<String, u32>,
    weights: HashMap<String, u32>,
}

impl InForce {
    pub(super) fn of(&self, site: &str) -> u32 {
        self.sites.get(site).copied().unwrap_or(self.default)
    }

    /// What `count` tasks add to the virtual time of `tenant`.
    pub(super) fn cost(&self, tenant: &str, count: usize) -> u64 {
        let weight = self.weights.get(tenant).copied().unwrap_or(1).max(1);
        count as u64 * COST / u64::from(weight)
    }
}

impl Default for InForce {
    fn default() -> Self {
        Self {
            generation: 0,
            default: 20,
            sites: HashMap::new(),
            weights: HashMap::new(),
        }
    }
}

impl Scheduler {
    /// Replaces the limits unless newer ones are there, and wakes what a raised limit lets go.
    pub fn set_limits(&mut self, limits: &Limits) {
        if limits.generation < self.limits.generation {
            return;
        }
        self.limits = InForce {
            generation: limits.generation,
            default: limits.concurrency_default,
            sites: limits.concurrency.iter().cloned().collect(),
            weights: limits.weights.iter().cloned().collect(),
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
