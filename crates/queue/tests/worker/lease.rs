use std::time::Duration;

use queue::Queue as _;
use queue::id::Call;
use queue::operation::{Next, Rest, Settlement};

use crate::faulty::{Fault, Operation};
use crate::world::{TIMING, World, deferred, deliver, delivered, grant, granted, message};

/// Cuts the faulty worker off, until another pod has reaped it.
async fn reaped(world: &World) {
    for operation in [
        Operation::Beat,
        Operation::Next,
        Operation::Begin,
        Operation::Register,
    ] {
        world.queue.always(operation, Fault::Unreachable);
    }
    tokio::time::sleep(2 * TIMING.lease + TIMING.beat).await;
}

#[tokio::test(start_paused = true)]
async fn without_beats_nothing_is_started_and_no_last_octet_sent() {
    let world = World::new();
    let worker = world.worker();
    for _ in 0..2 {
        worker.enqueue(message("example.org")).await.unwrap();
    }
    let mut grant = grant(&worker).await;
    let mut claim = grant.take().unwrap();
    grant.begin(&mut claim);
    assert!(claim.last_octet().await);
    // Everything but the beats gets through.
    world.queue.always(Operation::Beat, Fault::Unreachable);
    tokio::time::sleep(TIMING.lease * 2 / 3 - TIMING.beat - Duration::from_millis(100)).await;
    assert_eq!(claim.last_octet_now(), Some(true));
    tokio::time::sleep(TIMING.beat + Duration::from_millis(200)).await;
    assert_eq!(claim.last_octet_now(), Some(false));
    assert!(!claim.may_start());
    worker.want(1);
    let work = tokio::time::timeout(Duration::from_secs(5), worker.work()).await;
    assert!(work.is_err(), "{work:?}");

    world.queue.heal();
    granted(&worker).await;
    assert_eq!(
        claim.last_octet_now(),
        Some(true),
        "nobody reaped it, so it goes on"
    );
    assert!(!grant.fenced().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_lease_renewed_late_is_renewed() {
    let world = World::new();
    let worker = world.worker();
    worker.enqueue(message("example.org")).await.unwrap();
    let before = worker.id();
    world.queue.always(Operation::Beat, Fault::Unreachable);
    tokio::time::sleep(TIMING.lease + TIMING.beat).await;
    world.queue.heal();
    // Both lanes meet an expired lease, beat, and repeat the same call.
    worker.enqueue(message("example.org")).await.unwrap();
    let mut grant = grant(&worker).await;
    let claim = grant.take().unwrap();
    assert!(deliver(&mut grant, claim).await);
    assert_eq!(worker.id(), before);
}

#[tokio::test(start_paused = true)]
async fn a_reaped_worker_sends_only_deliveries_under_its_new_id() {
    let world = World::new();
    let (worker, other) = (world.worker(), world.other_worker());
    for _ in 0..3 {
        worker.enqueue(message("example.org")).await.unwrap();
    }
    let mut grants = Vec::new();
    let mut claims = Vec::new();
    while claims.len() < 3 {
        let mut grant = grant(&worker).await;
        while let Some(mut claim) = grant.take() {
            grant.begin(&mut claim);
            assert!(claim.last_octet().await);
            claims.push(claim);
        }
        grants.push(grant);
    }
    let before = worker.id();
    reaped(&world).await;
    assert_eq!(
        world.counts().await.ready,
        3,
        "the other pod took them back"
    );
    assert_eq!(claims[0].last_octet_now(), Some(false));
    world.queue.heal();
    let fenced = grants[0].fenced();
    fenced.cancelled().await;
    let mut status = worker.status();
    let joined = status.wait_for(|status| status.worker.is_some() && status.worker != before);
    joined.await.unwrap();
    assert_eq!(
        claims[0].last_octet_now(),
        Some(false),
        "the new id does not own old claims"
    );

    // One had been sent before the pause, and its reply comes now; one was refused for now.
    claims.pop().unwrap().settle(delivered());
    claims
        .pop()
        .unwrap()
        .settle(deferred(Duration::from_secs(3600)));
    world
        .until("delivered by a non-holder", |counts| counts.ready == 2)
        .await;
    assert_eq!(
        world.counts().await.deferred,
        0,
        "a deferral of what it does not hold is nothing"
    );

    // The third is still in a transaction here, so it is not claimed here; the second may be.
    let mut regrant = grant(&worker).await;
    let again = regrant.take().unwrap();
    assert!(regrant.is_empty());
    assert_ne!(again.handle(), claims[0].handle());
    assert!(
        again.state().reclaimed_begun,
        "it had been begun by an owner that did not settle it"
    );
    drop((again, regrant));
    let mut taken_over = 0;
    while taken_over < 2 {
        let mut grant = grant(&other).await;
        while let Some(claim) = grant.take() {
            assert!(deliver(&mut grant, claim).await);
            taken_over += 1;
        }
    }
    world.until_empty().await;
    // What is settled meanwhile stays settled.
    drop(claims);
    drop(grants);
    world.until_empty().await;
}

#[tokio::test(start_paused = true)]
async fn of_a_task_that_was_begun_before_the_queue_itself_is_asked() {
    let world = World::new();
    let (worker, other) = (world.other_worker(), world.worker());
    worker.enqueue(message("example.org")).await.unwrap();
    let mut first = grant(&worker).await;
    let mut claim = first.take().unwrap();
    first.begin(&mut claim);
    assert!(claim.last_octet().await);
    // It does not settle, for instance because its agent was cut off.
    drop((claim, first));
    worker.set_claiming(false);
    let mut second = grant(&other).await;
    let mut claim = second.take().unwrap();
    assert!(claim.state().reclaimed_begun);
    second.begin(&mut claim);
    assert!(claim.last_octet().await);
    assert_eq!(claim.last_octet_now(), None, "never without asking");
    assert_eq!(world.queue.calls(Operation::Check), 1);
    world.queue.inject(Operation::Check, Fault::ReplyLost);
    assert!(!claim.last_octet().await, "no answer is no");
}

#[tokio::test(start_paused = true)]
async fn what_was_claimed_before_a_fail_over_is_begun_anew() {
    let world = World::new();
    let worker = world.worker();
    worker
        .enqueue(message("example.org example.net"))
        .await
        .unwrap();
    worker.want(2);
    let (mut first, mut second) = (granted(&worker).await, granted(&worker).await);
    let (mut kept, mut lost) = (first.take().unwrap(), second.take().unwrap());
    first.begin(&mut kept);
    second.begin(&mut lost);
    assert!(kept.last_octet().await && lost.last_octet().await);
    assert_eq!(kept.last_octet_now(), Some(true));

    world.queue.change_epoch();
    assert_eq!(kept.last_octet_now(), None, "never without asking");
    let begins = world.queue.calls(Operation::Begin);
    assert!(kept.last_octet().await);
    assert_eq!(world.queue.calls(Operation::Begin), begins + 1);
    // Whoever has it now has delivered it, as far as the store knows.
    let model = world.queue.model();
    let other = queue::id::WorkerId::random();
    model.register(other).await.unwrap();
    let settled = Next {
        call: Call {
            worker: other,
            lane: 0,
            n: 1,
        },
        settlements: vec![Settlement {
            handle: lost.handle().clone(),
            delivered: vec![0],
            failed: Vec::new(),
            recipients: 1,
            rest: Rest::None,
            notification: None,
            journal: bytes::Bytes::new(),
        }],
        releases: Vec::new(),
        claim: None,
    };
    model.next(&settled).await.unwrap();
    assert!(!lost.last_octet().await);
    world.queue.inject(Operation::Begin, Fault::ReplyLost);
    assert!(!kept.last_octet().await, "no answer is no");

    // What is claimed from now on is local again.
    drop((kept, lost, first, second));
    worker.enqueue(message("example.com")).await.unwrap();
    let mut third = grant(&worker).await;
    let mut claim = third.take().unwrap();
    third.begin(&mut claim);
    assert!(claim.last_octet().await);
    if !claim.state().reclaimed_begun {
        assert_eq!(claim.last_octet_now(), Some(true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_not_begun_in_time_is_not_started() {
    let world = World::new();
    let worker = world.worker();
    worker.enqueue(message("example.org")).await.unwrap();
    let mut first = grant(&worker).await;
    let mut claim = first.take().unwrap();
    tokio::time::sleep(TIMING.claim - Duration::from_secs(1)).await;
    assert!(claim.may_start());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!claim.may_start());
    // The queue takes it back with somebody's beat. This process has it open still, so that it
    // does not start a second transaction for it.
    tokio::time::sleep(2 * TIMING.beat).await;
    worker.want(1);
    let work = tokio::time::timeout(Duration::from_secs(20), worker.work()).await;
    if let Ok(Some(queue::worker::Work::Deliver(mut grant))) = work {
        assert!(grant.take().is_none());
    }
    first.begin(&mut claim);
    assert!(!claim.last_octet().await);
    drop((claim, first));
    let mut second = loop {
        let grant = grant(&worker).await;
        if !grant.is_empty() {
            break grant;
        }
    };
    let claim = second.take().unwrap();
    assert!(deliver(&mut second, claim).await);
    drop(second);
    world.until_empty().await;
}

/// A begin that was on its way while the queue took the task back and handed it to this process
/// again begins the second claim, which says nothing about the first.
#[tokio::test(start_paused = true)]
async fn a_late_begin_does_not_revive_a_claim() {
    let world = World::new();
    let settings = queue::worker::Settings {
        linger: TIMING.lease,
        ..world.settings()
    };
    let worker = world.worker_with(settings);
    worker.enqueue(message("example.org")).await.unwrap();
    let mut first = grant(&worker).await;
    let mut claim = first.take().unwrap();
    world.queue.inject(Operation::Begin, Fault::Held);
    first.begin(&mut claim);
    tokio::time::sleep(TIMING.claim + 2 * TIMING.beat).await;
    // The second claim, which goes back at the latest when its grant is dropped.
    let second = grant(&worker).await;
    assert!(second.is_empty());
    assert_eq!(world.counts().await.in_flight, 1);
    world.queue.let_go();
    assert!(!claim.last_octet().await);
    assert!(!claim.may_start());
    drop((claim, first, second));
    world
        .until("it waits again", |counts| {
            (counts.ready, counts.in_flight) == (1, 0)
        })
        .await;
}
