use std::collections::HashSet;
use std::time::Duration;

use queue::operation::Limits;
use queue::worker::Settings;

use crate::faulty::{Fault, Operation};
use crate::world::{TIMING, World, deferred, deliver, delivered, grant, granted, message};

#[tokio::test(start_paused = true)]
async fn from_enqueue_to_settlement() {
    let world = World::new();
    let worker = world.worker();
    worker.enqueue(message("example.org")).await.unwrap();
    let mut grant = grant(&worker).await;
    assert_eq!(grant.queue.route, "mx:example.org");
    let mut claim = grant.take().unwrap();
    assert!(grant.is_empty());
    assert_eq!(
        claim.record().await.unwrap().header.reverse_path,
        "s@example.com"
    );
    assert_eq!(claim.last_octet_now(), Some(false), "it has not been begun");
    grant.begin(&mut claim);
    assert_eq!(claim.last_octet_now(), None, "begin is not answered");
    assert!(claim.last_octet().await);
    assert_eq!(claim.last_octet_now(), Some(true));
    assert_eq!(worker.claims(), 1);
    claim.settle(delivered());
    drop(grant);
    world.until_empty().await;
    assert_eq!(worker.claims(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_goes_back_with_its_slot() {
    let world = World::new();
    let worker = world.worker();
    let limits = Limits {
        generation: 1,
        concurrency_default: 1,
        concurrency: Vec::new(),
        ..Limits::default()
    };
    worker.set_limits(&limits).await.unwrap();
    for _ in 0..3 {
        worker.enqueue(message("example.org")).await.unwrap();
    }
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let mut grant = grant(&worker).await;
        seen.extend(std::iter::from_fn(|| grant.take()).map(|claim| claim.handle().task));
    }
    assert_eq!(seen.len(), 3);
    world
        .until("all of it waits again", |counts| {
            (counts.ready, counts.in_flight) == (3, 0)
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_call_of_next_is_resolved() {
    for fault in [
        Fault::ReplyLost,
        Fault::RequestLost,
        Fault::Late,
        Fault::Unreachable,
    ] {
        let world = World::new();
        let worker = world.worker();
        for _ in 0..10 {
            worker.enqueue(message("example.org")).await.unwrap();
        }
        world.queue.inject(Operation::Next, fault);
        world.queue.inject(Operation::Resolve, Fault::ReplyLost);
        let mut tasks = HashSet::new();
        while tasks.len() < 10 {
            let mut grant = grant(&worker).await;
            while let Some(claim) = grant.take() {
                assert!(
                    tasks.insert(claim.handle().task),
                    "{fault:?}: claimed twice"
                );
                assert!(deliver(&mut grant, claim).await);
            }
            world.queue.run_late().await;
        }
        world.until_empty().await;
        world.queue.run_late().await;
        world.until_empty().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_settlement_whose_reply_is_lost_counts_once() {
    for fault in [Fault::ReplyLost, Fault::RequestLost, Fault::Late] {
        let world = World::new();
        let worker = world.worker();
        worker.enqueue(message("example.org")).await.unwrap();
        let mut first = grant(&worker).await;
        let claim = first.take().unwrap();
        world.queue.inject(Operation::Next, fault);
        claim.settle(deferred(Duration::from_secs(60)));
        drop(first);
        world.until("deferred", |counts| counts.deferred == 1).await;
        world.queue.run_late().await;
        let mut second = grant(&worker).await;
        let claim = second.take().unwrap();
        assert_eq!(claim.state().attempts, 1, "{fault:?}");
        assert!(deliver(&mut second, claim).await);
        drop(second);
        world.until_empty().await;
    }
}

#[tokio::test(start_paused = true)]
async fn begin_is_repeated_until_it_is_answered() {
    let world = World::new();
    let worker = world.worker();
    worker.enqueue(message("example.org")).await.unwrap();
    for fault in [Fault::ReplyLost, Fault::Unreachable, Fault::Late] {
        world.queue.inject(Operation::Begin, fault);
    }
    let mut grant = grant(&worker).await;
    let claim = grant.take().unwrap();
    assert!(deliver(&mut grant, claim).await);
    assert_eq!(world.queue.pending_faults(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_dot_while_too_much_is_unconfirmed() {
    let world = World::new();
    let settings = Settings {
        unconfirmed: 3,
        ..world.settings()
    };
    let worker = world.worker_with(settings);
    for _ in 0..6 {
        worker.enqueue(message("example.org")).await.unwrap();
    }
    let mut claims = Vec::new();
    let mut grants = Vec::new();
    while claims.len() < 6 {
        let mut grant = grant(&worker).await;
        while let Some(mut claim) = grant.take() {
            grant.begin(&mut claim);
            assert!(claim.last_octet().await);
            claims.push(claim);
        }
        grants.push(grant);
    }
    world.queue.always(Operation::Next, Fault::Unreachable);
    for _ in 0..3 {
        claims.pop().unwrap().settle(delivered());
    }
    assert_eq!(
        claims[0].last_octet_now(),
        Some(true),
        "three may be unconfirmed"
    );
    claims.pop().unwrap().settle(delivered());
    assert_eq!(claims[0].last_octet_now(), None, "four are too many");
    world.queue.heal();
    assert!(claims[0].last_octet().await, "they are confirmed now");

    world.queue.always(Operation::Next, Fault::Unreachable);
    claims.pop().unwrap().settle(delivered());
    assert_eq!(claims[0].last_octet_now(), Some(true));
    tokio::time::sleep(Duration::from_millis(1001)).await;
    assert_eq!(
        claims[0].last_octet_now(),
        None,
        "one is unconfirmed for too long"
    );
    world.queue.heal();
    assert!(claims[0].last_octet().await);
    claims.pop().unwrap().settle(delivered());
    drop(grants);
    world.until_empty().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_hardly_calls_and_wakes_at_once() {
    let world = World::new();
    let worker = world.worker();
    worker.want(4);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = world.queue.calls(Operation::Next);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let calls = world.queue.calls(Operation::Next) - before;
    assert!((10..=42).contains(&calls), "{calls} calls in 10 s");

    let started = tokio::time::Instant::now();
    worker.enqueue(message("example.org")).await.unwrap();
    granted(&worker).await;
    assert!(
        started.elapsed() <= Duration::from_millis(3),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_may_not_claim_accepts() {
    let world = World::new();
    let (worker, other) = (world.worker(), world.other_worker());
    worker.set_claiming(false);
    assert!(!worker.is_claiming());
    worker.want(1);
    worker.enqueue(message("example.org")).await.unwrap();
    let work = tokio::time::timeout(Duration::from_secs(60), worker.work()).await;
    assert!(work.is_err(), "{work:?}");
    drop(grant(&other).await);
    other.set_claiming(false);
    worker.set_claiming(true);
    granted(&worker).await;
}

#[tokio::test(start_paused = true)]
async fn under_load_a_call_carries_many() {
    let world = World::new();
    let worker = world.worker();
    for _ in 0..2000 {
        worker.enqueue(message("example.org")).await.unwrap();
    }
    let (next, begin) = (
        world.queue.calls(Operation::Next),
        world.queue.calls(Operation::Begin),
    );
    worker.want(20);
    let mut agents = tokio::task::JoinSet::new();
    let mut done = 0;
    while done < 2000 {
        tokio::select! {
            grant = granted(&worker) => {
                let mut grant = grant;
                agents.spawn(async move {
                    let mut delivered = 0;
                    while let Some(claim) = grant.take() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        assert!(deliver(&mut grant, claim).await);
                        delivered += 1;
                    }
                    delivered
                });
            }
            Some(delivered) = agents.join_next() => {
                done += delivered.unwrap();
                worker.want(1);
            }
        }
    }
    world.until_empty().await;
    let next = world.queue.calls(Operation::Next) - next;
    let begin = world.queue.calls(Operation::Begin) - begin;
    assert!(
        next + begin <= 2000 * 15 / 100,
        "{next} calls of next, {begin} of begin for 2000"
    );
}

#[tokio::test(start_paused = true)]
async fn draining_gives_back_and_confirms() {
    let world = World::new();
    let worker = world.worker();
    for domain in ["a.example", "a.example", "b.example"] {
        worker.enqueue(message(domain)).await.unwrap();
    }
    let mut first = grant(&worker).await;
    let claim = first.take().unwrap();
    // Granted, and never picked up.
    worker.want(1);
    world.until("claimed", |counts| counts.in_flight >= 2).await;
    let draining = tokio::spawn({
        let worker = worker.clone();
        async move { worker.drain(Duration::from_secs(10)).await }
    });
    assert!(deliver(&mut first, claim).await);
    drop(first);
    assert!(draining.await.unwrap());
    let counts = world.counts().await;
    assert_eq!((counts.ready, counts.in_flight), (2, 0));
    assert!(worker.work().await.is_none());
    assert!(worker.enqueue(message("c.example")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn draining_has_an_end() {
    let world = World::new();
    let worker = world.worker();
    worker.enqueue(message("example.org")).await.unwrap();
    let grant = grant(&worker).await;
    assert!(!worker.drain(Duration::from_secs(10)).await);
    drop(grant);
}

/// Whatever goes wrong, every message is settled, and none delivered twice: nobody here dies
/// between the last octet and the settlement.
#[tokio::test(start_paused = true)]
async fn in_chaos_nothing_is_lost_or_delivered_twice() {
    for seed in 1..=20 {
        let world = World::new();
        let worker = world.worker();
        worker
            .status()
            .wait_for(|status| status.reachable)
            .await
            .unwrap();
        world.queue.chaos(20, seed);
        let mut accepted = HashSet::new();
        for n in 0..60 {
            let message = message(["a.example", "b.example", "c.example"][n % 3]);
            let id = message.id;
            if worker.enqueue(message).await.is_ok() {
                accepted.insert(id);
            }
        }
        assert!(
            accepted.len() > 20,
            "seed {seed}: {} accepted",
            accepted.len()
        );
        let mut delivered = HashSet::new();
        let mut idle = 0;
        worker.want(4);
        while idle < 3 {
            let work = tokio::time::timeout(Duration::from_secs(60), worker.work()).await;
            let Ok(work) = work else {
                idle += 1;
                world.queue.heal();
                continue;
            };
            let Some(queue::worker::Work::Deliver(mut grant)) = work else {
                panic!("seed {seed}: {work:?}");
            };
            while let Some(claim) = grant.take() {
                let id = claim.handle().task.message;
                if claim.state().attempts == 0 && id.octets()[15] % 3 == 0 {
                    claim.settle(deferred(Duration::from_secs(5)));
                } else if deliver(&mut grant, claim).await {
                    assert!(delivered.insert(id), "seed {seed}: {id} delivered twice");
                }
            }
            drop(grant);
            worker.want(1);
            world.queue.run_late().await;
        }
        world.until_empty().await;
        let lost: Vec<_> = accepted.difference(&delivered).collect();
        assert!(lost.is_empty(), "seed {seed}: lost {lost:?}");
    }
}

/// One outcome that the queue can make nothing of holds up neither the others nor the lanes, and is
/// not repeated without a pause.
#[tokio::test(start_paused = true)]
async fn an_outcome_that_is_refused_for_good_is_parted_from_the_others() {
    let world = World::new();
    let settings = Settings {
        lanes: 1,
        ..world.settings()
    };
    let worker = world.worker_with(settings);
    for _ in 0..8 {
        worker.enqueue(message("example.org")).await.unwrap();
    }
    worker.want(8);
    let mut grants = Vec::new();
    let mut claims = Vec::new();
    while claims.len() < 8 {
        let mut grant = granted(&worker).await;
        claims.extend(std::iter::from_fn(|| grant.take()));
        grants.push(grant);
    }
    world.queue.spoil(claims[3].handle().task);
    let before = world.queue.calls(Operation::Next);
    claims
        .into_iter()
        .for_each(|claim| claim.settle(delivered()));
    world
        .until("one is left", |counts| counts.in_flight == 1)
        .await;
    drop(grants);
    // It is left to its deadline.
    let start = tokio::time::Instant::now();
    while worker.claims() > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(start.elapsed() < 2 * TIMING.lease, "{:?}", start.elapsed());
    let calls = world.queue.calls(Operation::Next) - before;
    assert!(calls < 150, "{calls} calls");
    worker.enqueue(message("example.org")).await.unwrap();
    let mut next = grant(&worker).await;
    let claim = next.take().unwrap();
    assert!(deliver(&mut next, claim).await);
}

/// A process that drains leaves no slot in use behind, or others wait for the reaper.
#[tokio::test(start_paused = true)]
async fn draining_waits_until_slots_are_released() {
    let world = World::new();
    let worker = world.worker();
    worker.enqueue(message("example.org")).await.unwrap();
    let mut first = grant(&worker).await;
    let claim = first.take().unwrap();
    assert!(deliver(&mut first, claim).await);
    world.until_empty().await;
    let remains = world.queue.model().remains();
    assert_eq!(remains.slots, 1, "{remains:?}");

    world.queue.always(Operation::Next, Fault::Unreachable);
    drop(first);
    let draining = tokio::spawn({
        let worker = worker.clone();
        async move { worker.drain(Duration::from_secs(10)).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.queue.heal();
    assert!(draining.await.unwrap());
    let remains = world.queue.model().remains();
    assert_eq!(remains.slots, 0, "{remains:?}");
}
