//! Connection slots: how many at a time go to one site.

use std::collections::HashMap;
use std::time::Duration;

use queue::id::SlotId;
use queue::operation::{Next, Then};

use crate::harness::Harness;
use crate::redis_fixture::{TIMING, delivered, message_of, slots, tasks};

pub(crate) async fn slots_of_a_site_are_never_exceeded(h: impl Harness) {
    const LIMIT: usize = 3;
    h.limit(LIMIT as u32, &[]).await;
    let mut workers = [h.caller().await, h.caller().await];
    let sent: Vec<_> = (0..300)
        .map(|k| {
            let (tenant, domain) = (
                ["a", "b", "c"][k % 3],
                ["one.example", "two.example"][k % 2],
            );
            message_of(tenant, &[domain], &[b"x\r\n"])
        })
        .collect();
    workers[0].enqueue(&sent).await;

    let mut held: [Vec<(SlotId, String)>; 2] = Default::default();
    let mut most: HashMap<String, usize> = HashMap::new();
    let mut left = sent.len();
    // A fixed sequence that looks like none.
    let mut number = 1u32;
    let mut dice = move |sides: u32| {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (number >> 16) % sides
    };
    for _ in 0..2_000 {
        let who = dice(2) as usize;
        let worker = &mut workers[who];
        let mine = &mut held[who];
        let releases = mine.split_off(mine.len() - (dice(3) as usize).min(mine.len()));
        let next = Next {
            releases: releases.into_iter().map(|(slot, _)| slot).collect(),
            ..worker.next_claim(dice(3) as u16, 1 + dice(2) as u16)
        };
        let reply = worker.run(&next).await;
        let claimed = tasks(&reply);
        left -= claimed.len();
        worker
            .settle(claimed.iter().map(|task| delivered(&task.handle)).collect())
            .await;
        mine.extend(
            reply
                .grants
                .into_iter()
                .map(|grant| (grant.slot, grant.site)),
        );
        let mut used: HashMap<&str, usize> = HashMap::new();
        for (_, site) in held.iter().flatten() {
            *used.entry(site).or_default() += 1;
        }
        for (site, used) in used {
            assert!(used <= LIMIT, "{used} slots at {site}");
            let most = most.entry(site.to_owned()).or_default();
            *most = used.max(*most);
        }
        if left == 0 {
            break;
        }
    }
    assert_eq!(left, 0, "mail sleeps beside free slots");
    assert!(most.values().all(|most| *most == LIMIT), "{most:?}");
}

pub(crate) async fn a_released_slot_wakes_one_blocked_queue(h: impl Harness) {
    h.limit(2, &[]).await;
    let mut worker = h.caller().await;
    for tenant in ["a", "b", "c", "d", "e"] {
        worker
            .enqueue(&[message_of(tenant, &["example.net"], &[b"x\r\n"])])
            .await;
    }
    let mut held = slots(&worker.claim(9, 9).await);
    assert_eq!(held.len(), 2);
    for (released, granted) in [(1, 1), (2, 2), (2, 0)] {
        let next = Next {
            releases: held.drain(..released).collect(),
            ..worker.next_claim(9, 9)
        };
        let reply = worker.run(&next).await;
        assert_eq!(reply.grants.len(), granted);
        held.extend(slots(&reply));
    }
    assert_eq!(worker.claim(9, 9).await.then, Then::Empty);
}

pub(crate) async fn a_slot_of_a_dead_worker_is_freed_and_wakes(h: impl Harness) {
    h.limit(1, &[]).await;
    let (mut victim, mut survivor) = (h.caller().await, h.caller().await);
    survivor
        .enqueue(&[message_of("a", &["example.net"], &[b"x\r\n"])])
        .await;
    survivor
        .enqueue(&[message_of("b", &["example.net"], &[b"x\r\n"])])
        .await;
    let lost = victim.claim(9, 9).await;
    // The task is over, the connection is kept.
    victim
        .settle(vec![delivered(&tasks(&lost)[0].handle)])
        .await;
    assert!(survivor.claim(9, 9).await.grants.is_empty());
    h.live(&[&survivor], Duration::from_secs(10)).await;
    victim.beat().await;
    h.live(&[&survivor], Duration::from_secs(20)).await;
    assert_eq!(
        survivor.claim(9, 9).await.then,
        Then::Sleep(TIMING.safety_wake)
    );
    // Its lease is over long before that.
    assert_eq!(h.live(&[&survivor], Duration::from_secs(10)).await, 0);
    let reply = survivor.claim(9, 9).await;
    assert_eq!(reply.grants.len(), 1);
    assert_eq!(reply.grants[0].queue.tenant, "b");
}

pub(crate) async fn blocked_queues_take_turns(h: impl Harness) {
    h.limit(1, &[]).await;
    let mut worker = h.caller().await;
    for tenant in ["a", "b", "c"] {
        let sent: Vec<_> = (0..10)
            .map(|_| message_of(tenant, &["example.net"], &[b"x\r\n"]))
            .collect();
        worker.enqueue(&sent).await;
    }
    let mut served = String::new();
    let mut held = Vec::new();
    while served.len() < 30 {
        let next = Next {
            releases: std::mem::take(&mut held),
            ..worker.next_claim(9, 1)
        };
        let reply = worker.run(&next).await;
        assert_eq!(reply.grants.len(), 1, "after {served}");
        served.push_str(&reply.grants[0].queue.tenant);
        held = slots(&reply);
    }
    for turn in served.as_bytes().chunks(3) {
        let mut turn = turn.to_vec();
        turn.sort_unstable();
        assert_eq!(turn, b"abc", "{served}");
    }
}

pub(crate) async fn a_limit_of_zero_lets_nothing_go(h: impl Harness) {
    h.limit(20, &[("example.net", 0)]).await;
    let mut worker = h.caller().await;
    worker
        .enqueue(&[message_of("a", &["example.net"], &[b"x\r\n"])])
        .await;
    for _ in 0..3 {
        assert!(worker.claim(9, 9).await.grants.is_empty());
        h.live(&[&worker], Duration::from_secs(30)).await;
    }
    h.limit(20, &[("example.net", 1)]).await;
    assert_eq!(worker.claim(9, 9).await.grants.len(), 1);
}
