//! Deadlines of claims, leases of workers.

use std::time::Duration;

use queue::operation::{Beat, Begun, Taken};

use crate::caller::deferred;
use crate::harness::Harness;
use crate::redis_fixture::{COMMIT, TIMING, handles_of, message, slots, tasks};

const MS: Duration = Duration::from_millis(1);

pub(crate) async fn a_claim_that_is_not_begun_goes_back_from_a_living_worker(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = message(&["example.net"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handle = handles_of(&sent).remove(0);
    worker.claim(9, 9).await;
    assert_eq!(h.live(&[&worker], TIMING.claim - MS).await, 0);
    assert!(worker.check(&handle).await);
    h.pass(MS);
    assert!(matches!(
        worker.beat().await,
        Beat::Renewed {
            reaped: 1,
            more: false,
            ..
        }
    ));
    assert!(!worker.check(&handle).await);
    let claimed = tasks(&worker.claim(9, 9).await).remove(0);
    assert!(!claimed.state.reclaimed_begun);
}

pub(crate) async fn a_begun_claim_goes_back_marked_after_its_longer_deadline(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = message(&["example.net"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handle = handles_of(&sent).remove(0);
    worker.claim(9, 9).await;
    h.live(&[&worker], Duration::from_secs(100)).await;
    assert_eq!(worker.begin(&handle).await, Begun::Begun);
    h.live(&[&worker], Duration::from_secs(100)).await;
    // Again, and it has the whole time anew.
    assert_eq!(worker.begin(&handle).await, Begun::Begun);
    assert_eq!(h.live(&[&worker], TIMING.begun - MS).await, 0);
    assert!(worker.check(&handle).await);
    h.pass(MS);
    assert!(matches!(
        worker.beat().await,
        Beat::Renewed { reaped: 1, .. }
    ));
    assert!(!worker.check(&handle).await);
    assert_eq!(worker.begin(&handle).await, Begun::NotHeld);
    let claimed = tasks(&worker.claim(9, 9).await).remove(0);
    assert!(claimed.state.reclaimed_begun);
    assert_eq!(claimed.state.attempts, 0);
}

/// Whoever began it may still have the last octet to send.
pub(crate) async fn the_mark_of_a_begun_task_outlives_deferrals(h: impl Harness) {
    let mut survivor = h.caller().await;
    let mut victim = h.caller().await;
    let sent = [message(&["example.net"]), message(&["example.net"])];
    survivor.enqueue(&sent).await;
    let [begun, claimed] = sent.each_ref().map(|message| handles_of(message).remove(0));
    victim.claim(9, 9).await;
    victim.begin(&begun).await;
    assert_eq!(h.outlive(&survivor).await, 2);
    for _ in 0..3 {
        let reply = survivor.claim(9, 9).await;
        survivor.release(slots(&reply)).await;
        let marks: Vec<_> = tasks(&reply)
            .into_iter()
            .map(|task| (task.handle, task.state.reclaimed_begun))
            .collect();
        assert_eq!(marks, [(begun.clone(), true), (claimed.clone(), false)]);
        let later = Duration::from_secs(60);
        survivor
            .settle(vec![deferred(&begun, later), deferred(&claimed, later)])
            .await;
        h.live(&[&survivor], later).await;
    }
}

/// Between the end of its lease and its reap a worker holds nothing it could rely on.
pub(crate) async fn a_late_worker_begins_nothing_and_beats_again(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = message(&["example.net"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handle = handles_of(&sent).remove(0);
    worker.claim(9, 9).await;
    h.pass(TIMING.lease);
    assert_eq!(worker.begin(&handle).await, Begun::NotHeld);
    assert!(!worker.check(&handle).await);
    let next = worker.next_claim(9, 9);
    assert_eq!(worker.take(&next).await, Taken::Expired);
    // Mail may still be accepted: it does not become the worker's own.
    let call = worker.call(COMMIT);
    assert_eq!(
        worker.enqueue_as(call, &[message(&["example.net"])]).await,
        Taken::Ran(())
    );

    assert!(matches!(
        worker.beat().await,
        Beat::Renewed { late: true, .. }
    ));
    assert!(matches!(
        worker.beat().await,
        Beat::Renewed { late: false, .. }
    ));
    assert_eq!(worker.begin(&handle).await, Begun::Begun);
    assert_eq!(tasks(&worker.run(&next).await).len(), 1);
}

pub(crate) async fn the_next_foreign_expiry_is_told(h: impl Harness) {
    let told = |beat: Beat| match beat {
        Beat::Renewed {
            next_foreign_expiry,
            ..
        } => next_foreign_expiry,
        Beat::Reaped => panic!("a living worker is reaped"),
    };
    let one = h.caller().await;
    assert_eq!(told(one.beat().await), None);
    h.live(&[&one], TIMING.lease).await;
    let two = h.caller().await;
    h.pass(Duration::from_secs(3));
    assert_eq!(told(one.beat().await), Some(Duration::from_secs(27)));
    // Before it may reap there is nothing to wake for.
    let three = h.caller().await;
    assert_eq!(told(three.beat().await), Some(TIMING.lease));
    h.live(&[&one], Duration::from_secs(25)).await;
    assert_eq!(told(one.beat().await), Some(Duration::from_secs(2)));
    assert_eq!(told(two.beat().await), Some(TIMING.lease));
}

/// Forwards, everybody's lease is over at once; backwards, nobody's ever is.
pub(crate) async fn a_clock_that_jumps_reaps_nobody(h: impl Harness) {
    let (mut one, mut two) = (h.caller().await, h.caller().await);
    h.live(&[&one, &two], Duration::from_secs(60)).await;
    one.enqueue(&[message(&["example.net"]), message(&["example.org"])])
        .await;
    let mine = tasks(&one.claim(1, 1).await).remove(0).handle;
    let yours = tasks(&two.claim(1, 1).await).remove(0).handle;
    one.begin(&mine).await;
    two.begin(&yours).await;

    h.pass(Duration::from_secs(600));
    for worker in [&one, &two] {
        assert!(matches!(
            worker.beat().await,
            Beat::Renewed {
                late: true,
                reaped: 0,
                ..
            }
        ));
    }
    assert!(one.check(&mine).await && two.check(&yours).await);

    let now = h.clock().now();
    h.clock().set(now - 550_000);
    for worker in [&one, &two] {
        assert!(matches!(
            worker.beat().await,
            Beat::Renewed { reaped: 0, .. }
        ));
    }
    assert_eq!(h.live(&[&one, &two], Duration::from_secs(60)).await, 0);
    assert!(one.check(&mine).await && two.check(&yours).await);
    // Who dies after that is found out as ever.
    assert_eq!(h.outlive(&one).await, 1);
    assert!(one.check(&mine).await);
}

pub(crate) async fn who_dies_when_the_clock_goes_back_is_reaped_in_time(h: impl Harness) {
    let (one, mut two) = (h.caller().await, h.caller().await);
    h.live(&[&one, &two], Duration::from_secs(60)).await;
    two.enqueue(&[message(&["example.net"])]).await;
    two.claim(1, 1).await;
    let now = h.clock().now();
    h.clock().set(now - 3_600_000);
    assert_eq!(h.live(&[&one], Duration::from_secs(60)).await, 1);
    assert_eq!(h.places().await, (1, 0, 0));
}
