//! Queues that somebody has suspended.

use std::time::Duration;

use queue::id::Scope;
use queue::operation::{NextReply, Suspension, Then};

use crate::harness::Harness;
use crate::redis_fixture::{TIMING, handles_of, message_of, tasks};

pub(crate) async fn a_suspended_queue_parks_and_is_resumed(h: impl Harness) {
    let mut worker = h.caller().await;
    let (queue, scope) = (h.queue(), site("example.net"));
    suspend(&h, &scope, None).await;
    worker
        .enqueue(&[message_of("a", &["example.net"], &[b"x\r\n"])])
        .await;
    // Nobody asks again and again.
    let reply = worker.claim(9, 9).await;
    assert!(reply.grants.is_empty());
    assert_eq!(reply.then, Then::Sleep(TIMING.safety_wake));
    h.live(&[&worker], TIMING.safety_wake).await;
    assert!(worker.claim(9, 9).await.grants.is_empty());
    let known = queue.suspensions().await.expect("a list");
    assert_eq!(
        known,
        [Suspension {
            scope: scope.clone(),
            lasts: None,
            reason: REASON.to_owned()
        }]
    );

    assert!(queue.resume(&scope).await.expect("a reply"));
    assert!(!queue.resume(&scope).await.expect("a reply"), "repeated");
    assert_eq!(claimed(&mut worker).await, 1);
    assert_eq!(queue.suspensions().await.expect("a list"), []);
    assert_eq!(h.remains().await.parked, 0);
}

pub(crate) async fn a_suspension_ends_by_itself(h: impl Harness) {
    let mut worker = h.caller().await;
    suspend(&h, &Scope::Tenant("a".into()), Some(12_345)).await;
    worker
        .enqueue(&[message_of("a", &["example.net"], &[b"x\r\n"])])
        .await;
    let reply = worker.claim(9, 9).await;
    assert_eq!(reply.then, Then::Sleep(Duration::from_millis(12_345)));
    h.pass(Duration::from_millis(12_344));
    assert!(worker.claim(9, 9).await.grants.is_empty());
    h.pass(Duration::from_millis(1));
    assert_eq!(h.queue().suspensions().await.expect("a list"), []);
    assert_eq!(claimed(&mut worker).await, 1);
}

pub(crate) async fn each_scope_keeps_back_its_own(h: impl Harness) {
    let mut worker = h.caller().await;
    let everything = [
        ("a", "one.example"),
        ("a", "two.example"),
        ("b", "one.example"),
        ("b", "two.example"),
    ];
    for (scope, expected) in [
        (Scope::All, &[][..]),
        (Scope::Tenant("a".into()), &everything[2..]),
        (site("one.example"), &[everything[1], everything[3]][..]),
    ] {
        suspend(&h, &scope, None).await;
        for (tenant, domain) in everything {
            worker
                .enqueue(&[message_of(tenant, &[domain], &[b"x\r\n"])])
                .await;
        }
        let reply = worker.claim(9, 9).await;
        let mut granted = granted(&reply);
        granted.sort();
        let expected: Vec<_> = expected
            .iter()
            .map(|(tenant, domain)| ((*tenant).to_owned(), format!("mx:{domain}")))
            .collect();
        assert_eq!(granted, expected, "{scope}");
        worker.deliver_all(&reply).await;
        h.queue().resume(&scope).await.expect("a reply");
        assert_eq!(claimed(&mut worker).await, 4 - expected.len());
    }
    assert_eq!(h.places().await, (0, 0, 0));
}

/// A suspended queue that waits for a slot lets the next one go.
pub(crate) async fn suspended_mail_takes_no_slot_and_no_turn(h: impl Harness) {
    h.limit(1, &[]).await;
    let mut worker = h.caller().await;
    for tenant in ["a", "b", "c"] {
        worker
            .enqueue(&[message_of(tenant, &["example.net"], &[b"x\r\n"])])
            .await;
    }
    let first = worker.claim(9, 9).await;
    assert_eq!(granted(&first)[0].0, "a");
    suspend(&h, &Scope::Tenant("b".into()), None).await;
    worker.deliver_all(&first).await;
    let second = worker.claim(9, 9).await;
    assert_eq!(granted(&second)[0].0, "c");
    worker.deliver_all(&second).await;
    assert!(worker.claim(9, 9).await.grants.is_empty());
}

pub(crate) async fn suspended_mail_expires(h: impl Harness) {
    let mut worker = h.caller().await;
    suspend(&h, &Scope::All, None).await;
    let mut sent = message_of("a", &["example.net"], &[b"x\r\n"]);
    sent.header.lifetime_ms = 60_000;
    worker.enqueue(std::slice::from_ref(&sent)).await;
    assert!(worker.claim(9, 9).await.grants.is_empty());
    h.live(&[&worker], Duration::from_secs(60)).await;
    assert_eq!(h.queue().expiring(9).await.expect("a reply"), [sent.id]);
    let named = worker.claim_by_name(&handles_of(&sent)).await;
    assert_eq!(named.named.len(), 1);
    worker.deliver_all(&named).await;
    assert_eq!(h.places().await, (0, 0, 0));
    // What is noted of its queue goes with the suspension.
    h.queue().resume(&Scope::All).await.expect("a reply");
    h.live(&[&worker], TIMING.safety_wake).await;
    assert_eq!(worker.claim(9, 9).await.then, Then::Empty);
    assert_eq!(h.remains().await.parked, 0);
}

pub(crate) async fn many_parked_queues_are_resumed(h: impl Harness) {
    const QUEUES: usize = 300;
    let mut worker = h.caller().await;
    suspend(&h, &Scope::All, None).await;
    let sent: Vec<_> = (0..QUEUES)
        .map(|k| message_of("a", &[&format!("d{k}.example")], &[b"x\r\n"]))
        .collect();
    worker.enqueue(&sent).await;
    while worker.claim(9, 9).await.then == Then::More {}
    assert_eq!(h.remains().await.parked, QUEUES);
    h.queue().resume(&Scope::All).await.expect("a reply");
    assert_eq!(claimed(&mut worker).await, QUEUES);
    assert_eq!(h.remains().await.parked, 0);
}

pub(crate) async fn a_suspension_may_be_changed(h: impl Harness) {
    let mut worker = h.caller().await;
    let scope = site("example.net");
    worker
        .enqueue(&[message_of("a", &["example.net"], &[b"x\r\n"])])
        .await;
    suspend(&h, &scope, Some(10_000)).await;
    assert!(worker.claim(9, 9).await.grants.is_empty());
    suspend(&h, &scope, Some(20_000)).await;
    h.pass(Duration::from_millis(10_000));
    let reply = worker.claim(9, 9).await;
    assert!(reply.grants.is_empty());
    assert_eq!(reply.then, Then::Sleep(Duration::from_millis(10_000)));
    suspend(&h, &scope, Some(0)).await;
    assert_eq!(claimed(&mut worker).await, 1);
}

async fn suspend(h: &impl Harness, scope: &Scope, lasts_ms: Option<u64>) {
    let suspension = Suspension {
        scope: scope.clone(),
        lasts: lasts_ms.map(Duration::from_millis),
        reason: REASON.to_owned(),
    };
    h.queue().suspend(&suspension).await.expect("a reply");
}

fn site(domain: &str) -> Scope {
    Scope::Site(format!("mx:{domain}"))
}

fn granted(reply: &NextReply) -> Vec<(String, String)> {
    let queues = reply.grants.iter().map(|grant| &grant.queue);
    queues
        .map(|queue| (queue.tenant.clone(), queue.route.clone()))
        .collect()
}

/// Claims and delivers what there is; how much.
async fn claimed(worker: &mut crate::caller::Caller) -> usize {
    let mut count = 0;
    loop {
        let reply = worker.claim(9, 9).await;
        count += tasks(&reply).len();
        worker.deliver_all(&reply).await;
        if reply.then != Then::More {
            return count;
        }
    }
}

const REASON: &str = "under\nrepair";
