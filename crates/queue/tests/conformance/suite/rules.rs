//! What must be true whatever happens.

use std::time::Duration;

use queue::model::Remains;
use queue::operation::{Aborted, Begun, Counts, Limits, Next, Resolved, Taken, Then};

use crate::caller::{deferred, failed, given_back};
use crate::harness::Harness;
use crate::redis_fixture::{
    COMMIT, TIMING, delivered, handles_of, message, message_of, slots, tasks,
};

pub(crate) async fn rule_01_a_task_is_in_exactly_one_place(h: impl Harness) {
    let (mut one, mut two) = (h.caller().await, h.caller().await);
    let sent = message(&["example.net", "example.org"]);
    one.enqueue(std::slice::from_ref(&sent)).await;
    let handles = handles_of(&sent);
    assert_eq!(h.places().await, (2, 0, 0));
    one.claim(9, 9).await;
    assert_eq!(h.places().await, (0, 0, 2));
    one.begin(&handles[0]).await;
    assert_eq!(h.places().await, (0, 0, 2));
    let hour = Duration::from_secs(3600);
    one.settle(vec![deferred(&handles[0], hour), given_back(&handles[1])])
        .await;
    assert_eq!(h.places().await, (1, 1, 0));
    // Again, now that they are not its own.
    one.settle(vec![deferred(&handles[0], hour), given_back(&handles[1])])
        .await;
    assert_eq!(h.places().await, (1, 1, 0));
    two.claim_by_name(&handles).await;
    assert_eq!(h.places().await, (0, 0, 2));
    h.outlive(&one).await;
    assert_eq!(h.places().await, (2, 0, 0));
    let reply = one.claim(9, 9).await;
    assert_eq!(h.places().await, (0, 0, 2));
    one.deliver_all(&reply).await;
    assert_eq!(h.places().await, (0, 0, 0));
}

pub(crate) async fn rule_02_membership_is_the_fence(h: impl Harness) {
    let (mut holder, mut other) = (h.caller().await, h.caller().await);
    let sent = message(&["example.net"]);
    holder.enqueue(std::slice::from_ref(&sent)).await;
    let handle = handles_of(&sent).remove(0);
    let not_held = async |worker: &crate::caller::Caller| {
        !worker.check(&handle).await && worker.begin(&handle).await == Begun::NotHeld
    };
    assert!(not_held(&holder).await && not_held(&other).await);
    holder.claim(9, 9).await;
    assert!(holder.check(&handle).await && not_held(&other).await);
    assert_eq!(holder.begin(&handle).await, Begun::Begun);
    // Whose it is not cannot put it anywhere.
    for settlement in [
        failed(&handle, None),
        deferred(&handle, Duration::ZERO),
        given_back(&handle),
    ] {
        assert_eq!(other.settle(vec![settlement]).await.stale, [0]);
    }
    assert_eq!(h.places().await, (0, 0, 1));
    assert!(holder.check(&handle).await);
    // The same task by the name of another queue is not this one.
    let mut elsewhere = handle.clone();
    elsewhere.queue.tenant = "b".into();
    assert!(!holder.check(&elsewhere).await);
    assert_eq!(holder.settle(vec![delivered(&elsewhere)]).await.stale, [0]);
    assert!(
        holder
            .settle(vec![delivered(&handle)])
            .await
            .stale
            .is_empty()
    );
    assert!(not_held(&holder).await);
}

/// To the millisecond, by one clock.
pub(crate) async fn rule_03_time_is_the_servers(h: impl Harness) {
    const MS: Duration = Duration::from_millis(1);
    let mut worker = h.caller().await;
    let sent = message(&["example.net"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handle = handles_of(&sent).remove(0);
    let reply = worker.claim(9, 9).await;
    worker.release(slots(&reply)).await;
    let minute = Duration::from_secs(60);
    worker.settle(vec![deferred(&handle, minute)]).await;
    assert_eq!(worker.claim(9, 9).await.then, Then::Sleep(minute));
    h.live(&[&worker], minute - MS).await;
    let reply = worker.claim(9, 9).await;
    assert_eq!((reply.grants.len(), reply.then), (0, Then::Sleep(MS)));
    h.pass(MS);
    assert_eq!(worker.claim(9, 9).await.grants.len(), 1);

    // A lease ends by it, too.
    worker.beat().await;
    h.pass(TIMING.lease - MS);
    assert!(worker.check(&handle).await);
    h.pass(MS);
    assert!(!worker.check(&handle).await);
    let next = worker.next_claim(9, 9);
    assert_eq!(worker.take(&next).await, Taken::Expired);
}

pub(crate) async fn rule_04_repeated_calls_change_nothing(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = message(&["example.net", "example.org"]);
    let call = worker.call(COMMIT);
    for taken in [Taken::Ran(()), Taken::Refused, Taken::Refused] {
        assert_eq!(
            worker.enqueue_as(call, std::slice::from_ref(&sent)).await,
            taken
        );
        assert_eq!(h.places().await, (2, 0, 0));
    }
    let next = worker.next_claim(9, 9);
    let reply = worker.run(&next).await;
    for _ in 0..2 {
        assert_eq!(worker.take(&next).await, Taken::Refused);
        assert_eq!(
            worker.resolve(next.call).await,
            Resolved::Ran(reply.clone())
        );
        assert_eq!(h.places().await, (0, 0, 2));
        for task in tasks(&reply) {
            assert_eq!(worker.begin(&task.handle).await, Begun::Begun);
            assert!(worker.check(&task.handle).await);
        }
        worker.beat().await;
    }
    let handles = handles_of(&sent);
    let notification = message(&["example.com"]);
    let next = Next {
        settlements: vec![
            failed(&handles[0], Some(notification)),
            deferred(&handles[1], Duration::from_secs(60)),
        ],
        releases: slots(&reply),
        ..worker.next()
    };
    worker.run(&next).await;
    for _ in 0..2 {
        assert_eq!(worker.take(&next).await, Taken::Refused);
        assert_eq!(h.places().await, (1, 1, 0));
    }
    let limits = Limits {
        generation: u64::MAX >> 12,
        concurrency_default: 3,
        concurrency: Vec::new(),
        ..Limits::default()
    };
    for _ in 0..2 {
        h.queue().set_limits(&limits).await.unwrap();
    }
    assert_eq!(worker.claim(9, 9).await.grants.len(), 1);
    h.pass(Duration::from_secs(60));
    worker.beat().await;
    let reply = worker.claim(9, 9).await;
    assert_eq!(tasks(&reply)[0].state.attempts, 1);
}

/// What waits for a slot has two causes to be looked at again.
pub(crate) async fn rule_05_what_parks_wakes(h: impl Harness) {
    h.limit(1, &[]).await;
    let (mut one, mut two) = (h.caller().await, h.caller().await);
    one.enqueue(&[message_of("a", &["example.net"], &[b"x\r\n"])])
        .await;
    one.enqueue(&[message_of("b", &["example.net"], &[b"x\r\n"])])
        .await;
    let held = one.claim(9, 9).await;
    assert_eq!(held.grants.len(), 1);
    assert_eq!(held.then, Then::Sleep(TIMING.safety_wake));
    // The safety wake parks it anew.
    for _ in 0..2 {
        h.live(&[&one, &two], TIMING.safety_wake).await;
        let reply = two.claim(9, 9).await;
        assert_eq!(reply.grants.len(), 0);
        assert_eq!(reply.then, Then::Sleep(TIMING.safety_wake));
    }
    // A release wakes it, for whoever asks.
    one.release(slots(&held)).await;
    let reply = two.claim(9, 9).await;
    assert_eq!(reply.grants.len(), 1);
    assert_eq!(reply.then, Then::Empty);
}

/// One hour after everything that can become of a message has become of some.
pub(crate) async fn rule_06_after_all_outcomes_nothing_remains(h: impl Harness) {
    h.limit(3, &[("slow.example", 1), ("never.example", 0)])
        .await;
    let (mut worker, mut victim) = (h.caller().await, h.caller().await);
    let domains = ["example.net", "example.org", "slow.example"];
    let mut sent: Vec<_> = (0..12)
        .map(|k| message_of(["a", "b"][k % 2], &domains[..=k % 3], &[b"x\r\n"]))
        .collect();
    sent.push(message(&["never.example", "example.com"]));
    for message in &mut sent {
        message.header.lifetime_ms = 1_800_000;
    }
    worker.enqueue(&sent).await;
    let taken_back = message(&["example.com", "slow.example"]);
    let call = worker.call(COMMIT);
    worker
        .enqueue_as(call, std::slice::from_ref(&taken_back))
        .await;
    let aborted = worker
        .abort(call, taken_back.id, &handles_of(&taken_back))
        .await;
    assert_eq!(aborted, Aborted::Gone);

    let reply = worker.claim(50, 1).await;
    let claimed: Vec<_> = tasks(&reply).into_iter().map(|task| task.handle).collect();
    assert!(
        claimed.len() > 6,
        "some stay claimed until they are overdue"
    );
    worker.begin(&claimed[4]).await;
    let settlements = vec![
        delivered(&claimed[0]),
        failed(&claimed[1], Some(message(&["example.org"]))),
        failed(&claimed[2], None),
        deferred(&claimed[3], Duration::from_secs(900)),
        given_back(&claimed[4]),
        deferred(&claimed[5], Duration::ZERO),
    ];
    worker.settle(settlements).await;
    worker.release(slots(&reply)).await;
    // It dies with slots, with begun tasks and with others.
    let lost = tasks(&victim.claim(50, 1).await);
    assert!(lost.len() > 1);
    victim.begin(&lost[0].handle).await;
    drop(victim);

    for _ in 0..240 {
        h.live(&[&worker], Duration::from_secs(15)).await;
        for id in h.queue().expiring(10).await.unwrap() {
            let message = sent
                .iter()
                .find(|message| message.id == id)
                .expect("one of these");
            let named = worker.claim_by_name(&handles_of(message)).await.named;
            let settlements = named.iter().map(|task| failed(&task.handle, None));
            worker.settle(settlements.collect()).await;
        }
        loop {
            let reply = worker.claim(50, 50).await;
            if reply.grants.is_empty() {
                break;
            }
            worker.deliver_all(&reply).await;
        }
    }
    let left = Remains {
        workers: 1,
        ..Remains::default()
    };
    assert_eq!(h.remains().await, left);
    assert_eq!(h.counts().await, Counts::default());
}

pub(crate) async fn rule_07_limits_are_data_of_the_newest_generation(h: impl Harness) {
    let mut worker = h.caller().await;
    let limits = |generation, default, site: Option<u32>| Limits {
        generation,
        concurrency_default: default,
        concurrency: site
            .map(|limit| ("mx:one.example".into(), limit))
            .into_iter()
            .collect(),
        ..Limits::default()
    };
    let sent: Vec<_> = (0..30)
        .flat_map(|_| [message(&["one.example"]), message(&["two.example"])])
        .collect();
    worker.enqueue(&sent).await;
    // Twenty until somebody has said something; then what the newest says, for everybody.
    let check = async |limits: Option<Limits>, one: usize, two: usize| {
        if let Some(limits) = limits {
            h.queue().set_limits(&limits).await.unwrap();
        }
        let mut worker = h.caller().await;
        let reply = worker.claim(60, 1).await;
        let at = |site: &str| {
            reply
                .grants
                .iter()
                .filter(|grant| grant.site == site)
                .count()
        };
        assert_eq!((at("mx:one.example"), at("mx:two.example")), (one, two));
        worker
            .settle(
                tasks(&reply)
                    .iter()
                    .map(|task| given_back(&task.handle))
                    .collect(),
            )
            .await;
        worker.release(slots(&reply)).await;
    };
    check(None, 20, 20).await;
    check(Some(limits(7, 2, Some(5))), 5, 2).await;
    check(Some(limits(6, 9, Some(9))), 5, 2).await;
    check(Some(limits(7, 3, Some(4))), 4, 3).await;
    check(Some(limits(8, 1, None)), 1, 1).await;
    check(Some(limits(8, 1, Some(0))), 0, 1).await;
}
