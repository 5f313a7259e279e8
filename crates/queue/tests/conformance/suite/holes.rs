//! What broke earlier versions of the protocol under a model checker, by its number.

use std::time::Duration;

use queue::operation::{Aborted, Beat, Next, Resolved, Taken, Then};

use crate::caller::failed;
use crate::harness::Harness;
use crate::redis_fixture::{COMMIT, TIMING, claim, delivered, handles_of, message, slots, tasks};

/// Octets that were still on their way claimed and settled after the worker had looked at what it owns.
pub(crate) async fn hole_01_late_execution_after_a_comparison(h: impl Harness) {
    let mut worker = h.caller().await;
    worker
        .enqueue(&[message(&["example.net"]), message(&["example.org"])])
        .await;
    let reply = worker.claim(1, 1).await;
    let late = Next {
        settlements: vec![delivered(&tasks(&reply)[0].handle)],
        releases: slots(&reply),
        ..worker.next_claim(9, 9)
    };
    assert_eq!(worker.resolve(late.call).await, Resolved::Barred);
    assert_eq!(worker.take(&late).await, Taken::Refused);
    assert_eq!(h.places().await, (1, 0, 1));
    assert!(worker.check(&tasks(&reply)[0].handle).await);

    // The same for mail that was taken back before it came.
    let sent = message(&["example.net"]);
    let call = worker.call(COMMIT);
    assert_eq!(
        worker.abort(call, sent.id, &handles_of(&sent)).await,
        Aborted::Gone
    );
    let taken = worker.enqueue_as(call, std::slice::from_ref(&sent)).await;
    assert_eq!(taken, Taken::Refused);
    assert_eq!(h.places().await, (1, 0, 1));
    assert!(h.read(&[sent.id]).await[0].is_none());
}

/// What another lane had just claimed looked like what the lost call had claimed.
pub(crate) async fn hole_02_comparison_with_another_lane_in_flight(h: impl Harness) {
    let mut worker = h.caller().await;
    worker
        .enqueue(&[message(&["example.net"]), message(&["example.org"])])
        .await;
    let on_lane = |worker: &mut crate::caller::Caller, lane| Next {
        call: worker.call(lane),
        settlements: Vec::new(),
        releases: Vec::new(),
        claim: Some(claim(1, 1)),
    };
    let (lost, other, never) = (
        on_lane(&mut worker, 7),
        on_lane(&mut worker, 8),
        on_lane(&mut worker, 9),
    );
    let first = worker.run(&lost).await;
    let second = worker.run(&other).await;
    assert_ne!(tasks(&first), tasks(&second));

    assert_eq!(worker.resolve(never.call).await, Resolved::Barred);
    assert_eq!(
        worker.resolve(other.call).await,
        Resolved::Ran(second.clone())
    );
    assert_eq!(
        worker.resolve(lost.call).await,
        Resolved::Ran(first.clone())
    );
    assert_eq!(worker.take(&never).await, Taken::Refused);
    assert_eq!(h.places().await, (0, 0, 2));
    worker.deliver_all(&first).await;
    worker.deliver_all(&second).await;
    assert_eq!(h.places().await, (0, 0, 0));
}

pub(crate) async fn hole_03_a_lost_abort_is_repeated(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = [
        message(&["example.net", "example.org"]),
        message(&["example.net"]),
    ];
    let call = worker.call(COMMIT);
    worker.enqueue_as(call, &sent).await;
    for _ in 0..3 {
        let aborted = worker.abort(call, sent[0].id, &handles_of(&sent[0])).await;
        assert_eq!(aborted, Aborted::Gone);
        assert_eq!(h.places().await, (1, 0, 0));
    }
    assert_eq!(worker.enqueue_as(call, &sent).await, Taken::Refused);
    let records = h.read(&[sent[0].id, sent[1].id]).await;
    let there: Vec<_> = records.iter().map(Option::is_some).collect();
    assert_eq!(there, [false, true]);

    // An abort of an older call does not open the lane for what it has barred.
    let newer = worker.call(COMMIT);
    let taken = worker.enqueue_as(newer, &[message(&["example.com"])]).await;
    assert_eq!(taken, Taken::Ran(()));
    worker.abort(call, sent[0].id, &handles_of(&sent[0])).await;
    let again = worker.enqueue_as(newer, &[message(&["example.com"])]).await;
    assert_eq!(again, Taken::Refused);
}

/// Two owners, one after the other: the first had delivered when the second gave up.
pub(crate) async fn hole_04_no_notification_about_delivered_mail(h: impl Harness) {
    let mut first = h.caller().await;
    let mut second = h.caller().await;
    let sent = message(&["example.net"]);
    first.enqueue(std::slice::from_ref(&sent)).await;
    let handle = handles_of(&sent).remove(0);
    first.claim(9, 9).await;
    first.begin(&handle).await;
    h.outlive(&second).await;
    assert_eq!(tasks(&second.claim(9, 9).await).len(), 1);

    let mut first = h.caller().await;
    assert_eq!(first.settle(vec![delivered(&handle)]).await.stale, [0]);
    assert!(!second.check(&handle).await);
    let notification = message(&["example.org"]);
    let settlement = failed(&handle, Some(notification.clone()));
    assert_eq!(second.settle(vec![settlement]).await.stale, [0]);
    assert_eq!(h.places().await, (0, 0, 0));
    let records = h.read(&[sent.id, notification.id]).await;
    assert!(records.iter().all(Option::is_none));
}

pub(crate) async fn hole_06_the_count_of_open_tasks_falls_only_with_a_removal(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = message(&["example.net", "example.org", "example.com"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handles = handles_of(&sent);
    worker.claim(9, 9).await;
    let alive = async || h.read(&[sent.id]).await[0].is_some();

    assert!(
        worker
            .settle(vec![delivered(&handles[0])])
            .await
            .stale
            .is_empty()
    );
    // The same outcome again, of either sort, in several forms.
    for settlement in [
        delivered(&handles[0]),
        failed(&handles[0], None),
        queue::operation::Settlement {
            recipients: 2,
            ..delivered(&handles[0])
        },
    ] {
        let again = [settlement.clone(), settlement];
        assert_eq!(worker.settle(again.into()).await.stale, [0, 1]);
        assert!(alive().await);
    }
    let call = worker.call(COMMIT);
    assert_eq!(worker.abort(call, sent.id, &handles).await, Aborted::Held);
    worker.settle(vec![delivered(&handles[1])]).await;
    worker.settle(vec![delivered(&handles[1])]).await;
    assert!(alive().await);
    assert!(worker.check(&handles[2]).await);
    worker.settle(vec![delivered(&handles[2])]).await;
    assert!(!alive().await);
}

/// It was taken out when it was found, and whoever had found it died.
pub(crate) async fn hole_07_expiry_outlives_the_claim(h: impl Harness) {
    h.limit(0, &[]).await;
    let mut survivor = h.caller().await;
    let mut sent = message(&["example.net"]);
    sent.header.lifetime_ms = 10_000;
    survivor.enqueue(std::slice::from_ref(&sent)).await;
    h.live(&[&survivor], Duration::from_secs(10)).await;
    for _ in 0..3 {
        let mut victim = h.caller().await;
        assert_eq!(h.queue().expiring(10).await.unwrap(), [sent.id]);
        let reply = victim.claim_by_name(&handles_of(&sent)).await;
        assert_eq!(reply.named.len(), 1);
        assert_eq!(reply.named[0].expires_in, Duration::ZERO);
        h.outlive(&survivor).await;
    }
    assert_eq!(h.queue().expiring(10).await.unwrap(), [sent.id]);
    let reply = survivor.claim_by_name(&handles_of(&sent)).await;
    survivor
        .settle(vec![failed(&reply.named[0].handle, None)])
        .await;
    h.pass(Duration::from_secs(60));
    assert_eq!(h.queue().expiring(10).await.unwrap(), []);
}

pub(crate) async fn hole_08_a_beat_does_not_resurrect_a_reaped_worker(h: impl Harness) {
    let (mut victim, mut survivor) = (h.caller().await, h.caller().await);
    h.outlive(&survivor).await;
    for _ in 0..3 {
        assert_eq!(victim.beat().await, Beat::Reaped);
        h.live(&[&survivor], TIMING.beat).await;
    }
    survivor.enqueue(&[message(&["example.net"])]).await;
    let next = victim.next_claim(9, 9);
    assert_eq!(victim.take(&next).await, Taken::Reaped);
    let beat = survivor.beat().await;
    assert!(
        matches!(
            beat,
            Beat::Renewed {
                next_foreign_expiry: None,
                ..
            }
        ),
        "{beat:?}"
    );
    assert_eq!(survivor.claim(9, 9).await.grants.len(), 1);
}

/// Each was shorter than a lease, and only one worker got through between them.
pub(crate) async fn hole_09_two_short_outages_reap_nobody(h: impl Harness) {
    let (lucky, mut unlucky) = (h.caller().await, h.caller().await);
    h.live(&[&lucky, &unlucky], Duration::from_secs(60)).await;
    unlucky.enqueue(&[message(&["example.net"])]).await;
    let claimed = tasks(&unlucky.claim(9, 9).await).remove(0);
    for _ in 0..2 {
        h.pass(Duration::from_secs(16));
        let beat = lucky.beat().await;
        assert!(
            matches!(
                beat,
                Beat::Renewed {
                    late: false,
                    reaped: 0,
                    ..
                }
            ),
            "{beat:?}"
        );
    }
    // Its lease has been over for two seconds.
    assert_eq!(h.live(&[&lucky], TIMING.beat).await, 0);
    let beat = unlucky.beat().await;
    assert!(matches!(beat, Beat::Renewed { late: true, .. }), "{beat:?}");
    assert!(unlucky.check(&claimed.handle).await);
}

/// Its deadline passed, it went back, and the process claimed it beside its own open transaction.
pub(crate) async fn hole_10_a_task_still_open_in_a_process_is_not_claimed_by_it(h: impl Harness) {
    let (mut busy, mut other) = (h.caller().await, h.caller().await);
    let open = message(&["example.net"]);
    busy.enqueue(std::slice::from_ref(&open)).await;
    let handle = handles_of(&open).remove(0);
    busy.claim(9, 9).await;
    let taken_back = h.live(&[&busy, &other], TIMING.claim).await;
    assert_eq!(taken_back, 1);

    let withholding = |mut next: Next, by_name: bool| {
        if let Some(claim) = &mut next.claim {
            claim.withheld = vec![handle.task];
            claim.by_name = if by_name {
                vec![handle.clone()]
            } else {
                Vec::new()
            };
        }
        next
    };
    for by_name in [false, true] {
        let next = withholding(busy.next_claim(9, 9), by_name);
        let reply = busy.run(&next).await;
        assert_eq!((reply.grants, reply.named), (vec![], vec![]));
        // Somebody else may want it soon.
        assert_eq!(reply.then, Then::Sleep(Duration::from_secs(1)));
        h.pass(Duration::from_secs(1));
    }
    // What else is there is not withheld.
    let more = [message(&["example.net"]), message(&["example.net"])];
    busy.enqueue(&more).await;
    let next = withholding(busy.next_claim(9, 9), false);
    let claimed = tasks(&busy.run(&next).await);
    let messages: Vec<_> = claimed
        .iter()
        .map(|task| task.handle.task.message)
        .collect();
    assert_eq!(messages, more.map(|message| message.id));
    h.pass(Duration::from_secs(1));
    assert_eq!(tasks(&other.claim(9, 9).await)[0].handle, handle);
}
