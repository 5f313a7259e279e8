//! Level `Fsync`, row by row on a real server: what is not met is named, and nothing is written.

use queue::durability::{Durability, Level};
use queue::id::WorkerId;
use queue::operation::Taken;
use queue::{Queue, QueueError};

use crate::redis_fixture::{COMMIT, Caller, config_set, keys, message, open, until_durable};
use crate::redis_server::RedisServer;

async fn check_row(server: &RedisServer, worker: &mut Caller, reason: &str) {
    let Durability::Unmet {
        reason: got,
        remedy,
    } = worker.queue.durability().await.unwrap()
    else {
        panic!("{reason} is not noticed")
    };
    assert_eq!(got, reason);
    assert!(!remedy.is_empty());
    let before = keys(server);
    let call = worker.call(COMMIT);
    let refused = worker
        .queue
        .enqueue(call, &[message(&["example.net"])])
        .await;
    let Err(QueueError::NotDurable(text)) = &refused else {
        panic!("{reason}: {refused:?}")
    };
    assert!(text.starts_with(reason), "{text}");
    assert_eq!(keys(server), before);
}

async fn check_met(worker: &mut Caller) {
    assert_eq!(
        worker.queue.durability().await.unwrap(),
        Durability::Verified(Level::Fsync)
    );
    worker.enqueue(&[message(&["example.net"])]).await;
}

#[tokio::test]
async fn each_setting_is_required_and_may_come_back() {
    let server = RedisServer::start();
    let queue = open(server.url());
    let mut worker = Caller::register(&queue).await;
    check_met(&mut worker).await;
    let rows = [
        ("appendfsync", "everysec", "always", "NotFsyncAlways"),
        ("appendfsync", "no", "always", "NotFsyncAlways"),
        (
            "no-appendfsync-on-rewrite",
            "yes",
            "no",
            "FsyncPausedOnRewrite",
        ),
        ("maxmemory-policy", "allkeys-lru", "noeviction", "Evicting"),
        ("maxmemory-policy", "volatile-ttl", "noeviction", "Evicting"),
        ("appendonly", "no", "yes", "AofOff"),
    ];
    for (setting, bad, good, reason) in rows {
        config_set(&server, setting, bad);
        check_row(&server, &mut worker, reason).await;
        config_set(&server, setting, good);
        if setting == "appendonly" {
            // Only once its first rewrite is done.
            until_durable(&queue, true).await;
        }
        check_met(&mut worker).await;
    }
}

#[tokio::test]
async fn it_is_checked_when_a_connection_is_made() {
    let server = RedisServer::start_with(&[("appendfsync", "everysec")], &[]);
    let queue = open(server.url());
    let mut worker = Caller::register(&queue).await;
    let call = worker.call(COMMIT);
    let refused = queue.enqueue(call, &[message(&["example.net"])]).await;
    assert!(
        matches!(refused, Err(QueueError::NotDurable(_))),
        "{refused:?}"
    );

    // The refused call was not used up.
    config_set(&server, "appendfsync", "always");
    assert_eq!(
        queue.durability().await.unwrap(),
        Durability::Verified(Level::Fsync)
    );
    let taken = queue
        .enqueue(call, &[message(&["example.net"])])
        .await
        .unwrap();
    assert_eq!(taken, Taken::Ran(()));
}

#[tokio::test]
async fn a_replica_may_be_promoted_and_lose() {
    let server = RedisServer::start();
    let queue = open(server.url());
    let mut worker = Caller::register(&queue).await;
    check_met(&mut worker).await;
    let primary = format!("127.0.0.1 {}", server.port());
    let replica = RedisServer::start_with(&[], &[]);
    redis::cmd("REPLICAOF")
        .arg(primary.split(' ').collect::<Vec<_>>())
        .exec(&mut replica.client())
        .unwrap();
    until_durable(&queue, false).await;
    check_row(&server, &mut worker, "FailoverCanLose").await;

    // And the replica itself is no place to write to.
    let queue = open(replica.url());
    let Durability::Unmet { reason, remedy } = queue.durability().await.unwrap() else {
        panic!("a replica is taken for a primary")
    };
    assert_eq!(reason, "NotVerified");
    assert!(remedy.contains("replica"), "{remedy}");
    assert!(matches!(
        queue.counts().await,
        Err(QueueError::Unreachable(_))
    ));
}

/// Of the user kurier.
fn set_user(server: &RedisServer, rules: &[&str]) {
    redis::cmd("ACL")
        .arg("SETUSER")
        .arg("kurier")
        .arg(rules)
        .exec(&mut server.client())
        .unwrap();
}

#[tokio::test]
async fn what_may_not_be_asked_is_not_verified() {
    let server = RedisServer::start();
    let acl = |rules: &[&str]| set_user(&server, rules);
    acl(&["on", ">pw", "~*", "+@all", "-config"]);
    let queue = open(format!("redis://kurier:pw@127.0.0.1:{}", server.port()));
    let mut worker = Caller::register(&queue).await;
    check_row(&server, &mut worker, "NotVerified").await;
    acl(&["+config", "-info"]);
    check_row(&server, &mut worker, "NotVerified").await;
    acl(&["+info"]);
    check_met(&mut worker).await;
}

/// A script that is refused half way leaves half of its step: none is run.
#[tokio::test]
async fn a_user_that_lacks_a_command_or_the_keys_runs_nothing() {
    let server = RedisServer::start();
    let acl = |rules: &[&str]| set_user(&server, rules);
    let cases: [(&[&str], &[&str]); 4] = [
        (&["~*", "-unlink", "-hincrby"], &["UNLINK", "HINCRBY"]),
        (&["~*", "-exec"], &["EXEC"]),
        (&["~*", "-eval"], &["EVAL"]),
        (&["resetkeys", "~other*"], &["mr:{test:0}:*"]),
    ];
    let open_as_user = || open(format!("redis://kurier:pw@127.0.0.1:{}", server.port()));
    for (rules, named) in cases {
        acl(&[&["on", ">pw", "+@all"], rules].concat());
        let queue = open_as_user();
        let Durability::Unmet { reason, remedy } = queue.durability().await.unwrap() else {
            panic!("{rules:?} is enough")
        };
        assert_eq!(reason, "NotVerified");
        for name in named {
            assert!(remedy.contains(name), "{rules:?}: {remedy}");
        }
        let registered = queue.register(WorkerId::random()).await;
        assert!(
            matches!(registered, Err(QueueError::Unreachable(_))),
            "{registered:?}"
        );
        assert_eq!(keys(&server), Vec::<String>::new());
    }
    acl(&["resetkeys", "~mr:{test:0}:*", "+@all"]);
    check_met(&mut Caller::register(&open_as_user()).await).await;
}

/// From now on a rewrite of the append-only file takes longer than any test, as long as there is a key
/// and nobody ends its process; or it takes no time again.
fn rewrites_take_long(server: &RedisServer, long: bool) {
    let microseconds = if long { "600000000" } else { "0" };
    config_set(server, "rdb-key-save-delay", microseconds);
}

#[tokio::test]
async fn switched_on_it_counts_once_its_first_rewrite_has_ended() {
    let server = RedisServer::start();
    let queue = open(server.url());
    let mut worker = Caller::register(&queue).await;
    // One that has not seen it off, and one that has seen nothing before.
    let unaware = open(server.url());
    let mut other = Caller::register(&unaware).await;
    for worker in [&mut worker, &mut other] {
        check_met(worker).await;
    }
    rewrites_take_long(&server, true);
    config_set(&server, "appendonly", "no");
    check_row(&server, &mut worker, "AofOff").await;
    config_set(&server, "appendonly", "yes");
    let stranger = open(server.url());
    assert_ne!(
        stranger.durability().await.unwrap(),
        Durability::Verified(Level::Fsync)
    );
    for worker in [&mut worker, &mut other] {
        check_row(&server, worker, "AofOff").await;
    }

    // A first rewrite that fails is repeated.
    rewrites_take_long(&server, false);
    server.kill_children();
    for queue in [&queue, &unaware, &stranger] {
        until_durable(queue, true).await;
    }
    for worker in [&mut worker, &mut other] {
        check_met(worker).await;
    }
}

#[tokio::test]
async fn a_file_that_counts_may_be_rewritten() {
    let mut server = RedisServer::start();
    let queue = open(server.url());
    let mut worker = Caller::register(&queue).await;
    rewrites_take_long(&server, true);
    check_met(&mut worker).await;
    let rewrite = |server: &RedisServer| {
        redis::cmd("BGREWRITEAOF")
            .exec(&mut server.client())
            .unwrap();
    };
    rewrite(&server);
    check_met(&mut worker).await;
    check_met(&mut worker).await;

    // Who comes now cannot know, unless nothing was ever switched.
    let stranger = open(server.url());
    assert_ne!(
        stranger.durability().await.unwrap(),
        Durability::Verified(Level::Fsync)
    );
    server.kill_children();
    server.restart_with(&[("rdb-key-save-delay", "600000000")]);
    rewrite(&server);
    let stranger = open(server.url());
    assert_eq!(
        stranger.durability().await.unwrap(),
        Durability::Verified(Level::Fsync)
    );
}
