//! Faults of earlier versions of the protocol, by their number.

use std::time::Duration;

use queue::QueueError;
use queue::operation::{Aborted, Beat, Begun, Next, Resolved, Taken, Then};

use crate::caller::Caller;
use crate::harness::Harness;
use crate::redis_fixture::{
    COMMIT, DISPATCH, TIMING, claim, delivered, handles_of, message, message_of, slots, tasks,
};

/// What it claimed was in a set that nobody reaped any more.
pub(crate) async fn fault_01_a_reaped_worker_claims_nothing_before_its_beat(h: impl Harness) {
    let (mut victim, mut survivor) = (h.caller().await, h.caller().await);
    let sent = message(&["example.net"]);
    survivor.enqueue(std::slice::from_ref(&sent)).await;
    h.outlive(&survivor).await;

    let next = victim.next_claim(9, 9);
    assert_eq!(victim.take(&next).await, Taken::Reaped);
    let late = message(&["example.net"]);
    let call = victim.call(COMMIT);
    let taken = victim.enqueue_as(call, std::slice::from_ref(&late)).await;
    assert_eq!(taken, Taken::Reaped);
    assert_eq!(victim.resolve(next.call).await, Resolved::Reaped);
    assert_eq!(victim.begin(&handles_of(&sent)[0]).await, Begun::NotHeld);
    assert_eq!(victim.beat().await, Beat::Reaped);
    assert_eq!(h.places().await, (1, 0, 0));
    assert!(h.read(&[late.id]).await[0].is_none());

    let reply = survivor.claim(9, 9).await;
    assert_eq!(tasks(&reply).len(), 1);
    survivor.deliver_all(&reply).await;
}

/// Who had it before may own what the new process does not know of.
pub(crate) async fn fault_02_a_known_worker_id_is_not_registered_again(h: impl Harness) {
    let (mut worker, survivor) = (h.caller().await, h.caller().await);
    let known = |outcome: Result<(), QueueError>| matches!(outcome, Err(QueueError::Conflict(_)));
    assert!(known(h.queue().register(worker.worker).await));
    claim_many(&mut worker, 600).await;
    assert!(known(h.queue().register(worker.worker).await));

    // It is no member any more, but not all of what it held is back.
    for _ in 0..6 {
        h.pass(TIMING.beat);
        let beat = survivor.beat().await;
        assert!(matches!(beat, Beat::Renewed { .. }), "{beat:?}");
    }
    assert_eq!(worker.beat().await, Beat::Reaped);
    assert!(known(h.queue().register(worker.worker).await));
    assert_eq!(h.places().await, (500, 0, 100));
}

/// A released slot woke one of them, and the mail behind it slept for ever.
pub(crate) async fn fault_03_empty_queues_do_not_keep_due_mail_from_a_free_slot(h: impl Harness) {
    h.limit(20, &[("full.example", 1)]).await;
    let mut worker = h.caller().await;
    let of = |tenant: &str| message_of(tenant, &["full.example"], &[b"x\r\n"]);
    worker.enqueue(&[of("first")]).await;
    let first = worker.claim(9, 9).await;
    assert_eq!(first.grants.len(), 1);

    // Queues that are blocked, and queues that are not looked at yet, become empty.
    let blocked: Vec<_> = ["a", "b", "c"].map(of).into();
    worker.enqueue(&blocked).await;
    assert!(worker.claim(9, 9).await.grants.is_empty());
    let unseen: Vec<_> = ["d", "e", "f"].map(of).into();
    worker.enqueue(&unseen).await;
    worker.enqueue(&[of("z")]).await;
    for message in blocked.iter().chain(&unseen) {
        let call = worker.call(COMMIT);
        let aborted = worker.abort(call, message.id, &handles_of(message)).await;
        assert_eq!(aborted, Aborted::Gone);
    }
    let idle = worker.claim(9, 9).await;
    assert!(idle.grants.is_empty());
    assert_eq!(idle.then, Then::Sleep(TIMING.safety_wake));

    let next = Next {
        releases: slots(&first),
        ..worker.next_claim(9, 9)
    };
    let reply = worker.run(&next).await;
    assert_eq!(reply.grants.len(), 1, "the due mail sleeps");
    assert_eq!(reply.grants[0].queue.tenant, "z");
}

pub(crate) async fn fault_04_raising_a_limit_wakes_blocked_queues(h: impl Harness) {
    let full = [("one.example", 1), ("two.example", 1)];
    h.limit(20, &full).await;
    let mut worker = h.caller().await;
    for tenant in ["a", "b", "c", "d"] {
        for domain in ["one.example", "two.example"] {
            worker
                .enqueue(&[message_of(tenant, &[domain], &[b"x\r\n"])])
                .await;
        }
    }
    assert_eq!(worker.claim(9, 9).await.grants.len(), 2);
    assert!(matches!(worker.claim(9, 9).await.then, Then::Sleep(_)));

    h.limit(20, &[("one.example", 3), ("two.example", 1)]).await;
    let reply = worker.claim(9, 9).await;
    let sites: Vec<_> = reply.grants.iter().map(|grant| &*grant.site).collect();
    assert_eq!(sites, ["mx:one.example"; 2]);
    // A limit of its own that goes away, too.
    h.limit(20, &[]).await;
    assert_eq!(worker.claim(9, 9).await.grants.len(), 4);

    // When all slots have just become free, too: those who go for them have not taken them yet.
    h.limit(1, &[]).await;
    for tenant in ["a", "b", "c"] {
        worker
            .enqueue(&[message_of(tenant, &["free.example"], &[b"x\r\n"])])
            .await;
    }
    let held = slots(&worker.claim(9, 9).await);
    worker.release(held).await;
    h.limit(9, &[]).await;
    assert_eq!(worker.claim(9, 9).await.grants.len(), 2);

    // Nothing was allowed anywhere, so nowhere was a slot in use.
    h.limit(0, &[]).await;
    worker.enqueue(&[message(&["three.example"])]).await;
    assert!(worker.claim(9, 9).await.grants.is_empty());
    h.limit(1, &[]).await;
    assert_eq!(worker.claim(9, 9).await.grants.len(), 1);
}

/// It said "sleep 3,600 s" while 34 tenants were active behind 40 blocked queues.
pub(crate) async fn fault_05_blocked_queues_do_not_hide_active_tenants(h: impl Harness) {
    h.limit(20, &[("full.example", 0)]).await;
    let mut worker = h.caller().await;
    let blocked: Vec<_> = (0..100)
        .map(|k| message_of(&format!("a{k:03}"), &["full.example"], &[b"x\r\n"]))
        .collect();
    worker.enqueue(&blocked).await;
    let free: Vec<_> = (0..34)
        .map(|k| message_of(&format!("b{k:02}"), &["free.example"], &[b"x\r\n"]))
        .collect();
    worker.enqueue(&free).await;

    let (mut granted, mut calls) = (0, 0);
    while granted < 34 {
        let reply = worker.claim(1, 1).await;
        granted += reply.grants.len();
        calls += 1;
        assert!(
            granted == 34 || reply.then == Then::More,
            "{granted} of 34 granted, then {:?}",
            reply.then
        );
        assert!(calls <= 34 + 2, "a call parks no more than a few queues");
        worker.release(slots(&reply)).await;
    }
    let reply = worker.claim(1, 1).await;
    assert_eq!(
        (reply.grants.len(), reply.then),
        (0, Then::Sleep(TIMING.safety_wake))
    );
}

/// Five tasks and a slot were gone for good.
pub(crate) async fn fault_06_a_lost_reply_of_next_orphans_nothing(h: impl Harness) {
    h.limit(1, &[]).await;
    let mut worker = h.caller().await;
    let sent: Vec<_> = (0..5).map(|_| message(&["example.net"])).collect();
    worker.enqueue(&sent).await;
    let lost = worker.next_claim(9, 9);
    let reply = worker.run(&lost).await;
    assert_eq!(tasks(&reply).len(), 5);

    // As if that reply had not come.
    assert_eq!(
        worker.resolve(lost.call).await,
        Resolved::Ran(reply.clone())
    );
    assert_eq!(
        worker.resolve(lost.call).await,
        Resolved::Ran(reply.clone())
    );
    worker.deliver_all(&reply).await;

    // And as if the worker had not lived to ask.
    worker.enqueue(&[message(&["example.net"])]).await;
    let lost = worker.next_claim(9, 9);
    worker.run(&lost).await;
    let mut survivor = h.caller().await;
    assert_eq!(h.outlive(&survivor).await, 1);
    let reply = survivor.claim(9, 9).await;
    assert_eq!(tasks(&reply).len(), 1, "the slot is gone");
    survivor.deliver_all(&reply).await;
    assert_eq!(h.places().await, (0, 0, 0));
}

/// A limit of two became one of three.
pub(crate) async fn fault_07_release_repeated_frees_one_slot(h: impl Harness) {
    h.limit(2, &[]).await;
    let (mut one, mut two) = (h.caller().await, h.caller().await);
    let sent: Vec<_> = (0..9).map(|_| message(&["example.net"])).collect();
    one.enqueue(&sent).await;
    let first = slots(&one.claim(1, 1).await);
    // Slots are named by calls: this one is to have another name.
    two.call(DISPATCH);
    let second = slots(&two.claim(1, 1).await);

    // Nobody releases what is another's; nothing is released twice, in one call or in several.
    one.release(second.clone()).await;
    assert!(two.claim(1, 1).await.grants.is_empty());
    let twice = Next {
        releases: [first.clone(), first.clone()].concat(),
        ..one.next()
    };
    one.run(&twice).await;
    assert_eq!(one.take(&twice).await, Taken::Refused);
    one.release(first).await;
    let reply = two.claim(9, 1).await;
    assert_eq!(reply.grants.len(), 1, "one slot was released");
}

pub(crate) async fn fault_10_a_resubmitted_enqueue_doubles_nothing(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = [message(&["example.net"]), message(&["example.net"])];
    let call = worker.call(COMMIT);
    assert_eq!(worker.enqueue_as(call, &sent).await, Taken::Ran(()));
    assert_eq!(worker.enqueue_as(call, &sent).await, Taken::Refused);
    let reply = worker.claim(1, 1).await;
    assert_eq!(worker.enqueue_as(call, &sent).await, Taken::Refused);
    assert_eq!(h.places().await, (1, 0, 1));
    let records = h.read(&[sent[0].id, sent[1].id]).await;
    assert!(
        records.iter().all(Option::is_some),
        "an accepted record went"
    );

    worker.deliver_all(&reply).await;
    let reply = worker.claim(9, 9).await;
    worker.deliver_all(&reply).await;
    assert_eq!(worker.enqueue_as(call, &sent).await, Taken::Refused);
    assert_eq!(h.places().await, (0, 0, 0));
    assert!(h.read(&[sent[0].id]).await[0].is_none());
}

/// Nobody was reached for 26.5 of 30 s, and one came back before the other.
pub(crate) async fn fault_11_an_outage_shorter_than_a_lease_reaps_nobody(h: impl Harness) {
    let (mut early, mut late) = (h.caller().await, h.caller().await);
    h.live(&[&early, &late], Duration::from_secs(40)).await;
    late.enqueue(&[message(&["example.net"])]).await;
    let claimed = tasks(&late.claim(9, 9).await).pop().unwrap();
    h.live(&[&early], Duration::from_secs(4)).await;
    h.pass(Duration::from_millis(26_500));

    // `late` has not beaten for 30.5 s, for no fault of its own.
    let beat = early.beat().await;
    assert!(matches!(beat, Beat::Renewed { reaped: 0, .. }), "{beat:?}");
    let beat = late.beat().await;
    assert!(matches!(beat, Beat::Renewed { late: true, .. }), "{beat:?}");
    assert!(late.check(&claimed.handle).await);
    assert!(early.claim(9, 9).await.grants.is_empty());
}

/// It was told that what had not been taken from it yet was still its own.
pub(crate) async fn fault_12_a_partly_reaped_worker_owns_nothing(h: impl Harness) {
    let (mut victim, mut survivor) = (h.caller().await, h.caller().await);
    let claimed = claim_many(&mut victim, 600).await;
    let last = claimed.last().unwrap();
    h.live(&[&survivor], Duration::from_secs(25)).await;
    h.pass(TIMING.beat);
    let beat = survivor.beat().await;
    assert!(
        matches!(
            beat,
            Beat::Renewed {
                reaped: 500,
                more: true,
                ..
            }
        ),
        "{beat:?}"
    );
    assert_eq!(h.places().await, (500, 0, 100));

    assert_eq!(victim.beat().await, Beat::Reaped);
    for task in &claimed {
        assert!(!victim.check(task).await);
    }
    assert_eq!(victim.begin(last).await, Begun::NotHeld);
    let next = Next {
        settlements: vec![delivered(last)],
        ..victim.next()
    };
    assert_eq!(victim.take(&next).await, Taken::Reaped);

    // Under its new id it may still say what it delivered, of either sort.
    let mut again = h.caller().await;
    let back = &claimed[0];
    let settlements = vec![delivered(last), delivered(back)];
    assert_eq!(again.settle(settlements).await.stale, [0, 1]);
    assert_eq!(h.places().await, (499, 0, 99));
    let beat = survivor.beat().await;
    assert!(
        matches!(
            beat,
            Beat::Renewed {
                reaped: 99,
                more: false,
                ..
            }
        ),
        "{beat:?}"
    );
    assert_eq!(tasks(&survivor.claim(20, 50).await).len(), 598);
}

/// Five kills with 50 tasks claimed and none begun had 50 tasks suspected.
pub(crate) async fn fault_13_tasks_that_were_not_begun_come_back_unmarked(h: impl Harness) {
    let mut survivor = h.caller().await;
    let sent: Vec<_> = (0..50).map(|_| message(&["example.net"])).collect();
    survivor.enqueue(&sent).await;
    for _ in 0..5 {
        let mut victim = h.caller().await;
        let reply = victim.claim(9, 50).await;
        assert_eq!(tasks(&reply).len(), 9 * 3);
        assert_eq!(h.outlive(&survivor).await, 27);
    }
    let reply = survivor.claim(20, 50).await;
    assert_eq!(tasks(&reply).len(), 50);
    for task in tasks(&reply) {
        assert_eq!(task.state, queue::record::TaskState::default());
    }
}

/// `count` tasks in one call of a new lane; the order is that of the claim set.
async fn claim_many(worker: &mut Caller, count: usize) -> Vec<queue::id::Handle> {
    let sent: Vec<_> = (0..count).map(|_| message(&["example.net"])).collect();
    worker.enqueue(&sent).await;
    let next = Next {
        call: worker.call(DISPATCH),
        settlements: Vec::new(),
        releases: Vec::new(),
        claim: Some(claim(50, 50)),
    };
    let reply = worker.run(&next).await;
    let mut claimed: Vec<_> = tasks(&reply).into_iter().map(|task| task.handle).collect();
    claimed.sort();
    assert_eq!(claimed.len(), count);
    claimed
}
