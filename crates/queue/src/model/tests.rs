//! Laws of the scheduler under any schedule, looked at from inside; what callers see is the
//! business of the conformance suite.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;

use super::state::Place;
use super::{Remains, Scheduler};
use crate::id::{Call, Handle, MessageId, QueueId, SlotId, TaskId, WorkerId};
use crate::operation::{
    Act, Acted, Action, Beat, Claim, Claimed, Limits, Next, NextReply, Rate, Rest, Settlement,
    Taken, Then, Timing,
};

const TIMING: Timing = Timing {
    lease: Duration::from_secs(30),
    beat: Duration::from_secs(5),
    claim: Duration::from_secs(120),
    begun: Duration::from_secs(1800),
    safety_wake: Duration::from_secs(30),
};

#[derive(Clone, Debug)]
enum Step {
    Enqueue {
        queues: Vec<u8>,
        lifetime_ms: u64,
    },
    Claim {
        worker: u8,
        grants: u16,
        tasks: u16,
        withheld: bool,
    },
    Begin {
        worker: u8,
        claimed: Index,
    },
    Settle {
        worker: u8,
        claimed: Index,
        outcome: Outcome,
        stale: bool,
    },
    Release {
        worker: u8,
        slot: Index,
        twice: bool,
    },
    Expire {
        worker: u8,
    },
    Abort {
        worker: u8,
        message: Index,
    },
    Beat {
        worker: u8,
    },
    Crash {
        worker: u8,
    },
    Act {
        message: Index,
        deed: u8,
    },
    Limit {
        concurrency: u32,
    },
    Pass {
        ms: u64,
    },
}

#[derive(Clone, Debug)]
enum Outcome {
    Delivered,
    Partly,
    Failed,
    Deferred { ms: u64 },
    GivenBack,
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        Just(Outcome::Delivered),
        Just(Outcome::Partly),
        Just(Outcome::Failed),
        (0..100_000u64).prop_map(|ms| Outcome::Deferred { ms }),
        Just(Outcome::GivenBack),
    ];
    prop_oneof![
        4 => (prop::collection::vec(0..6u8, 1..4), 1..200_000u64)
            .prop_map(|(queues, lifetime_ms)| Step::Enqueue { queues, lifetime_ms }),
        6 => (0..3u8, 0..4u16, 1..4u16, any::<bool>())
            .prop_map(|(worker, grants, tasks, withheld)| Step::Claim { worker, grants, tasks, withheld }),
        2 => (0..3u8, any::<Index>()).prop_map(|(worker, claimed)| Step::Begin { worker, claimed }),
        6 => (0..3u8, any::<Index>(), outcome, prop::bool::weighted(0.2))
            .prop_map(|(worker, claimed, outcome, stale)| Step::Settle { worker, claimed, outcome, stale }),
        4 => (0..3u8, any::<Index>(), any::<bool>())
            .prop_map(|(worker, slot, twice)| Step::Release { worker, slot, twice }),
        1 => (0..3u8).prop_map(|worker| Step::Expire { worker }),
        1 => (0..3u8, any::<Index>()).prop_map(|(worker, message)| Step::Abort { worker, message }),
        4 => (0..3u8).prop_map(|worker| Step::Beat { worker }),
        1 => (0..3u8).prop_map(|worker| Step::Crash { worker }),
        3 => (any::<Index>(), 0..6u8).prop_map(|(message, deed)| Step::Act { message, deed }),
        1 => (1..4u32).prop_map(|concurrency| Step::Limit { concurrency }),
        4 => (0..40_000u64).prop_map(|ms| Step::Pass { ms }),
    ]
}

/// Three processes that keep what they were given, and what they once had.
struct World {
    scheduler: Scheduler,
    now: u64,
    random: u128,
    workers: Vec<Process>,
    messages: Vec<(MessageId, Vec<Handle>)>,
    generation: u64,
}

struct Process {
    id: WorkerId,
    n: u64,
    claimed: Vec<Claimed>,
    slots: Vec<SlotId>,
    former: Vec<Claimed>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            scheduler: Scheduler::new(&TIMING),
            now: 1_000_000,
            random: 1,
            workers: Vec::new(),
            messages: Vec::new(),
            generation: 0,
        };
        for _ in 0..3 {
            let process = world.start();
            world.workers.push(process);
        }
        world.limit(2);
        world
    }

    fn start(&mut self) -> Process {
        self.random += 1;
        let id = WorkerId::from_octets(self.random.to_be_bytes());
        assert!(self.scheduler.register(self.now, id));
        assert!(
            !self.scheduler.register(self.now, id),
            "a known id is refused"
        );
        Process {
            id,
            n: 0,
            claimed: Vec::new(),
            slots: Vec::new(),
            former: Vec::new(),
        }
    }

    fn limit(&mut self, concurrency: u32) {
        self.generation += 1;
        let limits = Limits {
            generation: self.generation,
            concurrency_default: concurrency,
            // None, or one that lets few tasks go.
            rate_default: concurrency.is_multiple_of(2).then_some(Rate {
                messages: 7,
                per: Duration::from_secs(3),
                burst: 2,
            }),
            ..Limits::default()
        };
        self.scheduler.set_limits(self.now, &limits);
    }

    fn call(&mut self, worker: usize) -> Call {
        let process = &mut self.workers[worker];
        process.n += 1;
        Call {
            worker: process.id,
            lane: 0,
            n: process.n,
        }
    }

    fn next(
        &mut self,
        worker: usize,
        settlements: Vec<Settlement>,
        releases: Vec<SlotId>,
        claim: Option<Claim>,
    ) -> Option<NextReply> {
        let call = self.call(worker);
        let next = Next {
            call,
            settlements,
            releases,
            claim,
        };
        match self.scheduler.next(self.now, &next) {
            Taken::Ran(reply) => {
                let process = &mut self.workers[worker];
                for grant in &reply.grants {
                    process.slots.push(grant.slot);
                    process.claimed.extend(grant.tasks.iter().cloned());
                }
                process.claimed.extend(reply.named.iter().cloned());
                let idle = reply.grants.is_empty()
                    && reply.named.is_empty()
                    && next.settlements.is_empty()
                    && next.releases.is_empty();
                let again = self.scheduler.next(self.now, &next);
                if !idle {
                    assert_eq!(again, Taken::Refused, "a repeated call changes nothing");
                }
                Some(reply)
            }
            Taken::Expired => {
                // Beat, then repeat the same call.
                self.beat(worker);
                if self.workers[worker].id != next.call.worker {
                    return None;
                }
                self.workers[worker].n -= 1;
                self.next(worker, next.settlements, next.releases, next.claim)
            }
            Taken::Reaped => {
                self.restart(worker);
                None
            }
            Taken::Refused => panic!("a new call is not refused"),
        }
    }

    fn beat(&mut self, worker: usize) {
        loop {
            match self.scheduler.beat(self.now, self.workers[worker].id) {
                Beat::Renewed { more: true, .. } => {}
                Beat::Renewed { .. } => return,
                Beat::Reaped => return self.restart(worker),
            }
        }
    }

    fn restart(&mut self, worker: usize) {
        let mut process = self.start();
        let old = &mut self.workers[worker];
        process.former = std::mem::take(&mut old.former);
        process.former.append(&mut old.claimed);
        self.workers[worker] = process;
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Enqueue {
                queues,
                lifetime_ms,
            } => {
                self.random += 1;
                let id = MessageId::from_octets(self.random.to_be_bytes());
                let queues: Vec<QueueId> = queues.iter().map(|number| queue(*number)).collect();
                let call = self.call(0);
                let admitted = self
                    .scheduler
                    .admit_enqueue(self.now, call, std::iter::empty());
                match admitted.expect("nothing is in chunks") {
                    Taken::Ran(()) => {}
                    Taken::Reaped => return self.restart(0),
                    other => panic!("{other:?}"),
                }
                self.scheduler.insert(self.now, id, lifetime_ms, &queues);
                let handles = (0..)
                    .zip(queues)
                    .map(|(k, queue)| Handle::new(TaskId::new(id, k), queue));
                self.messages.push((id, handles.collect()));
            }
            Step::Claim {
                worker,
                grants,
                tasks,
                withheld,
            } => {
                let worker = usize::from(worker);
                let withheld = if withheld {
                    self.workers[worker]
                        .former
                        .iter()
                        .map(|claimed| claimed.handle.task)
                        .collect()
                } else {
                    Vec::new()
                };
                let claim = Claim {
                    grants,
                    tasks_per_grant: tasks,
                    withheld: withheld.clone(),
                    by_name: Vec::new(),
                };
                if let Some(reply) = self.next(worker, Vec::new(), Vec::new(), Some(claim)) {
                    let given = reply.grants.iter().flat_map(|grant| &grant.tasks);
                    assert!(
                        given
                            .clone()
                            .all(|claimed| !withheld.contains(&claimed.handle.task))
                    );
                    assert!(
                        reply.grants.iter().all(|grant| !grant.tasks.is_empty()
                            && grant.tasks.len() <= usize::from(tasks))
                    );
                }
            }
            Step::Begin { worker, claimed } => {
                let process = &self.workers[usize::from(worker)];
                if !process.claimed.is_empty() {
                    let handle = claimed.get(&process.claimed).handle.clone();
                    self.scheduler.begin(self.now, process.id, &[handle]);
                }
            }
            Step::Settle {
                worker,
                claimed,
                outcome,
                stale,
            } => {
                let worker = usize::from(worker);
                let process = &mut self.workers[worker];
                let from = if stale {
                    &mut process.former
                } else {
                    &mut process.claimed
                };
                if !from.is_empty() {
                    let claimed = from.swap_remove(claimed.index(from.len()));
                    self.next(
                        worker,
                        vec![settlement(&claimed, &outcome)],
                        Vec::new(),
                        None,
                    );
                }
            }
            Step::Release {
                worker,
                slot,
                twice,
            } => {
                let worker = usize::from(worker);
                let process = &mut self.workers[worker];
                if !process.slots.is_empty() {
                    let slot = process.slots.swap_remove(slot.index(process.slots.len()));
                    let slots = if twice { vec![slot, slot] } else { vec![slot] };
                    self.next(worker, Vec::new(), slots, None);
                }
            }
            Step::Expire { worker } => {
                let expiring = self.scheduler.expiring(self.now, 10);
                assert!(
                    self.scheduler
                        .expiring(self.now, 10)
                        .iter()
                        .all(|again| !expiring.contains(again)),
                    "put off for everybody else"
                );
                let by_name = self
                    .messages
                    .iter()
                    .filter(|(id, _)| expiring.contains(id))
                    .flat_map(|(_, handles)| handles.clone())
                    .collect();
                let claim = Claim {
                    grants: 0,
                    tasks_per_grant: 1,
                    withheld: Vec::new(),
                    by_name,
                };
                if let Some(reply) =
                    self.next(usize::from(worker), Vec::new(), Vec::new(), Some(claim))
                {
                    assert!(
                        reply
                            .named
                            .iter()
                            .all(|claimed| claimed.expires_in.is_zero())
                    );
                }
            }
            Step::Abort { worker, message } => {
                if !self.messages.is_empty() {
                    let (id, handles) = message.get(&self.messages).clone();
                    let call = self.call(usize::from(worker));
                    self.scheduler.abort(self.now, call, id, &handles);
                }
            }
            Step::Beat { worker } => self.beat(usize::from(worker)),
            Step::Crash { worker } => {
                let process = self.start();
                self.workers[usize::from(worker)] = process;
            }
            Step::Act { message, deed } => {
                if !self.messages.is_empty() {
                    let handle = message.get(&self.messages).1[0].clone();
                    let action = match deed {
                        0 => Action::Drop { notice: None },
                        1 => Action::Retry,
                        2 | 3 => Action::Release,
                        _ => Action::Hold {
                            reason: "looked at".to_owned(),
                        },
                    };
                    let act = [Act { handle, action }];
                    self.scheduler.act(self.now, &act);
                    let (again, _) = self.scheduler.act(self.now, &act);
                    assert!(
                        matches!(again[..], [Acted::Missing | Acted::Unchanged]),
                        "{again:?}"
                    );
                }
            }
            Step::Limit { concurrency } => self.limit(concurrency),
            Step::Pass { ms } => self.now += ms,
        }
    }

    /// All that must be true between any two steps.
    fn check(&self) {
        let scheduler = &self.scheduler;
        let mut claims: BTreeMap<WorkerId, BTreeSet<TaskId>> = BTreeMap::new();
        let mut open: HashMap<MessageId, u16> = HashMap::new();
        let mut held = 0;
        for (id, task) in &scheduler.tasks {
            *open.entry(id.message).or_default() += 1;
            match task.place {
                Place::Waiting { due } => {
                    assert!(
                        scheduler.queues[task.queue.id()]
                            .tasks
                            .contains(&(due, *id))
                    );
                }
                Place::Held { since } => {
                    held += 1;
                    assert!(scheduler.held.contains(&(since, *id)));
                    let state = task.state.as_deref();
                    assert!(state.is_some_and(|state| state.hold.is_some()));
                }
                Place::Claimed {
                    by,
                    deadline,
                    begun,
                } => {
                    assert!(
                        scheduler.workers[&by]
                            .claims
                            .contains(&(deadline, begun, *id))
                    );
                    claims.entry(by).or_default().insert(*id);
                }
            }
        }
        assert_eq!(scheduler.held.len(), held);
        assert_eq!(open.len(), scheduler.messages.len());
        for (id, message) in &scheduler.messages {
            assert_eq!(open[id], message.open);
            assert!(scheduler.expiry.contains(&(message.expires, *id)));
        }
        assert_eq!(scheduler.expiry.len(), scheduler.messages.len());
        let mut used: BTreeMap<&str, u32> = BTreeMap::new();
        for (id, worker) in &scheduler.workers {
            assert_eq!(worker.claims.len(), claims.get(id).map_or(0, BTreeSet::len));
            worker
                .slots
                .values()
                .for_each(|site| *used.entry(site).or_default() += 1);
        }
        for number in 0..6 {
            let site = queue(number).route;
            assert_eq!(
                scheduler.turn.used(&site),
                used.get(&*site).copied().unwrap_or(0)
            );
        }
        for queue in scheduler.queues.values() {
            let looked_for = queue.active.is_some() || queue.wake.is_some();
            assert!(
                looked_for || queue.tasks.is_empty(),
                "{queue:?} sleeps for ever"
            );
            if queue.blocked.is_some() {
                let wake = queue.wake.expect("a blocked queue has a safety wake");
                assert!(wake <= self.now + 30_000 && queue.active.is_none());
            }
        }
    }

    /// Everybody settles what there is; slots and workers go. Nothing may be left.
    fn finish(&mut self) -> Remains {
        // Who died is found out, and what it held goes back.
        for _ in 0..40 {
            self.now += 5_000;
            (0..3).for_each(|worker| self.beat(worker));
        }
        self.limit(20);
        let handles = self.messages.iter().flat_map(|(_, handles)| handles);
        let release = |handle: &Handle| Act {
            handle: handle.clone(),
            action: Action::Release,
        };
        let releases: Vec<_> = handles.map(release).collect();
        for _ in 0..10_000 {
            self.scheduler.act(self.now, &releases);
            for worker in 0..3 {
                let process = &mut self.workers[worker];
                let settlements = process
                    .claimed
                    .drain(..)
                    .map(|claimed| settlement(&claimed, &Outcome::Delivered))
                    .collect();
                let releases = std::mem::take(&mut process.slots);
                let claim = Claim {
                    grants: 10,
                    tasks_per_grant: 10,
                    withheld: Vec::new(),
                    by_name: Vec::new(),
                };
                let reply = self.next(worker, settlements, releases, Some(claim));
                if let Some(NextReply {
                    then: Then::Sleep(ms),
                    grants,
                    ..
                }) = &reply
                    && grants.is_empty()
                {
                    self.now += ms.as_millis() as u64;
                    (0..3).for_each(|worker| self.beat(worker));
                }
            }
            let idle = self
                .workers
                .iter()
                .all(|process| process.claimed.is_empty() && process.slots.is_empty());
            if idle && self.scheduler.remains().queues == 0 {
                break;
            }
        }
        let survivor = self.start();
        for _ in 0..20 {
            self.now += 5_000;
            while let Beat::Renewed { more: true, .. } = self.scheduler.beat(self.now, survivor.id)
            {
            }
        }
        self.scheduler.remains()
    }
}

fn queue(number: u8) -> QueueId {
    QueueId {
        tenant: format!("t{}", number % 2),
        class: String::new(),
        egress: String::new(),
        route: format!("mx:{}.example", number / 2),
    }
}

fn settlement(claimed: &Claimed, outcome: &Outcome) -> Settlement {
    let (delivered, failed, rest) = match outcome {
        Outcome::Delivered => (vec![0, 1], vec![], Rest::None),
        Outcome::Partly => (
            vec![0],
            vec![],
            Rest::Deferred {
                due_in: Duration::from_secs(1),
                notes: Bytes::from_static(b"{}"),
            },
        ),
        Outcome::Failed => (vec![], vec![0, 1], Rest::None),
        Outcome::Deferred { ms } => (
            vec![],
            vec![],
            Rest::Deferred {
                due_in: Duration::from_millis(*ms),
                notes: Bytes::new(),
            },
        ),
        Outcome::GivenBack => (vec![], vec![], Rest::GivenBack),
    };
    Settlement {
        handle: claimed.handle.clone(),
        delivered,
        failed,
        recipients: 2,
        rest,
        notification: None,
        journal: Bytes::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn every_schedule_keeps_the_laws_and_ends_with_nothing(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
            world.check();
        }
        let left = world.finish();
        world.check();
        prop_assert_eq!(left, Remains { workers: 1, ..Remains::default() });
    }
}
