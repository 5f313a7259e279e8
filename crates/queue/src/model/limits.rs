//! Concurrency limits, rates and tenants' weights, which are data of the queue.

use std::collections::HashMap;

use super::Scheduler;
use super::rate::Pace;
use super::state::Ms;
use crate::operation::{COST, HeldExpiry, Limits};

#[derive(Debug)]
pub(super) struct InForce {
    generation: u64,
    default: u32,
    sites: HashMap<String, u32>,
    pace: Option<Pace>,
    paces: HashMap<String, Pace>,
    weights: HashMap<String, u32>,
    pub(super) held: HeldExpiry,
}

impl InForce {
    pub(super) fn of(&self, site: &str) -> u32 {
        self.sites.get(site).copied().unwrap_or(self.default)
    }

    pub(super) fn pace_of(&self, site: &str) -> Option<Pace> {
        self.paces.get(site).copied().or(self.pace)
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
            pace: None,
            paces: HashMap::new(),
            weights: HashMap::new(),
            held: HeldExpiry::default(),
        }
    }
}

impl Scheduler {
    /// Replaces the limits unless newer ones are there, and wakes what changed ones let go.
    pub fn set_limits(&mut self, now: Ms, limits: &Limits) {
        if limits.generation < self.limits.generation {
            return;
        }
        self.limits = InForce {
            generation: limits.generation,
            default: limits.concurrency_default,
            sites: limits.concurrency.iter().cloned().collect(),
            pace: limits.rate_default.as_ref().map(Pace::of),
            paces: limits
                .rates
                .iter()
                .map(|(site, rate)| (site.clone(), Pace::of(rate)))
                .collect(),
            weights: limits.weights.iter().cloned().collect(),
            held: limits.held,
        };
        for site in self.turn.blocked_sites() {
            self.unblock(now, &site, usize::MAX);
        }
    }
}
