//! Levels that replicas take part in, and servers that take each other's place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use queue::durability::{Durability, Level};
use queue::id::MessageId;
use queue::operation::{Aborted, Beat, Begun, Taken};
use queue::redis::{Locator, Redis};
use queue::{Queue, QueueError};

use crate::redis_fixture::{COMMIT, Caller, config_set, handles_of, message, settings, tasks};
use crate::redis_server::{RedisServer, until};
use crate::redis_topology::{Pair, Sentinel, follow, valkey};

const REPLICATED: Level = Level::Replicated { acks: 1 };

fn at(url: String, level: Level) -> Arc<Redis> {
    let mut settings = settings(String::new());
    settings.locator = Locator::Url(url);
    settings.level = level;
    settings.response_timeout = Duration::from_secs(2);
    Arc::new(Redis::open(&settings).expect("settings that can be used"))
}

async fn verified(queue: &Redis, level: Level) {
    until(async || {
        let durability = queue.durability().await;
        durability.is_ok_and(|durability| durability == Durability::Verified(level))
    })
    .await;
}

async fn unmet(queue: &Redis, reason: &str) -> String {
    let mut said = String::new();
    until(async || match queue.durability().await {
        Ok(Durability::Unmet {
            reason: got,
            remedy,
        }) if got == reason => {
            said = remedy;
            true
        }
        _ => false,
    })
    .await;
    said
}

#[tokio::test]
async fn what_replicas_must_keep_is_verified() {
    let mut pair = Pair::start();
    let queue = at(pair.primary.url(), REPLICATED);
    verified(&queue, REPLICATED).await;
    let mut worker = Caller::register(&queue).await;
    worker.enqueue(&[message(&["example.net"])]).await;

    config_set(&pair.primary, "min-replicas-max-lag", "11");
    assert!(
        unmet(&queue, "FailoverCanLose")
            .await
            .contains("min-replicas-max-lag 10")
    );
    config_set(&pair.primary, "min-replicas-max-lag", "10");
    config_set(&pair.primary, "min-replicas-to-write", "0");
    assert!(
        unmet(&queue, "FailoverCanLose")
            .await
            .contains("min-replicas-to-write 1")
    );
    let call = worker.call(COMMIT);
    let refused = queue.enqueue(call, &[message(&["example.net"])]).await;
    assert!(
        matches!(refused, Err(QueueError::NotDurable(_))),
        "{refused:?}"
    );
    config_set(&pair.primary, "min-replicas-to-write", "1");
    verified(&queue, REPLICATED).await;

    // One more that may be promoted without having confirmed.
    let another = RedisServer::start_with(&[], &[]);
    follow(&another, &pair.primary);
    assert!(unmet(&queue, "FailoverCanLose").await.contains("acks: 2"));
    config_set(&another, "replica-priority", "0");
    verified(&queue, REPLICATED).await;
    config_set(&pair.primary, "appendonly", "no");
    unmet(&queue, "AofOff").await;
    config_set(&pair.primary, "appendonly", "yes");
    verified(&queue, REPLICATED).await;

    drop(another);
    pair.replica.kill();
    unmet(&queue, "TooFewReplicas").await;
}

#[tokio::test]
async fn what_is_not_confirmed_in_time_is_taken_back() {
    let pair = Pair::start_with(&[("min-replicas-max-lag", "2")], &[]);
    let queue = at(pair.primary.url(), REPLICATED);
    verified(&queue, REPLICATED).await;
    let mut worker = Caller::register(&queue).await;
    worker.enqueue(&[message(&["example.net"])]).await;

    pair.replica.pause();
    let sent = message(&["example.net"]);
    let call = worker.call(COMMIT);
    let doubtful = queue.enqueue(call, std::slice::from_ref(&sent)).await;
    let Err(QueueError::Ambiguous(text)) = &doubtful else {
        panic!("{doubtful:?}")
    };
    assert!(text.contains("0 of 1 replicas"), "{text}");

    // A primary that is cut off stops taking writes, whoever asks.
    until(async || {
        let call = worker.call(COMMIT);
        let refused = queue.enqueue(call, &[message(&["example.org"])]).await;
        matches!(refused, Err(QueueError::NotDurable(_)))
    })
    .await;
    let refused = queue.beat(worker.worker).await;
    assert!(
        matches!(refused, Err(QueueError::NotDurable(_))),
        "{refused:?}"
    );

    pair.replica.resume();
    verified(&queue, REPLICATED).await;
    until(async || queue.beat(worker.worker).await.is_ok()).await;
    let handles = handles_of(&sent);
    assert_eq!(
        queue.abort(call, sent.id, &handles).await.unwrap(),
        Aborted::Gone
    );
    assert!(queue.read(&[sent.id]).await.unwrap()[0].is_none());
}

#[tokio::test]
async fn a_pause_of_writes_leaves_the_outcome_open() {
    let pair = Pair::start();
    let queue = at(pair.primary.url(), REPLICATED);
    verified(&queue, REPLICATED).await;
    let mut worker = Caller::register(&queue).await;
    worker.enqueue(&[message(&["example.net"])]).await;
    let client = &mut pair.primary.client();
    redis::cmd("CLIENT")
        .arg(&["PAUSE", "60000", "WRITE"])
        .exec(client)
        .unwrap();
    let sent = message(&["example.net"]);
    let call = worker.call(COMMIT);
    let silent = queue.enqueue(call, std::slice::from_ref(&sent)).await;
    assert!(
        matches!(silent, Err(QueueError::Ambiguous(_))),
        "{silent:?}"
    );
    redis::cmd("CLIENT").arg("UNPAUSE").exec(client).unwrap();
    let handles = handles_of(&sent);
    assert_eq!(
        queue.abort(call, sent.id, &handles).await.unwrap(),
        Aborted::Gone
    );
    worker.enqueue(&[message(&["example.net"])]).await;
    assert_eq!(queue.counts().await.unwrap().ready, 2);
}

#[tokio::test]
async fn replicas_of_valkey_say_what_they_have_synced() {
    let mut pair = Pair::start_as(valkey(), &[], &[]);
    let level = Level::FsyncReplicated { acks: 1 };
    let queue = at(pair.primary.url(), level);
    verified(&queue, level).await;
    let mut worker = Caller::register(&queue).await;
    worker.enqueue(&[message(&["example.net"])]).await;
    for (setting, bad, good, reason) in [
        ("appendfsync", "everysec", "always", "NotFsyncAlways"),
        (
            "no-appendfsync-on-rewrite",
            "yes",
            "no",
            "FsyncPausedOnRewrite",
        ),
        ("appendonly", "no", "yes", "AofOff"),
    ] {
        for server in [&pair.replica, &pair.primary] {
            config_set(server, setting, bad);
            let remedy = unmet(&queue, reason).await;
            let of_replica = remedy.contains(&format!("127.0.0.1:{}", pair.replica.port()));
            assert_eq!(of_replica, server.port() == pair.replica.port(), "{remedy}");
            config_set(server, setting, good);
            verified(&queue, level).await;
        }
    }
    worker.enqueue(&[message(&["example.net"])]).await;

    pair.replica.pause();
    let sent = message(&["example.net"]);
    let call = worker.call(COMMIT);
    let doubtful = queue.enqueue(call, std::slice::from_ref(&sent)).await;
    assert!(
        matches!(doubtful, Err(QueueError::Ambiguous(_))),
        "{doubtful:?}"
    );
    pair.replica.resume();
    let handles = handles_of(&sent);
    until(async || {
        matches!(
            queue.abort(call, sent.id, &handles).await,
            Ok(Aborted::Gone)
        )
    })
    .await;

    // A machine that goes takes nothing along.
    pair.primary.kill();
    redis::cmd("REPLICAOF")
        .arg(&["NO", "ONE"])
        .exec(&mut pair.replica.client())
        .unwrap();
    config_set(&pair.replica, "min-replicas-to-write", "0");
    let promoted = at(pair.replica.url(), Level::Memory);
    until(async || {
        promoted
            .durability()
            .await
            .is_ok_and(|d| d.verified().is_some())
    })
    .await;
    assert_eq!(promoted.counts().await.unwrap().ready, 2);
}

#[tokio::test]
async fn replicas_of_an_older_server_do_not_say_what_they_have_synced() {
    let pair = Pair::start();
    let queue = at(pair.primary.url(), Level::FsyncReplicated { acks: 1 });
    let version: String = redis::cmd("INFO")
        .arg("server")
        .query(&mut pair.primary.client())
        .unwrap();
    if version.contains("redis_version:7.0.") {
        assert!(unmet(&queue, "NotVerified").await.contains("7.2"));
        let mut worker = Caller::register(&queue).await;
        let call = worker.call(COMMIT);
        let refused = queue.enqueue(call, &[message(&["example.net"])]).await;
        assert!(
            matches!(refused, Err(QueueError::NotDurable(_))),
            "{refused:?}"
        );
    } else {
        verified(&queue, Level::FsyncReplicated { acks: 1 }).await;
    }
}

#[tokio::test]
async fn memory_is_stated_as_such() {
    let server = RedisServer::start_with(&[("appendonly", "no")], &[]);
    let queue = at(server.url(), Level::Memory);
    verified(&queue, Level::Memory).await;
    let mut worker = Caller::register(&queue).await;
    worker.enqueue(&[message(&["example.net"])]).await;
    config_set(&server, "maxmemory-policy", "allkeys-lru");
    unmet(&queue, "Evicting").await;
}

#[tokio::test]
async fn behind_sentinels_one_synced_server_is_not_enough() {
    let pair = Pair::start();
    let sentinel = Sentinel::over(&pair.primary, 1);
    let queue = at(sentinel.url(), Level::Fsync);
    unmet(&queue, "FailoverCanLose").await;
}

#[tokio::test]
async fn a_fail_over_under_load_loses_nothing_that_was_confirmed() {
    let mut pair = Pair::start();
    let sentinel = Sentinel::over(&pair.primary, 1);
    let queue = at(sentinel.url(), REPLICATED);
    verified(&queue, REPLICATED).await;
    let mut worker = Caller::register(&queue).await;
    let claimed = message(&["claimed.example"]);
    worker.enqueue(std::slice::from_ref(&claimed)).await;
    let held = tasks(&worker.claim().await);
    assert_eq!(held.len(), 1);
    // Whatever confirms this has the claim too.
    worker.enqueue(&[message(&["example.net"])]).await;
    let epoch = queue.epoch();

    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(load(Caller::register(&queue).await, Arc::clone(&stop)));
    tokio::time::sleep(Duration::from_millis(200)).await;
    pair.primary.kill();
    until(async || sentinel.primary() == Some(pair.replica.port())).await;
    // The new primary takes nothing before somebody confirms it.
    unmet(&queue, "TooFewReplicas").await;
    assert!(queue.epoch() > epoch, "claims of before are to be verified");
    pair.primary.start_again();
    follow(&pair.primary, &pair.replica);
    verified(&queue, REPLICATED).await;
    until(async || queue.beat(worker.worker).await.is_ok()).await;
    stop.store(true, Ordering::Relaxed);
    let (confirmed, refused) = load.await.unwrap();
    assert!(
        !confirmed.is_empty() && refused > 0,
        "{} {refused}",
        confirmed.len()
    );

    assert!(matches!(worker.beat().await, Beat::Renewed { .. }));
    let handles = [held[0].handle.clone()];
    let begun = queue.begin(worker.worker, &handles).await.unwrap();
    assert_eq!(begun, [Begun::Begun]);
    for ids in confirmed.chunks(100) {
        let records = queue.read(ids).await.unwrap();
        assert!(records.iter().all(Option::is_some), "confirmed and lost");
    }
    assert!(queue.read(&[claimed.id]).await.unwrap()[0].is_some());
    let counts = queue.counts().await.unwrap();
    assert!(counts.ready > confirmed.len() as u64, "{counts:?}");
}

/// Enqueues without pause: what was confirmed, and how often it was refused.
async fn load(mut worker: Caller, stop: Arc<AtomicBool>) -> (Vec<MessageId>, usize) {
    let (mut confirmed, mut refused) = (Vec::new(), 0);
    let mut after = false;
    while !stop.load(Ordering::Relaxed) || !after {
        let sent = message(&["example.net"]);
        let call = worker.call(COMMIT);
        match worker
            .queue
            .enqueue(call, std::slice::from_ref(&sent))
            .await
        {
            Ok(Taken::Ran(())) => {
                confirmed.push(sent.id);
                // At least one of the new primary.
                after = stop.load(Ordering::Relaxed);
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    (confirmed, refused)
}
