//! Numbers of calls: what ran, what never will.

use std::time::Duration;

use queue::operation::{Next, NextReply, Resolved, Taken, Then};

use crate::caller::given_back;
use crate::harness::Harness;
use crate::redis_fixture::{
    COMMIT, DISPATCH, TIMING, claim, delivered, handles_of, message, slots, tasks,
};

pub(crate) async fn a_number_runs_once(h: impl Harness) {
    let mut worker = h.caller().await;
    worker
        .enqueue(&[message(&["example.net"]), message(&["example.org"])])
        .await;
    let first = worker.next_claim(1, 1);
    worker.run(&first).await;
    assert_eq!(worker.take(&first).await, Taken::Refused);
    // Numbers may be left out; smaller ones are over then.
    let skipped = worker.next_claim(1, 1);
    let second = worker.next_claim(1, 1);
    assert_eq!(tasks(&worker.run(&second).await).len(), 1);
    assert_eq!(worker.take(&skipped).await, Taken::Refused);
    // Each lane and each worker counts for itself; enqueues count in their lanes.
    let mut other = h.caller().await;
    let call = other.call(DISPATCH);
    assert_eq!((call.lane, call.n), (first.call.lane, first.call.n));
    let taken = other.enqueue_as(call, &[message(&["example.net"])]).await;
    assert_eq!(taken, Taken::Ran(()));
    let next = Next {
        call,
        ..other.next_claim(9, 9)
    };
    assert_eq!(other.take(&next).await, Taken::Refused);
    assert_eq!(h.places().await, (1, 0, 2));
}

/// Nothing is written for it, so nothing is known of it.
pub(crate) async fn an_idle_poll_uses_no_number(h: impl Harness) {
    let mut worker = h.caller().await;
    let poll = worker.next_claim(9, 9);
    let idle = NextReply::default();
    assert_eq!(idle.then, Then::Empty);
    for _ in 0..2 {
        assert_eq!(worker.take(&poll).await, Taken::Ran(idle.clone()));
    }
    let nothing = Next {
        claim: None,
        ..poll.clone()
    };
    assert_eq!(worker.take(&nothing).await, Taken::Ran(idle.clone()));
    // The same number finds what has come since.
    worker.enqueue(&[message(&["example.net"])]).await;
    let reply = worker.run(&poll).await;
    assert_eq!(tasks(&reply).len(), 1);
    assert_eq!(worker.take(&poll).await, Taken::Refused);

    // A settlement, even a stale one, and a release, even of nothing, use theirs.
    let handle = &tasks(&reply)[0].handle;
    for next in [
        Next {
            settlements: vec![given_back(handle)],
            ..worker.next()
        },
        Next {
            settlements: vec![given_back(handle)],
            ..worker.next()
        },
        Next {
            releases: slots(&reply),
            ..worker.next()
        },
        Next {
            releases: slots(&reply),
            ..worker.next()
        },
    ] {
        let reply = worker.run(&next).await;
        assert_eq!(worker.take(&next).await, Taken::Refused);
        assert_eq!(worker.resolve(next.call).await, Resolved::Ran(reply));
    }
}

pub(crate) async fn a_barred_call_never_runs(h: impl Harness) {
    let mut worker = h.caller().await;
    worker.enqueue(&[message(&["example.net"])]).await;
    let barred = worker.next_claim(9, 9);
    for _ in 0..2 {
        assert_eq!(worker.resolve(barred.call).await, Resolved::Barred);
    }
    assert_eq!(worker.take(&barred).await, Taken::Refused);
    assert_eq!(h.places().await, (1, 0, 0));
    assert_eq!(tasks(&worker.claim(9, 9).await).len(), 1);
    // An enqueue leaves no reply: by its number alone it is over, whether it ran or not.
    let call = worker.call(COMMIT);
    assert_eq!(worker.resolve(call).await, Resolved::Barred);
    let taken = worker.enqueue_as(call, &[message(&["example.net"])]).await;
    assert_eq!(taken, Taken::Refused);
    let call = worker.call(COMMIT);
    worker.enqueue_as(call, &[message(&["example.net"])]).await;
    assert_eq!(worker.resolve(call).await, Resolved::Barred);
    assert_eq!(h.places().await, (1, 0, 1));
}

/// A lane is one caller, who never asks about an older call than its last.
pub(crate) async fn an_older_call_cannot_be_resolved_any_more(h: impl Harness) {
    let mut worker = h.caller().await;
    worker
        .enqueue(&[message(&["example.net"]), message(&["example.org"])])
        .await;
    let (first, second) = (worker.next_claim(1, 1), worker.next_claim(1, 1));
    let ran = worker.run(&first).await;
    assert_eq!(worker.resolve(first.call).await, Resolved::Ran(ran));
    let ran = worker.run(&second).await;
    assert_eq!(worker.resolve(first.call).await, Resolved::Barred);
    assert_eq!(worker.resolve(second.call).await, Resolved::Ran(ran));
    // Times are those of the reply, not of the question.
    h.pass(TIMING.beat);
    let reply = worker.resolve(second.call).await;
    let Resolved::Ran(reply) = reply else {
        panic!("{reply:?}")
    };
    let lifetime = Duration::from_millis(message(&[]).header.lifetime_ms);
    assert_eq!(tasks(&reply)[0].expires_in, lifetime);
}

pub(crate) async fn an_expired_call_runs_after_a_beat(h: impl Harness) {
    let mut worker = h.caller().await;
    worker.enqueue(&[message(&["example.net"])]).await;
    let reply = worker.claim(9, 9).await;
    h.pass(TIMING.lease);
    let next = Next {
        settlements: vec![delivered(&tasks(&reply)[0].handle)],
        releases: slots(&reply),
        claim: Some(claim(9, 9)),
        ..worker.next()
    };
    for _ in 0..2 {
        assert_eq!(worker.take(&next).await, Taken::Expired);
        assert_eq!(h.places().await, (0, 0, 1));
    }
    // Whether it ran can be asked at any time, and bars it as ever.
    worker.beat().await;
    assert!(worker.run(&next).await.stale.is_empty());
    h.pass(TIMING.lease);
    assert!(matches!(worker.resolve(next.call).await, Resolved::Ran(_)));
    // A number that is over is refused, lease or not.
    assert_eq!(worker.take(&next).await, Taken::Refused);
    assert_eq!(h.places().await, (0, 0, 0));
}

pub(crate) async fn lanes_of_a_reaped_worker_are_gone(h: impl Harness) {
    let (mut victim, survivor) = (h.caller().await, h.caller().await);
    victim.enqueue(&[message(&["example.net"])]).await;
    let next = victim.next_claim(9, 9);
    victim.run(&next).await;
    h.outlive(&survivor).await;
    assert_eq!(victim.resolve(next.call).await, Resolved::Reaped);
    assert_eq!(victim.take(&next).await, Taken::Reaped);
    let call = victim.call(COMMIT);
    assert_eq!(victim.resolve(call).await, Resolved::Reaped);
    assert_eq!(h.remains().await.workers, 1);
}

/// Settled, released, claimed by name, claimed in turn.
pub(crate) async fn all_three_parts_of_a_call_run_in_order(h: impl Harness) {
    h.limit(1, &[]).await;
    let mut worker = h.caller().await;
    let sent = [
        message(&["example.net"]),
        message(&["example.net"]),
        message(&["example.org"]),
    ];
    worker.enqueue(&sent).await;
    let [one, two, three] = sent.each_ref().map(|message| handles_of(message).remove(0));
    let first = worker.claim(1, 1).await;
    assert_eq!(tasks(&first)[0].handle, one);
    let mut wanted = claim(9, 9);
    wanted.by_name = vec![one.clone(), three];
    let next = Next {
        settlements: vec![given_back(&one)],
        releases: slots(&first),
        claim: Some(wanted),
        ..worker.next()
    };
    let reply = worker.run(&next).await;
    // What was given back in it can be had by name in it, and its slot goes to what is left.
    assert_eq!(reply.named.len(), 2);
    assert_eq!(reply.named[0].handle, one);
    let granted: Vec<_> = tasks(&reply).into_iter().map(|task| task.handle).collect();
    assert_eq!(granted, [two]);
    assert_eq!(worker.resolve(next.call).await, Resolved::Ran(reply));
}
