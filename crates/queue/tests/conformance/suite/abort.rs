//! An enqueue without a reply is taken back, from wherever its message is by then.

use std::time::Duration;

use queue::id::{Call, Handle};
use queue::operation::{Aborted, Taken};
use queue::record::NewMessage;

use crate::caller::{Caller, deferred, given_back};
use crate::harness::Harness;
use crate::redis_fixture::{COMMIT, delivered, handles_of, message, slots, tasks};

/// A message of two tasks whose enqueue has run, and the call that nobody answered.
async fn unanswered(worker: &mut Caller) -> (Call, NewMessage, Vec<Handle>) {
    let sent = message(&["example.net", "example.org"]);
    let call = worker.call(COMMIT);
    let taken = worker.enqueue_as(call, std::slice::from_ref(&sent)).await;
    assert_eq!(taken, Taken::Ran(()));
    let handles = handles_of(&sent);
    (call, sent, handles)
}

async fn is_gone(h: &impl Harness, sent: &NewMessage) -> bool {
    h.places().await == (0, 0, 0) && h.read(&[sent.id]).await[0].is_none()
}

pub(crate) async fn a_waiting_message_is_taken_back(h: impl Harness) {
    let mut worker = h.caller().await;
    let (call, sent, handles) = unanswered(&mut worker).await;
    assert_eq!(worker.abort(call, sent.id, &handles).await, Aborted::Gone);
    assert!(is_gone(&h, &sent).await);
    assert!(worker.claim(9, 9).await.grants.is_empty());

    // Also after attempts, by anybody; the marks go with it.
    let (_, sent, handles) = unanswered(&mut worker).await;
    worker.claim(9, 9).await;
    worker.begin(&handles[1]).await;
    let later = Duration::from_secs(60);
    worker
        .settle(vec![deferred(&handles[0], later), given_back(&handles[1])])
        .await;
    let mut other = h.caller().await;
    let call = other.call(COMMIT);
    assert_eq!(other.abort(call, sent.id, &handles).await, Aborted::Gone);
    assert!(is_gone(&h, &sent).await);
    assert_eq!(h.remains().await.tasks, 0);
}

pub(crate) async fn a_message_claimed_here_and_not_begun_is_taken_back(h: impl Harness) {
    let mut worker = h.caller().await;
    let (call, sent, handles) = unanswered(&mut worker).await;
    let reply = worker.claim(1, 1).await;
    assert_eq!(tasks(&reply).len(), 1);
    assert_eq!(worker.abort(call, sent.id, &handles).await, Aborted::Gone);
    assert!(is_gone(&h, &sent).await);
    let claimed = &tasks(&reply)[0].handle;
    assert!(!worker.check(claimed).await);
    assert_eq!(worker.settle(vec![delivered(claimed)]).await.stale, [0]);
    worker.release(slots(&reply)).await;
}

pub(crate) async fn a_begun_message_is_not_taken_back(h: impl Harness) {
    let mut worker = h.caller().await;
    let (call, sent, handles) = unanswered(&mut worker).await;
    worker.claim(9, 9).await;
    worker.begin(&handles[1]).await;
    assert_eq!(worker.abort(call, sent.id, &handles).await, Aborted::Held);
    assert_eq!(h.places().await, (0, 0, 2));
    assert!(worker.check(&handles[0]).await && worker.check(&handles[1]).await);
    assert!(h.read(&[sent.id]).await[0].is_some());
    // Barred it is all the same.
    let again = worker.enqueue_as(call, std::slice::from_ref(&sent)).await;
    assert_eq!(again, Taken::Refused);
    assert!(h.read(&[sent.id]).await[0].is_some());
}

pub(crate) async fn a_message_claimed_elsewhere_is_not_taken_back(h: impl Harness) {
    let (mut worker, mut other) = (h.caller().await, h.caller().await);
    let (call, sent, handles) = unanswered(&mut worker).await;
    let claimed = tasks(&other.claim(1, 1).await).remove(0).handle;
    assert_eq!(worker.abort(call, sent.id, &handles).await, Aborted::Held);
    assert_eq!(h.places().await, (1, 0, 1));
    assert!(other.check(&claimed).await);
}

pub(crate) async fn a_message_settled_in_part_is_not_taken_back(h: impl Harness) {
    let mut worker = h.caller().await;
    let (call, sent, handles) = unanswered(&mut worker).await;
    worker.claim(9, 9).await;
    worker
        .settle(vec![delivered(&handles[0]), given_back(&handles[1])])
        .await;
    // By the tasks it had, and by those it has: somebody has seen it.
    for handles in [&handles[..], &handles[..1], &[]] {
        assert_eq!(worker.abort(call, sent.id, handles).await, Aborted::Held);
    }
    assert_eq!(h.places().await, (1, 0, 0));
    assert!(h.read(&[sent.id]).await[0].is_some());
}

pub(crate) async fn a_message_that_never_came_or_has_gone_is_gone(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = message(&["example.net"]);
    let call = worker.call(COMMIT);
    assert_eq!(
        worker.abort(call, sent.id, &handles_of(&sent)).await,
        Aborted::Gone
    );
    let late = worker.enqueue_as(call, std::slice::from_ref(&sent)).await;
    assert_eq!(late, Taken::Refused);
    assert!(is_gone(&h, &sent).await);

    let (call, sent, handles) = unanswered(&mut worker).await;
    let reply = worker.claim(9, 9).await;
    worker.deliver_all(&reply).await;
    assert_eq!(worker.abort(call, sent.id, &handles).await, Aborted::Gone);
    assert!(is_gone(&h, &sent).await);
}

pub(crate) async fn an_abort_needs_no_lease(h: impl Harness) {
    let (mut late, survivor) = (h.caller().await, h.caller().await);
    let (call, sent, handles) = unanswered(&mut late).await;
    h.pass(Duration::from_secs(31));
    assert_eq!(late.abort(call, sent.id, &handles).await, Aborted::Gone);
    assert!(is_gone(&h, &sent).await);

    // Nor to be a member: then nothing needs to be barred, a reaped worker's enqueue is refused anyway.
    late.beat().await;
    let (call, sent, handles) = unanswered(&mut late).await;
    h.outlive(&survivor).await;
    let barred = late.call(COMMIT);
    assert_eq!(late.abort(call, sent.id, &handles).await, Aborted::Gone);
    assert_eq!(
        late.abort(barred, message(&[]).id, &[]).await,
        Aborted::Gone
    );
    assert!(is_gone(&h, &sent).await);
    let taken = late.enqueue_as(barred, std::slice::from_ref(&sent)).await;
    assert_eq!(taken, Taken::Reaped);
    assert!(is_gone(&h, &sent).await);
}
