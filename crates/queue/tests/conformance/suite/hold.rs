//! The third place of a task.

use std::time::Duration;

use queue::id::Handle;
use queue::operation::{Aborted, Acted, Action, Begun, Rest, Settlement};
use queue::record::Resolution::Delivered;

use crate::caller::{Caller, deferred, given_back, held};
use crate::harness::Harness;
use crate::redis_fixture::{COMMIT, delivered, handles_of, message, slots, tasks};

const MINUTE: Duration = Duration::from_secs(60);
const REASON: &str = "the record is \u{e9}";

fn hold() -> Action {
    Action::Hold {
        reason: REASON.to_owned(),
    }
}

/// One waiting task.
async fn one(worker: &mut Caller) -> Handle {
    let sent = message(&["example.net"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    handles_of(&sent).remove(0)
}

/// Ready, deferred, in flight, held.
async fn places(h: &impl Harness) -> (u64, u64, u64, u64) {
    let counts = h.counts().await;
    let (ready, deferred, in_flight) = (counts.ready, counts.deferred, counts.in_flight);
    (ready, deferred, in_flight, counts.held)
}

/// It was refused as stale, so that the release sent the message again.
pub(crate) async fn fault_18_a_delivery_of_a_held_task_counts(h: impl Harness) {
    let (mut slow, mut other) = (h.caller().await, h.caller().await);
    let (whole, partly) = (one(&mut slow).await, one(&mut slow).await);
    slow.claim(9, 9).await;
    h.live(&[&other], MINUTE).await;
    let both = [whole.clone(), partly.clone()];
    assert_eq!(other.act(hold(), &both).await, [Acted::Done; 2]);
    let mut again = h.caller().await;
    let of_two = Settlement {
        recipients: 2,
        ..delivered(&partly)
    };
    let settlements = vec![delivered(&whole), of_two];
    assert_eq!(again.settle(settlements).await.stale, [0, 1]);
    assert_eq!(places(&h).await, (0, 0, 0, 1));
    let released = other.act(Action::Release, &both).await;
    assert_eq!(released, [Acted::Missing, Acted::Done]);
    let reply = other.claim(9, 9).await;
    let [claimed] = &tasks(&reply)[..] else {
        panic!("{reply:?}")
    };
    assert_eq!(claimed.handle, partly);
    assert_eq!(claimed.state.resolved, [(0, Delivered)]);
}

pub(crate) async fn a_held_task_waits_for_its_release(h: impl Harness) {
    let mut worker = h.caller().await;
    let (due, later) = (one(&mut worker).await, one(&mut worker).await);
    let claimed = worker.claim(9, 9).await;
    worker.release(slots(&claimed)).await;
    worker
        .settle(vec![given_back(&due), deferred(&later, MINUTE)])
        .await;
    let both = [due, later];
    assert_eq!(worker.act(hold(), &both).await, [Acted::Done; 2]);
    assert_eq!(places(&h).await, (0, 0, 0, 2));
    h.live(&[&worker], MINUTE * 10).await;
    assert!(worker.claim(9, 9).await.grants.is_empty());
    assert_eq!(h.queue().hasten("mx:example.net", 9).await.unwrap(), 0);

    let released = worker.act(Action::Release, &both).await;
    assert_eq!(released, [Acted::Done; 2]);
    assert_eq!(places(&h).await, (2, 0, 0, 0));
    let reply = worker.claim(9, 9).await;
    assert!(tasks(&reply).iter().all(|task| task.state.hold.is_none()));
    worker.deliver_all(&reply).await;
    // What is held last leaves nothing behind either.
    let last = one(&mut worker).await;
    worker.act(hold(), std::slice::from_ref(&last)).await;
    worker.act(Action::Drop { notice: None }, &[last]).await;
    h.live(&[&worker], MINUTE).await;
    worker.claim(9, 9).await;
    let left = h.remains().await;
    assert_eq!(
        (left.tasks, left.held, left.queues, left.rows),
        (0, 0, 0, 0)
    );
}

pub(crate) async fn a_task_settled_as_held_keeps_what_is_known_of_it(h: impl Harness) {
    let (mut worker, mut other) = (h.caller().await, h.caller().await);
    let handle = one(&mut worker).await;
    worker.claim(9, 9).await;
    worker.settle(vec![deferred(&handle, MINUTE)]).await;
    h.live(&[&worker, &other], MINUTE).await;
    let claimed = tasks(&worker.claim(9, 9).await).remove(0);
    let settlement = Settlement {
        delivered: vec![1],
        recipients: 3,
        ..held(&handle, REASON)
    };
    // Only by its owner.
    let stale = Settlement {
        delivered: Vec::new(),
        ..settlement.clone()
    };
    assert_eq!(other.settle(vec![stale]).await.stale, [0]);
    assert_eq!(places(&h).await, (0, 0, 1, 0));
    let reply = worker.settle(vec![settlement.clone()]).await;
    assert!(reply.stale.is_empty());
    assert_eq!(places(&h).await, (0, 0, 0, 1));
    assert_eq!(worker.settle(vec![settlement]).await.stale, [0]);

    worker.act(Action::Release, &[handle]).await;
    let again = tasks(&worker.claim(9, 9).await).remove(0).state;
    assert_eq!(again.attempts, 1);
    assert_eq!(again.notes, claimed.state.notes);
    assert_eq!(again.resolved, [(1, Delivered)]);
    assert_eq!(again.hold, None);
}

pub(crate) async fn a_claimed_task_is_held_when_its_claim_ends(h: impl Harness) {
    let mut worker = h.caller().await;
    let mut handles = Vec::new();
    for _ in 0..4 {
        handles.push(one(&mut worker).await);
    }
    let reply = worker.claim(20, 9).await;
    assert_eq!(tasks(&reply).len(), 4);
    assert_eq!(worker.act(hold(), &handles).await, [Acted::Pending; 4]);
    assert_eq!(worker.act(hold(), &handles).await, [Acted::Unchanged; 4]);
    assert!(worker.check(&handles[0]).await);
    let kept = Settlement {
        delivered: vec![1],
        recipients: 2,
        rest: Rest::Kept,
        ..delivered(&handles[3])
    };
    worker
        .settle(vec![
            deferred(&handles[0], MINUTE),
            given_back(&handles[1]),
            delivered(&handles[2]),
            kept,
        ])
        .await;
    // What is delivered has ended, and a claim that is kept is not over.
    assert_eq!(places(&h).await, (0, 0, 1, 2));
    let of_two = Settlement {
        delivered: vec![0],
        recipients: 2,
        ..delivered(&handles[3])
    };
    worker.settle(vec![of_two]).await;
    assert_eq!(places(&h).await, (0, 0, 0, 2));
    h.live(&[&worker], MINUTE * 2).await;
    assert!(worker.claim(9, 9).await.grants.is_empty());
    worker.act(Action::Release, &handles).await;
    worker.release(slots(&reply)).await;
    let mut attempts: Vec<_> = tasks(&worker.claim(9, 9).await)
        .into_iter()
        .map(|task| task.state.attempts)
        .collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [0, 1]);
}

pub(crate) async fn a_hold_of_a_claimed_task_can_be_taken_back(h: impl Harness) {
    let mut worker = h.caller().await;
    let handle = one(&mut worker).await;
    let handles = std::slice::from_ref(&handle);
    worker.claim(9, 9).await;
    let released = worker.act(Action::Release, handles).await;
    assert_eq!(released, [Acted::Unchanged]);
    worker.act(hold(), handles).await;
    let released = worker.act(Action::Release, handles).await;
    assert_eq!(released, [Acted::Done]);
    worker.settle(vec![given_back(&handle)]).await;
    assert_eq!(places(&h).await, (1, 0, 0, 0));
}

pub(crate) async fn a_held_task_of_a_dead_worker_is_held(h: impl Harness) {
    let (mut victim, mut survivor) = (h.caller().await, h.caller().await);
    let (begun, untouched) = (one(&mut victim).await, one(&mut victim).await);
    victim.claim(9, 9).await;
    assert_eq!(victim.begin(&begun).await, Begun::Begun);
    let both = [begun.clone(), untouched];
    survivor.act(hold(), &both).await;
    assert_eq!(h.outlive(&survivor).await, 2);
    assert_eq!(places(&h).await, (0, 0, 0, 2));
    survivor.act(Action::Release, &both).await;
    for task in tasks(&survivor.claim(9, 9).await) {
        assert_eq!(task.state.reclaimed_begun, task.handle == begun);
    }
}

pub(crate) async fn the_mark_of_a_begun_task_outlives_the_hold(h: impl Harness) {
    let mut worker = h.caller().await;
    let handle = one(&mut worker).await;
    let handles = std::slice::from_ref(&handle);
    worker.claim(9, 9).await;
    worker.begin(&handle).await;
    worker.settle(vec![given_back(&handle)]).await;
    worker.act(hold(), handles).await;
    worker.act(Action::Release, handles).await;
    let claimed = tasks(&worker.claim(9, 9).await).remove(0);
    assert!(claimed.state.reclaimed_begun);
    // And of one that was held by who had begun it.
    let other = one(&mut worker).await;
    worker.claim(9, 9).await;
    worker.begin(&other).await;
    worker.settle(vec![held(&other, REASON)]).await;
    worker
        .act(Action::Release, std::slice::from_ref(&other))
        .await;
    let claimed = tasks(&worker.claim(9, 9).await).remove(0);
    assert!(claimed.state.reclaimed_begun);
}

/// Two tasks, one of them held, of a message that lives for a minute.
async fn expiring(h: &impl Harness, worker: &mut Caller) -> Vec<Handle> {
    let mut sent = message(&["example.net", "example.org"]);
    sent.header.lifetime_ms = 60_000;
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handles = handles_of(&sent);
    worker.act(hold(), &handles[..1]).await;
    h.live(&[&*worker], MINUTE).await;
    assert_eq!(h.queue().expiring(9).await.unwrap(), [sent.id]);
    handles
}

pub(crate) async fn held_mail_expires(h: impl Harness) {
    let mut worker = h.caller().await;
    let handles = expiring(&h, &mut worker).await;
    let reply = worker.claim_by_name(&handles).await;
    assert_eq!(reply.named.len(), 2);
    assert!(reply.named.iter().all(|task| task.expires_in.is_zero()));
    assert_eq!(reply.named[0].state.hold.as_deref(), Some(REASON));
    assert_eq!(places(&h).await, (0, 0, 2, 0));
    // Not settled, it is held as before.
    worker.settle(vec![given_back(&handles[0])]).await;
    assert_eq!(places(&h).await, (0, 0, 1, 1));
    let reply = worker.claim_by_name(&handles[..1]).await;
    assert_eq!(reply.named.len(), 1);
    worker.settle(handles.iter().map(delivered).collect()).await;
    assert_eq!(h.remains().await.expiries, 0);
}

pub(crate) async fn held_mail_is_kept_where_that_is_wanted(h: impl Harness) {
    let mut worker = h.caller().await;
    h.keep_held().await;
    let handles = expiring(&h, &mut worker).await;
    let reply = worker.claim_by_name(&handles).await;
    assert_eq!(reply.named.len(), 1);
    worker.deliver_all(&reply).await;
    assert_eq!(places(&h).await, (0, 0, 0, 1));
    // Found again, and then not looked at all the time.
    h.live(&[&worker], MINUTE).await;
    assert_eq!(h.queue().expiring(9).await.unwrap().len(), 1);
    let reply = worker.claim_by_name(&handles).await;
    assert!(reply.named.is_empty());
    h.live(&[&worker], MINUTE).await;
    assert!(h.queue().expiring(9).await.unwrap().is_empty());
    h.pass(MINUTE * 60);
    worker.beat().await;
    assert_eq!(h.queue().expiring(9).await.unwrap().len(), 1);
    worker.act(Action::Release, &handles[..1]).await;
    let reply = worker.claim(9, 9).await;
    assert!(tasks(&reply)[0].expires_in.is_zero());
}

pub(crate) async fn a_held_message_is_taken_back(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = message(&["example.net", "example.org"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handles = handles_of(&sent);
    worker.act(hold(), &handles[..1]).await;
    let call = worker.call(COMMIT);
    let aborted = worker.abort(call, sent.id, &handles).await;
    assert_eq!(aborted, Aborted::Gone);
    assert_eq!(places(&h).await, (0, 0, 0, 0));
    assert!(h.read(&[sent.id]).await[0].is_none());
}
