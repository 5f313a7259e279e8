//! Rates: how fast mail may go to one site.

use std::collections::BTreeMap;
use std::time::Duration;

use queue::operation::{Begun, Next, NextReply, Rate, Then};
use queue::record::NewMessage;

use crate::caller::{Caller, given_back};
use crate::harness::Harness;
use crate::redis_fixture::{delivered, handles_of, message_of, slots, tasks};

const SITE: &str = "example.net";

pub(crate) async fn a_rate_is_exact_over_time(h: impl Harness) {
    h.pace(20, &[(SITE, rate(7, 3_000, 1))]).await;
    let mut worker = h.caller().await;
    worker.enqueue(&messages("a", 29)).await;
    let start = h.clock().now();
    let mut at = Vec::new();
    loop {
        let reply = worker.claim(9, 9).await;
        at.extend(tasks(&reply).iter().map(|_| h.clock().now() - start));
        worker.deliver_all(&reply).await;
        match reply.then {
            Then::More => {}
            Then::Empty => break,
            // Exactly then, and not a millisecond before.
            Then::Sleep(time) => {
                h.pass(time - Duration::from_millis(1));
                assert!(worker.claim(9, 9).await.grants.is_empty(), "{at:?}");
                h.pass(Duration::from_millis(1));
            }
        }
    }
    let expected: Vec<u64> = (0..29u64).map(|k| (k * 3_000).div_ceil(7)).collect();
    assert_eq!(at, expected);
}

pub(crate) async fn a_burst_goes_at_once(h: impl Harness) {
    h.pace(20, &[(SITE, rate(10, 1_000, 5))]).await;
    let mut worker = h.caller().await;
    worker.enqueue(&messages("a", 20)).await;
    let reply = worker.claim(9, 50).await;
    assert_eq!(tasks(&reply).len(), 5);
    worker.deliver_all(&reply).await;
    assert_eq!(
        worker.claim(9, 50).await.then,
        Then::Sleep(Duration::from_millis(100))
    );
    h.pass(Duration::from_millis(250));
    let reply = worker.claim(9, 50).await;
    assert_eq!(tasks(&reply).len(), 2);
    worker.deliver_all(&reply).await;
    // A day saves up no more than one burst.
    h.live(&[&worker], Duration::from_secs(60)).await;
    assert_eq!(tasks(&worker.claim(9, 50).await).len(), 5);
}

/// Two hundred tenants wait for one site. Whoever wakes first, the one whose turn it is goes.
pub(crate) async fn tokens_go_by_turn(h: impl Harness) {
    const TENANTS: usize = 200;
    h.pace(20, &[(SITE, rate(10, 1_000, 1))]).await;
    let mut worker = h.caller().await;
    for tenant in 0..TENANTS {
        worker.enqueue(&messages(&format!("t{tenant:03}"), 2)).await;
    }
    let mut served: BTreeMap<String, usize> = BTreeMap::new();
    let mut polls = 0;
    for count in 0..2 * TENANTS {
        let reply = loop {
            let reply = worker.claim(1, 9).await;
            polls += 1;
            match reply.then {
                _ if !reply.grants.is_empty() => break reply,
                Then::Sleep(time) => h.pass(time),
                Then::More => {}
                Then::Empty => panic!("mail sleeps after {count}"),
            }
            worker.beat().await;
        };
        assert_eq!(tasks(&reply).len(), 1);
        *served
            .entry(reply.grants[0].queue.tenant.clone())
            .or_default() += 1;
        worker.deliver_all(&reply).await;
        let (least, most) = (served.values().min(), served.values().max());
        if served.len() == TENANTS {
            assert!(most <= least.map(|least| least + 1).as_ref());
        } else {
            assert_eq!(most, Some(&1), "{served:?} and others have had none");
        }
    }
    // A token is one wake-up and one grant; what waits is not looked at for it, but for its safety.
    assert!(polls < 5 * TENANTS, "{polls}");
}

pub(crate) async fn an_unused_token_goes_to_whoever_waits(h: impl Harness) {
    h.pace(
        20,
        &[
            (SITE, rate(1, 60_000, 1)),
            ("other.example", rate(1, 60_000, 1)),
        ],
    )
    .await;
    let mut worker = h.caller().await;
    worker.enqueue(&messages("a", 1)).await;
    let first = worker.claim(9, 9).await;
    assert_eq!(tasks(&first).len(), 1);
    worker.enqueue(&messages("b", 1)).await;
    let other = message_of("c", &["other.example"], &[b"x\r\n"]);
    worker.enqueue(&[other]).await;
    let second = worker.claim(9, 9).await;
    assert_eq!(tenants(&second), ["c"]);
    assert_eq!(
        worker.claim(9, 9).await.then,
        Then::Sleep(Duration::from_secs(30))
    );
    // The token is back, and the turn is the other's, who has had nothing.
    worker
        .settle(vec![given_back(&tasks(&first)[0].handle)])
        .await;
    let third = worker.claim(9, 9).await;
    assert_eq!(tenants(&third), ["b"]);
    // What was begun has used its token, whatever becomes of it.
    let handle = tasks(&third)[0].handle.clone();
    assert_eq!(worker.begin(&handle).await, Begun::Begun);
    worker.settle(vec![given_back(&handle)]).await;
    assert!(worker.claim(9, 9).await.grants.is_empty());
}

pub(crate) async fn tokens_of_the_dead_come_back_unless_begun(h: impl Harness) {
    h.pace(20, &[(SITE, rate(1, 3_600_000, 4))]).await;
    let (mut victim, mut survivor) = (h.caller().await, h.caller().await);
    survivor.enqueue(&messages("a", 6)).await;
    let lost = victim.claim(1, 4).await;
    let lost = [tasks(&lost), tasks(&victim.claim(9, 9).await)].concat();
    assert_eq!(lost.len(), 4);
    victim.begin(&lost[0].handle).await;
    assert_eq!(h.outlive(&survivor).await, 4);
    let mut claimed = 0;
    loop {
        let reply = survivor.claim(9, 9).await;
        claimed += tasks(&reply).len();
        if reply.then != Then::More {
            break;
        }
    }
    assert_eq!(claimed, 3);
}

pub(crate) async fn a_changed_rate_wakes_the_queues_of_its_site(h: impl Harness) {
    let mut worker = h.caller().await;
    for changed in [Some(rate(1_000, 1_000, 10)), None] {
        h.pace(20, &[(SITE, rate(1, 3_600_000, 1))]).await;
        worker.enqueue(&messages("a", 2)).await;
        worker.enqueue(&messages("b", 2)).await;
        let reply = worker.claim(9, 9).await;
        worker.deliver_all(&reply).await;
        assert_eq!(
            worker.claim(9, 9).await.then,
            Then::Sleep(Duration::from_secs(30))
        );
        match changed {
            Some(rate) => h.pace(20, &[(SITE, rate)]).await,
            None => h.limit(20, &[]).await,
        }
        // At most two bursts away, whatever it was before.
        h.pass(Duration::from_millis(11));
        assert_ne!(drain(&h, &mut worker).await, 0);
        h.pass(Duration::from_secs(3_600));
        worker.beat().await;
    }
    assert_eq!(h.places().await, (0, 0, 0));
}

pub(crate) async fn a_clock_that_goes_back_does_not_stop_a_site(h: impl Harness) {
    h.pace(20, &[(SITE, rate(10, 1_000, 3))]).await;
    let mut worker = h.caller().await;
    worker.enqueue(&messages("a", 4)).await;
    let reply = worker.claim(9, 9).await;
    worker.deliver_all(&reply).await;
    h.clock().set(h.clock().now() - 3_600_000);
    worker.beat().await;
    worker.enqueue(&messages("b", 1)).await;
    assert!(worker.claim(9, 9).await.grants.is_empty());
    h.pass(Duration::from_millis(399));
    assert!(worker.claim(9, 9).await.grants.is_empty());
    h.pass(Duration::from_millis(1));
    assert_eq!(tenants(&worker.claim(9, 9).await), ["b"]);
}

pub(crate) async fn slots_and_tokens_hold_together(h: impl Harness) {
    h.pace(2, &[(SITE, rate(10, 1_000, 1))]).await;
    let mut worker = h.caller().await;
    for tenant in ["a", "b", "c"] {
        worker.enqueue(&messages(tenant, 4)).await;
    }
    let start = h.clock().now();
    let (mut held, mut sent) = (Vec::new(), 0);
    for _ in 0..400 {
        let next = Next {
            // Held for a while: now the slots are what is scarce, now the tokens.
            releases: if sent % 3 == 0 {
                std::mem::take(&mut held)
            } else {
                Vec::new()
            },
            ..worker.next_claim(9, 9)
        };
        let reply = worker.run(&next).await;
        held.extend(slots(&reply));
        assert!(held.len() <= 2);
        let claimed = tasks(&reply);
        sent += claimed.len();
        worker
            .settle(claimed.iter().map(|task| delivered(&task.handle)).collect())
            .await;
        let passed = h.clock().now() - start;
        assert!(sent as u64 <= passed / 100 + 1, "{sent} in {passed} ms");
        if sent == 12 {
            return;
        }
        if held.len() == 2 {
            worker.release(std::mem::take(&mut held)).await;
        }
        if let Then::Sleep(time) = reply.then {
            h.pass(time.min(Duration::from_millis(500)));
        }
    }
    panic!("mail sleeps: {sent} sent");
}

pub(crate) async fn mail_that_waits_for_a_token_expires(h: impl Harness) {
    h.pace(20, &[(SITE, rate(1, 3_600_000, 1))]).await;
    let mut worker = h.caller().await;
    let mut sent = messages("a", 2);
    for message in &mut sent {
        message.header.lifetime_ms = 60_000;
    }
    worker.enqueue(&sent).await;
    let reply = worker.claim(9, 9).await;
    worker.deliver_all(&reply).await;
    h.live(&[&worker], Duration::from_secs(61)).await;
    let expired = h.queue().expiring(9).await.expect("messages");
    assert_eq!(expired.len(), 1);
    let left = sent.iter().find(|message| message.id == expired[0]);
    let named = worker
        .claim_by_name(&handles_of(left.expect("one of them")))
        .await;
    assert_eq!(named.named.len(), 1);
    worker.deliver_all(&named).await;
    assert_eq!(h.places().await, (0, 0, 0));
}

fn rate(messages: u32, per_ms: u64, burst: u32) -> Rate {
    Rate {
        messages,
        per: Duration::from_millis(per_ms),
        burst,
    }
}

fn messages(tenant: &str, count: usize) -> Vec<NewMessage> {
    (0..count)
        .map(|_| message_of(tenant, &[SITE], &[b"x\r\n"]))
        .collect()
}

fn tenants(reply: &NextReply) -> Vec<&str> {
    let queues = reply.grants.iter().map(|grant| &grant.queue);
    queues.map(|queue| queue.tenant.as_str()).collect()
}

/// Delivers what can be had within 10 s; how many.
async fn drain(h: &impl Harness, worker: &mut Caller) -> usize {
    let mut sent = 0;
    for _ in 0..100 {
        let reply = worker.claim(9, 9).await;
        sent += tasks(&reply).len();
        worker.deliver_all(&reply).await;
        match reply.then {
            Then::Sleep(time) if time < Duration::from_secs(10) => h.pass(time),
            Then::Sleep(_) | Then::Empty => break,
            Then::More => {}
        }
    }
    sent
}
