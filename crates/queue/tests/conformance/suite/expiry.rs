//! Messages whose lifetime runs out, wherever their tasks are.

use std::time::Duration;

use queue::record::NewMessage;

use crate::caller::{deferred, failed};
use crate::harness::Harness;
use crate::redis_fixture::{claim, delivered, handles_of, message, tasks};

/// How long what was found expired is left to whoever found it.
const PUT_OFF: Duration = Duration::from_secs(30);

fn short_lived(domains: &[&str], seconds: u64) -> NewMessage {
    let mut sent = message(domains);
    sent.header.lifetime_ms = seconds * 1000;
    sent
}

pub(crate) async fn mail_that_cannot_be_claimed_expires(h: impl Harness) {
    h.limit(20, &[("stuck.example", 0)]).await;
    let mut worker = h.caller().await;
    let sent = short_lived(&["stuck.example"], 20);
    worker
        .enqueue(&[sent.clone(), message(&["stuck.example"])])
        .await;
    assert!(worker.claim(9, 9).await.grants.is_empty());
    h.live(&[&worker], Duration::from_secs(19)).await;
    assert!(h.queue().expiring(10).await.unwrap().is_empty());
    h.pass(Duration::from_secs(1));
    assert_eq!(h.queue().expiring(10).await.unwrap(), [sent.id]);

    let reply = worker.claim_by_name(&handles_of(&sent)).await;
    assert!(reply.grants.is_empty(), "no slot is taken");
    assert_eq!(reply.named.len(), 1);
    assert_eq!(reply.named[0].handle, handles_of(&sent)[0]);
    assert_eq!(reply.named[0].expires_in, Duration::ZERO);
    let notification = message(&["example.org"]);
    let settlement = failed(&reply.named[0].handle, Some(notification.clone()));
    assert!(worker.settle(vec![settlement]).await.stale.is_empty());
    let records = h.read(&[sent.id, notification.id]).await;
    assert!(records[0].is_none() && records[1].is_some());
}

pub(crate) async fn deferred_mail_expires_before_it_is_due(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = short_lived(&["example.net"], 60);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handle = handles_of(&sent).remove(0);
    worker.claim(9, 9).await;
    worker
        .settle(vec![deferred(&handle, Duration::from_secs(3600))])
        .await;
    h.live(&[&worker], Duration::from_secs(60)).await;
    assert_eq!(h.queue().expiring(10).await.unwrap(), [sent.id]);
    let reply = worker.claim_by_name(std::slice::from_ref(&handle)).await;
    assert_eq!(reply.named[0].state.attempts, 1);
    worker.settle(vec![failed(&handle, None)]).await;
    assert_eq!(h.places().await, (0, 0, 0));
}

pub(crate) async fn what_expired_is_put_off_for_everybody(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = [
        short_lived(&["example.net"], 3),
        short_lived(&["example.net"], 1),
        short_lived(&["example.net"], 2),
        short_lived(&["example.net"], 60),
    ];
    worker.enqueue(&sent).await;
    h.pass(Duration::from_secs(5));
    // The longest dead first, as many as are wanted.
    let expired = [1, 2, 0].map(|k: usize| sent[k].id);
    assert_eq!(h.queue().expiring(2).await.unwrap(), expired[..2]);
    h.pass(Duration::from_secs(2));
    assert_eq!(h.queue().expiring(2).await.unwrap(), expired[2..]);
    assert!(h.queue().expiring(2).await.unwrap().is_empty());
    // Found again by whoever asks then.
    h.pass(PUT_OFF - Duration::from_secs(2));
    assert_eq!(h.queue().expiring(9).await.unwrap(), expired[..2]);
    h.live(&[&worker], PUT_OFF * 2).await;
    assert_eq!(h.queue().expiring(9).await.unwrap().len(), 4);

    // An ordinary claim finds out by itself.
    let reply = worker.claim(9, 1).await;
    for task in tasks(&reply) {
        assert_eq!(task.expires_in, Duration::ZERO);
    }
    worker.deliver_all(&reply).await;
    h.pass(PUT_OFF);
    assert!(h.queue().expiring(9).await.unwrap().is_empty());
}

/// It is its owner's to expire; everybody else finds it again when that fails.
pub(crate) async fn a_claimed_task_expires_with_its_owner(h: impl Harness) {
    let (mut owner, mut other) = (h.caller().await, h.caller().await);
    let sent = short_lived(&["example.net", "example.org"], 20);
    owner.enqueue(std::slice::from_ref(&sent)).await;
    let handles = handles_of(&sent);
    let claimed = tasks(&owner.claim(1, 1).await).remove(0);
    h.live(&[&owner, &other], Duration::from_secs(20)).await;
    assert_eq!(h.queue().expiring(9).await.unwrap(), [sent.id]);
    let named = other.claim_by_name(&handles).await.named;
    assert_eq!(named.len(), 1);
    assert_ne!(named[0].handle, claimed.handle);
    other.settle(vec![failed(&named[0].handle, None)]).await;
    // The record is the owner's as long as it holds its task.
    assert!(h.read(&[sent.id]).await[0].is_some());
    h.live(&[&owner, &other], PUT_OFF).await;
    assert_eq!(h.queue().expiring(9).await.unwrap(), [sent.id]);
    assert!(owner.check(&claimed.handle).await);
    assert!(
        owner
            .settle(vec![delivered(&claimed.handle)])
            .await
            .stale
            .is_empty()
    );
    h.pass(PUT_OFF);
    assert!(h.queue().expiring(9).await.unwrap().is_empty());
}

pub(crate) async fn a_claim_by_name_takes_only_what_waits(h: impl Harness) {
    h.limit(20, &[("full.example", 0)]).await;
    let (mut worker, mut other) = (h.caller().await, h.caller().await);
    let sent = message(&["full.example", "example.net", "example.org"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handles = handles_of(&sent);
    let first = worker.claim(1, 1).await;
    let taken = tasks(&first).remove(0).handle;

    // One is claimed, one is withheld, one is said to be in a queue where it is not, one is unknown;
    // one is named twice.
    let waiting: Vec<_> = handles
        .iter()
        .filter(|handle| **handle != taken)
        .cloned()
        .collect();
    let mut elsewhere = waiting[1].clone();
    elsewhere.queue.route = "mx:example.com".into();
    let unknown = handles_of(&message(&["example.net"])).remove(0);
    let mut next = other.next();
    let mut named = claim(0, 1);
    named.by_name = vec![
        taken.clone(),
        elsewhere,
        unknown,
        waiting[0].clone(),
        waiting[0].clone(),
        waiting[1].clone(),
    ];
    named.withheld = vec![waiting[1].task];
    next.claim = Some(named);
    let reply = other.run(&next).await;
    let got: Vec<_> = reply.named.iter().map(|task| &task.handle).collect();
    assert_eq!(got, [&waiting[0]]);
    assert_eq!(h.places().await, (1, 0, 2));
    assert!(worker.check(&taken).await && other.check(&waiting[0]).await);
    // It was not expired: how long it may live has not changed.
    let lifetime = Duration::from_millis(sent.header.lifetime_ms);
    assert_eq!(reply.named[0].expires_in, lifetime);
    h.pass(lifetime);
    assert_eq!(h.queue().expiring(9).await.unwrap(), [sent.id]);
}

pub(crate) async fn a_claim_tells_how_long_the_message_may_live(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = short_lived(&["example.net"], 100);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    for (pass, left) in [(1, 99), (19, 80), (79, 1), (1, 0), (1, 0)] {
        h.live(&[&worker], Duration::from_secs(pass)).await;
        let reply = worker.claim(9, 9).await;
        let claimed = tasks(&reply).remove(0);
        assert_eq!(claimed.expires_in, Duration::from_secs(left));
        worker.release(crate::redis_fixture::slots(&reply)).await;
        worker
            .settle(vec![crate::caller::given_back(&claimed.handle)])
            .await;
    }
}
