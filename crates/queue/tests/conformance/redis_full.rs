//! The design's fault 8: a full server refuses new mail and lets everything else proceed, so that it
//! drains.

use std::time::Duration;

use bytes::Bytes;
use queue::operation::{Aborted, Beat, Begun, Limits, Next, Rest, Settlement};
use queue::record::CHUNK;
use queue::{Queue, QueueError};

use crate::redis_fixture::{
    COMMIT, Caller, DISPATCH, PREFIX, config_set, delivered, handles_of, keys, message, open,
    slots, tasks,
};
use crate::redis_server::RedisServer;
use crate::suite::bodies::large;

/// Known before it is full, so that what is there has room to drain.
#[tokio::test]
async fn a_server_tells_how_full_it_is() {
    let server = RedisServer::start();
    let queue = open(server.url());
    queue.durability().await.unwrap();
    assert_eq!(queue.fill(), None);
    config_set(&server, "maxmemory", "1gb");
    queue.durability().await.unwrap();
    assert!(queue.fill() <= Some(5), "{:?}", queue.fill());
    config_set(&server, "maxmemory", "1kb");
    queue.durability().await.unwrap();
    assert_eq!(queue.fill(), Some(u8::MAX));
}

#[tokio::test]
async fn fault_08_a_full_server_refuses_new_mail_and_drains() {
    let server = RedisServer::start();
    let queue = open(server.url());
    let mut worker = Caller::register(&queue).await;
    let sent: Vec<_> = (0..6).map(|_| message(&["example.net"])).collect();
    worker.enqueue(&sent).await;
    let reply = worker.claim().await;
    let claimed = tasks(&reply);
    assert_eq!(claimed.len(), 6);

    config_set(&server, "maxmemory", "1mb");
    let before = keys(&server);
    let call = worker.call(COMMIT);
    let refused = queue.enqueue(call, &[message(&["example.net"])]).await;
    assert!(matches!(refused, Err(QueueError::Full(_))), "{refused:?}");
    assert_eq!(keys(&server), before);

    assert!(matches!(
        worker.beat().await,
        Beat::Renewed { late: false, .. }
    ));
    let handles: Vec<_> = claimed.iter().map(|task| task.handle.clone()).collect();
    assert_eq!(
        queue.begin(worker.worker, &handles).await.unwrap(),
        [Begun::Begun; 6]
    );
    assert!(queue.check(worker.worker, &handles[0]).await.unwrap());

    let notification = message(&["example.org"]);
    let failed = Settlement {
        delivered: Vec::new(),
        failed: vec![0],
        notification: Some(notification.clone()),
        ..delivered(&handles[1])
    };
    let deferred = Settlement {
        delivered: Vec::new(),
        rest: Rest::Deferred {
            due_in: Duration::ZERO,
            notes: Bytes::from_static(b"{}"),
        },
        ..delivered(&handles[2])
    };
    let given_back = Settlement {
        delivered: Vec::new(),
        rest: Rest::GivenBack,
        ..delivered(&handles[3])
    };
    let next = Next {
        settlements: vec![delivered(&handles[0]), failed, deferred, given_back],
        releases: slots(&reply),
        ..worker.next()
    };
    assert!(worker.run(&next).await.stale.is_empty());
    let reply = worker.claim().await;
    let mut got: Vec<_> = tasks(&reply)
        .iter()
        .map(|task| task.handle.task.message)
        .collect();
    got.sort();
    assert_eq!(got, [sent[2].id, sent[3].id, notification.id]);

    let newcomer = Caller::register(&queue).await;
    newcomer.beat().await;
    let resolved = worker.call(DISPATCH);
    queue.resolve(resolved).await.unwrap();
    queue.expiring(10).await.unwrap();
    let limits = Limits {
        generation: 1,
        concurrency_default: 5,
        concurrency: Vec::new(),
        ..Limits::default()
    };
    queue.set_limits(&limits).await.unwrap();
    let aborted = queue
        .abort(call, sent[2].id, &handles_of(&sent[2]))
        .await
        .unwrap();
    assert_eq!(aborted, Aborted::Gone);
    // Connections of the full server can be made as well.
    open(server.url()).counts().await.unwrap();

    config_set(&server, "maxmemory", "0");
    worker.enqueue(&[message(&["example.net"])]).await;
}

/// What is there of its body goes: nothing else would before long.
#[tokio::test]
async fn a_full_server_refuses_chunks_and_lets_go_of_those_it_has() {
    let server = RedisServer::start();
    let queue = open(server.url());
    let mut worker = Caller::register(&queue).await;
    let (given_up, sent) = (large(&["example.net"], 2), large(&["example.net"], 1));
    let chunk = Bytes::from(vec![b'x'; CHUNK]);
    queue.stage(given_up.id, 0, chunk.clone()).await.unwrap();
    queue.stage(sent.id, 0, chunk.slice(..7)).await.unwrap();
    config_set(&server, "maxmemory", "1mb");
    let refused = queue.stage(given_up.id, 1, chunk.slice(..7)).await;
    assert!(matches!(refused, Err(QueueError::Full(_))), "{refused:?}");
    queue.unstage(given_up.id).await.unwrap();
    let call = worker.call(COMMIT);
    let refused = queue.enqueue(call, std::slice::from_ref(&sent)).await;
    assert!(matches!(refused, Err(QueueError::Full(_))), "{refused:?}");
    let bodies = |server: &RedisServer| {
        let keys = keys(server).into_iter();
        keys.filter(|key| key.starts_with("b:")).collect::<Vec<_>>()
    };
    let body = format!("b:{}", sent.id);
    assert_eq!(bodies(&server), std::slice::from_ref(&body));
    let ttl = |server: &RedisServer| -> i64 {
        redis::cmd("PTTL")
            .arg(format!("{PREFIX}{body}"))
            .query(&mut server.client())
            .expect("a time")
    };
    assert!(ttl(&server) > 0);

    config_set(&server, "maxmemory", "0");
    worker.enqueue(std::slice::from_ref(&sent)).await;
    assert_eq!(ttl(&server), -1, "it does not expire any more");
    // Delivered, and read before, while it is full.
    config_set(&server, "maxmemory", "1mb");
    let read = sent.header.body.chunk(&*queue, sent.id, 0).await;
    assert_eq!(read.unwrap(), chunk.slice(..7));
    let reply = worker.claim().await;
    let claimed = tasks(&reply);
    worker.settle(vec![delivered(&claimed[0].handle)]).await;
    assert!(bodies(&server).is_empty());
}
