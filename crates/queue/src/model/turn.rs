//! Whose turn it is, and what wakes a queue that nobody looks at.
//!
//! Tenants come by virtual time (tasks claimed so far, divided by their weight), a tenant's active queues by when they were
//! last served. A queue that cannot be served now leaves the turn and gets a wake-up: when its next
//! task is due, or, while its site has no slot, when one is released and at the latest after the
//! safety wake. Where it is the site's rate that lets nothing go, the site as a whole is woken when the
//! next token is there.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Scheduler;
use super::rate::Arrival;
use super::remains::Remains;
use super::state::{Ms, QueueRef};
use crate::id::{Scope, SlotId, WorkerId};

#[derive(Debug, Default)]
pub(super) struct Turn {
    /// When to look at which queue: a timer of queues, not of tasks.
    wake: BTreeSet<(Ms, Sleeper)>,
    /// When the rate of which site lets the next task go.
    site_wakes: HashMap<String, Ms>,
    suspension_wakes: BTreeMap<Scope, Ms>,
    /// Tenants with active queues, by virtual time.
    tenants: BTreeSet<(u64, String)>,
    active: HashMap<String, Active>,
    /// Where a tenant was when it left ahead of everybody else.
    finishes: HashMap<String, u64>,
    blocked: HashMap<String, BTreeSet<(u64, QueueRef)>>,
    used: HashMap<String, u32>,
    /// Of sites with a rate, as long as it lies ahead.
    pub(super) arrivals: HashMap<String, Arrival>,
    /// Virtual time of the last grant.
    virtual_time: u64,
    /// Grants so far.
    pub(super) sequence: u64,
}

/// What a wake-up is for, in the order of the written forms; that of a queue alone has a `|`.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Sleeper {
    Queue(QueueRef),
    Site(String),
    /// And it begins with `!`.
    Suspension(Scope, String),
}

#[derive(Debug)]
struct Active {
    virtual_time: u64,
    queues: BTreeSet<(u64, QueueRef)>,
}

impl Turn {
    pub(super) fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// The least recently served queue of the tenant with the least virtual time, and that time.
    pub(super) fn first(&self) -> Option<(QueueRef, u64)> {
        let (virtual_time, tenant) = self.tenants.first()?;
        let (_, queue) = self.active.get(tenant)?.queues.first()?;
        Some((queue.clone(), *virtual_time))
    }

    pub(super) fn first_wake(&self) -> Option<Ms> {
        self.wake.first().map(|(at, _)| *at)
    }

    pub(super) fn used(&self, site: &str) -> u32 {
        self.used.get(site).copied().unwrap_or(0)
    }

    pub(super) fn take_slot(&mut self, site: &str) {
        *self.used.entry(site.to_owned()).or_default() += 1;
    }

    pub(super) fn served_at(&mut self, virtual_time: u64) {
        self.virtual_time = virtual_time;
    }

    pub(super) fn blocked_sites(&self) -> Vec<String> {
        self.blocked.keys().cloned().collect()
    }

    pub(super) fn is_blocked(&self, site: &str) -> bool {
        self.blocked.contains_key(site)
    }

    /// Instead of when it was to be woken before.
    pub(super) fn wake_suspension(&mut self, scope: &Scope, at: Ms) {
        self.clear_suspension_wake(scope);
        self.suspension_wakes.insert(scope.clone(), at);
        self.wake.insert((at, Sleeper::suspension(scope)));
    }

    pub(super) fn clear_suspension_wake(&mut self, scope: &Scope) {
        if let Some(at) = self.suspension_wakes.remove(scope) {
            self.wake.remove(&(at, Sleeper::suspension(scope)));
        }
    }

    /// Unless it is woken earlier.
    pub(super) fn wake_site(&mut self, site: &str, at: Ms) {
        let before = self.site_wakes.get(site).copied();
        if before.is_some_and(|before| before <= at) {
            return;
        }
        if let Some(before) = before {
            self.wake.remove(&(before, Sleeper::Site(site.to_owned())));
        }
        self.site_wakes.insert(site.to_owned(), at);
        self.wake.insert((at, Sleeper::Site(site.to_owned())));
    }

    pub(super) fn remains(&self) -> Remains {
        Remains {
            wakes: self.wake.len(),
            active_tenants: self.tenants.len(),
            blocked: self.blocked.values().map(BTreeSet::len).sum(),
            slots: self.used.values().sum::<u32>() as usize,
            ..Remains::default()
        }
    }

    fn set_virtual_time(&mut self, tenant: &str, virtual_time: u64) {
        if let Some(active) = self.active.get_mut(tenant) {
            self.tenants
                .remove(&(active.virtual_time, tenant.to_owned()));
            active.virtual_time = virtual_time;
            self.tenants.insert((virtual_time, tenant.to_owned()));
        }
    }
}

impl Scheduler {
    /// `queue` has got a task due at `due`. A blocked queue needs no wake-up of its own: the next
    /// free slot finds it, and its safety wake is set.
    pub(super) fn schedule(&mut self, queue: &QueueRef, due: Ms) {
        let Some(waiting) = self.queues.get_mut(queue.id()) else {
            return;
        };
        if waiting.blocked.is_some() || waiting.wake.is_some_and(|wake| wake <= due) {
            return;
        }
        if let Some(later) = waiting.wake.replace(due) {
            self.turn
                .wake
                .remove(&(later, Sleeper::Queue(queue.clone())));
        }
        self.turn.wake.insert((due, Sleeper::Queue(queue.clone())));
    }

    /// Queues whose time has come take part in the turn; a bounded number in one step. Then come those
    /// that wait for a token of their site, in their order, and those whose suspension has ended.
    pub(super) fn promote(&mut self, now: Ms) {
        let due = self.turn.wake.iter().take_while(|(at, _)| *at <= now);
        let due: Vec<Sleeper> = due
            .take(PROMOTED_AT_ONCE)
            .map(|(_, who)| who.clone())
            .collect();
        let mut others = Vec::new();
        for sleeper in due {
            match sleeper {
                Sleeper::Queue(queue) => {
                    self.clear_wake(&queue);
                    self.unblock_queue(&queue);
                    self.activate(&queue);
                }
                Sleeper::Site(ref site) => {
                    if let Some(at) = self.turn.site_wakes.remove(site) {
                        self.turn.wake.remove(&(at, sleeper.clone()));
                    }
                    others.push(sleeper);
                }
                Sleeper::Suspension(ref scope, _) => {
                    self.turn.clear_suspension_wake(scope);
                    others.push(sleeper);
                }
            }
        }
        for sleeper in others {
            match sleeper {
                Sleeper::Site(site) => self.unblock(now, &site, PROMOTED_AT_ONCE),
                Sleeper::Suspension(scope, _) => self.look_at_suspension(now, &scope),
                Sleeper::Queue(_) => {}
            }
        }
    }

    /// A queue enters at the current sequence, not at 0, or it would always go before a backlog. A
    /// tenant that comes back enters at the later of the virtual time and its last finish, so that
    /// leaving gains nothing.
    pub(super) fn activate(&mut self, queue: &QueueRef) {
        let Some(waiting) = self.queues.get_mut(queue.id()) else {
            return;
        };
        if waiting.active.is_some() {
            return;
        }
        let turn = &mut self.turn;
        waiting.active = Some(turn.sequence);
        let tenant = queue.tenant();
        if !turn.active.contains_key(tenant) {
            let finish = turn.finishes.remove(tenant).unwrap_or(0);
            let virtual_time = turn.virtual_time.max(finish);
            turn.tenants.insert((virtual_time, tenant.to_owned()));
            turn.active.insert(
                tenant.to_owned(),
                Active {
                    virtual_time,
                    queues: BTreeSet::new(),
                },
            );
        }
        if let Some(active) = turn.active.get_mut(tenant) {
            active.queues.insert((turn.sequence, queue.clone()));
        }
    }

    /// Takes a queue out of the turn. `virtual_time` is its tenant's, with what it was just given.
    pub(super) fn deactivate(&mut self, queue: &QueueRef, virtual_time: u64) {
        let Some(waiting) = self.queues.get_mut(queue.id()) else {
            return;
        };
        let Some(sequence) = waiting.active.take() else {
            return;
        };
        let tenant = queue.tenant();
        let turn = &mut self.turn;
        let Some(active) = turn.active.get_mut(tenant) else {
            return;
        };
        active.queues.remove(&(sequence, queue.clone()));
        if !active.queues.is_empty() {
            turn.set_virtual_time(tenant, virtual_time);
            return;
        }
        turn.tenants
            .remove(&(active.virtual_time, tenant.to_owned()));
        turn.active.remove(tenant);
        if virtual_time > turn.virtual_time {
            turn.finishes.insert(tenant.to_owned(), virtual_time);
        }
    }

    /// A served queue that stays goes behind its tenant's others.
    pub(super) fn requeue(&mut self, queue: &QueueRef, virtual_time: u64) {
        let Some(waiting) = self.queues.get_mut(queue.id()) else {
            return;
        };
        let turn = &mut self.turn;
        let last = waiting.active.replace(turn.sequence);
        if let Some(active) = turn.active.get_mut(queue.tenant()) {
            if let Some(last) = last {
                active.queues.remove(&(last, queue.clone()));
            }
            active.queues.insert((turn.sequence, queue.clone()));
        }
        turn.set_virtual_time(queue.tenant(), virtual_time);
    }

    /// Waits for a slot of the site: until one is released, or for the safety wake.
    pub(super) fn block(&mut self, now: Ms, queue: &QueueRef, virtual_time: u64) {
        self.schedule(queue, now + self.safety_wake);
        if let Some(waiting) = self.queues.get_mut(queue.id()) {
            waiting.blocked = Some(virtual_time);
            let site = self
                .turn
                .blocked
                .entry(queue.site().to_owned())
                .or_default();
            site.insert((virtual_time, queue.clone()));
        }
    }

    /// A queue that left the turn has a cause to be looked at again, or nothing in it. `withheld`:
    /// some of its due tasks may be claimed by others but not by this caller.
    pub(super) fn park(&mut self, now: Ms, queue: &QueueRef, withheld: bool) {
        if withheld {
            self.schedule(queue, now + WITHHELD_WAKE);
        }
        let Some(waiting) = self.queues.get(queue.id()) else {
            return;
        };
        let later = (
            now + 1,
            crate::id::TaskId::new(crate::id::MessageId::from_octets([0; 16]), 0),
        );
        let next = waiting.tasks.range(later..).next().map(|(due, _)| *due);
        match next {
            Some(due) => self.schedule(queue, due),
            None => self.forget(queue),
        }
    }

    /// Lets up to `most` queues go that wait for `site`: one for each free slot and each token.
    pub(super) fn unblock(&mut self, now: Ms, site: &str, most: usize) {
        if !self.turn.is_blocked(site) {
            return;
        }
        let free = self.limits.of(site).saturating_sub(self.turn.used(site)) as usize;
        if free == 0 {
            return;
        }
        let tokens = self.tokens(now, site).unwrap_or(usize::MAX);
        if tokens == 0 {
            self.wake_at_rate(now, site);
            return;
        }
        let blocked = self.turn.blocked.get(site);
        let first: Vec<QueueRef> = blocked
            .into_iter()
            .flatten()
            .take(most.min(free).min(tokens))
            .map(|(_, queue)| queue.clone())
            .collect();
        for queue in first {
            self.unblock_queue(&queue);
            self.clear_wake(&queue);
            self.activate(&queue);
        }
    }

    /// A slot is a member of its worker's set: the count falls only with the member, so a repeated
    /// release frees nothing. For each that is free a blocked queue goes.
    pub(super) fn free_slots(&mut self, now: Ms, worker: WorkerId, slots: &[SlotId]) {
        let mut freed: BTreeMap<String, usize> = BTreeMap::new();
        for slot in slots {
            let Some(member) = self.workers.get_mut(&worker) else {
                return;
            };
            let Some(site) = member.slots.remove(slot) else {
                continue;
            };
            if let Some(used) = self.turn.used.get_mut(&site) {
                *used -= 1;
                if *used == 0 {
                    self.turn.used.remove(&site);
                }
            }
            *freed.entry(site).or_default() += 1;
        }
        for (site, count) in freed {
            self.unblock(now, &site, count);
        }
    }

    fn unblock_queue(&mut self, queue: &QueueRef) {
        let Some(waiting) = self.queues.get_mut(queue.id()) else {
            return;
        };
        let Some(virtual_time) = waiting.blocked.take() else {
            return;
        };
        if let Some(queues) = self.turn.blocked.get_mut(queue.site()) {
            queues.remove(&(virtual_time, queue.clone()));
            if queues.is_empty() {
                self.turn.blocked.remove(queue.site());
            }
        }
    }

    fn clear_wake(&mut self, queue: &QueueRef) {
        if let Some(at) = self
            .queues
            .get_mut(queue.id())
            .and_then(|waiting| waiting.wake.take())
        {
            self.turn.wake.remove(&(at, Sleeper::Queue(queue.clone())));
        }
    }

    /// Nothing is kept of a queue that is empty and that nobody will look at.
    fn forget(&mut self, queue: &QueueRef) {
        if self.queues.get(queue.id()).is_some_and(|waiting| {
            waiting.tasks.is_empty()
                && waiting.wake.is_none()
                && waiting.active.is_none()
                && waiting.blocked.is_none()
        }) {
            self.queues.remove(queue.id());
        }
    }
}

impl Sleeper {
    fn suspension(scope: &Scope) -> Self {
        Self::Suspension(scope.clone(), format!("!{scope}"))
    }

    fn written(&self) -> &str {
        match self {
            Self::Queue(queue) => queue.written(),
            Self::Site(site) => site,
            Self::Suspension(_, written) => written,
        }
    }
}

impl Ord for Sleeper {
    fn cmp(&self, other: &Self) -> Ordering {
        self.written().cmp(other.written())
    }
}

impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Wake-ups in one step, and queues that one wake-up of a site lets go.
pub(super) const PROMOTED_AT_ONCE: usize = 64;
/// When a queue whose due tasks this caller must not be given is offered again.
const WITHHELD_WAKE: Ms = 1000;
