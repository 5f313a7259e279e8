//! Servers that go away and come back.

use std::time::{Duration, Instant};

use queue::operation::{Beat, Next, Taken};
use queue::{Queue, QueueError};

use crate::redis_fixture::{
    COMMIT, Caller, claim, delivered, handles_of, message, open, settings, slots, tasks,
};
use crate::redis_server::RedisServer;

/// The connector pauses for at most a second after a failure.
async fn until_reached<T, F: Future<Output = Result<T, QueueError>>>(
    operation: impl Fn() -> F,
) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match operation().await {
            Ok(value) => return value,
            Err(QueueError::Unreachable(_)) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_restart_with_the_file_synced_always_loses_nothing() {
    let mut server = RedisServer::start();
    let queue = open(server.url());
    let mut worker = Caller::register(&queue).await;
    let sent: Vec<_> = (0..20)
        .map(|_| message(&["example.net", "example.org"]))
        .collect();
    for message in &sent {
        worker.enqueue(std::slice::from_ref(message)).await;
    }
    let next = Next {
        claim: Some(claim(2, 5)),
        ..worker.next()
    };
    let held = worker.run(&next).await;
    assert!(!tasks(&held).is_empty());

    server.restart();

    // A commit on a connection the server has closed meanwhile is neither lost nor in doubt.
    until_reached(|| queue.counts()).await;
    worker.enqueue(&[message(&["example.com"])]).await;
    assert!(matches!(worker.beat().await, Beat::Renewed { .. }));
    for task in tasks(&held) {
        assert!(queue.check(worker.worker, &task.handle).await.unwrap());
    }
    let mut handles: Vec<_> = tasks(&held);
    let mut releases = slots(&held);
    loop {
        let next = Next {
            settlements: handles.iter().map(|task| delivered(&task.handle)).collect(),
            releases,
            claim: Some(claim(50, 50)),
            ..worker.next()
        };
        let reply = worker.run(&next).await;
        assert!(reply.stale.is_empty());
        if reply.grants.is_empty() {
            break;
        }
        (handles, releases) = (tasks(&reply), slots(&reply));
    }
    for record in queue
        .read(&sent.iter().map(|sent| sent.id).collect::<Vec<_>>())
        .await
        .unwrap()
    {
        assert!(
            record.is_none(),
            "a task was lost: its message is never over"
        );
    }
}

#[tokio::test]
async fn scripts_a_server_has_forgotten_are_sent_again() {
    let server = RedisServer::start();
    let queue = open(server.url());
    let mut worker = Caller::register(&queue).await;
    let forget = || {
        redis::cmd("SCRIPT")
            .arg("FLUSH")
            .exec(&mut server.client())
            .unwrap()
    };
    for _ in 0..3 {
        // With the digest alone, MULTI would commit the body and lose the message.
        forget();
        worker.enqueue(&[message(&["example.net"])]).await;
        forget();
        let reply = worker.claim().await;
        let [task] = tasks(&reply).try_into().expect("the message is there");
        forget();
        let next = Next {
            settlements: vec![delivered(&task.handle)],
            releases: slots(&reply),
            ..worker.next()
        };
        assert!(worker.run(&next).await.stale.is_empty());
        assert!(queue.read(&[task.handle.task.message]).await.unwrap()[0].is_none());
    }
}

#[tokio::test]
async fn an_absent_server_is_unreachable_at_once_and_surely_unwritten() {
    let mut server = RedisServer::start();
    let queue = open(server.url());
    let mut worker = Caller::register(&queue).await;
    server.kill();
    let started = Instant::now();
    let call = worker.call(COMMIT);
    for _ in 0..200 {
        let refused = queue.enqueue(call, &[message(&["example.net"])]).await;
        assert!(
            matches!(refused, Err(QueueError::Unreachable(_))),
            "{refused:?}"
        );
        assert!(matches!(
            queue.beat(worker.worker).await,
            Err(QueueError::Unreachable(_))
        ));
        let next = Next {
            claim: Some(claim(1, 1)),
            ..worker.next()
        };
        assert!(matches!(
            queue.next(&next).await,
            Err(QueueError::Unreachable(_))
        ));
        assert!(matches!(
            queue.durability().await,
            Err(QueueError::Unreachable(_))
        ));
    }
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "each call must fail at once"
    );

    server.start_again();
    until_reached(|| queue.beat(worker.worker)).await;
    // None of them was executed, so the number is still free.
    let taken = until_reached(|| queue.enqueue(call, &[])).await;
    assert_eq!(taken, Taken::Ran(()));
    let message = [message(&["example.net"])];
    assert_eq!(queue.enqueue(call, &message).await.unwrap(), Taken::Ran(()));
}

#[tokio::test]
async fn a_queue_can_be_opened_before_its_server_is_there() {
    let mut server = RedisServer::start();
    server.kill();
    let queue = open(server.url());
    assert!(matches!(
        queue.counts().await,
        Err(QueueError::Unreachable(_))
    ));
    server.start_again();
    until_reached(|| queue.counts()).await;
}

#[tokio::test]
async fn a_silent_server_leaves_the_outcome_open() {
    let server = RedisServer::start();
    let mut settings = settings(server.url());
    settings.response_timeout = Duration::from_millis(300);
    let queue = std::sync::Arc::new(queue::redis::Redis::open(&settings).unwrap());
    let mut worker = Caller::register(&queue).await;
    worker.enqueue(&[message(&["example.net"])]).await;

    server.pause();
    let sent = message(&["example.net"]);
    let call = worker.call(COMMIT);
    let silent = queue.enqueue(call, std::slice::from_ref(&sent)).await;
    assert!(
        matches!(silent, Err(QueueError::Ambiguous(_))),
        "{silent:?}"
    );
    server.resume();
    // It runs when the server wakes; taking it back waits its turn behind it, or bars it.
    let handles = handles_of(&sent);
    until_reached(|| queue.abort(call, sent.id, &handles)).await;
    assert_eq!(
        queue
            .enqueue(call, std::slice::from_ref(&sent))
            .await
            .unwrap(),
        Taken::Refused
    );
    let claimed = tasks(&worker.claim().await);
    assert_eq!(claimed.len(), 1);
    assert_ne!(claimed[0].handle.task.message, sent.id);
}

#[tokio::test]
async fn a_request_whose_last_octet_has_not_left_was_surely_not_executed() {
    let server = RedisServer::start();
    let mut settings = settings(server.url());
    settings.response_timeout = Duration::from_millis(500);
    let queue = std::sync::Arc::new(queue::redis::Redis::open(&settings).unwrap());
    let mut worker = Caller::register(&queue).await;
    worker.enqueue(&[message(&["example.net"])]).await;

    // More than all buffers between here and there hold.
    let body = bytes::Bytes::from(vec![b'x'; 1 << 20]);
    let batch: Vec<_> = (0..32)
        .map(|_| {
            let mut message = message(&["example.org"]);
            message.header.body.stored = body.len() as u64;
            message.content = vec![body.clone()];
            message
        })
        .collect();
    let call = worker.call(COMMIT);
    server.pause();
    let unsent = queue.enqueue(call, &batch).await;
    assert!(
        matches!(unsent, Err(QueueError::Unreachable(_))),
        "{unsent:?}"
    );
    server.resume();
    assert_eq!(until_reached(|| queue.counts()).await.ready, 1);
    let taken = until_reached(|| queue.enqueue(call, &batch[..1])).await;
    assert_eq!(taken, Taken::Ran(()));
}

#[tokio::test]
async fn a_call_given_up_leaves_no_reply_to_the_next_one() {
    let server = RedisServer::start();
    let queue = open(server.url());
    let mut worker = Caller::register(&queue).await;
    worker.enqueue(&[message(&["example.net"])]).await;
    let handles = handles_of(&message(&["example.org"]));
    server.pause();
    for _ in 0..4 {
        let given_up = tokio::time::timeout(Duration::from_millis(20), queue.counts()).await;
        assert!(given_up.is_err());
        let check = queue.check(worker.worker, &handles[0]);
        assert!(
            tokio::time::timeout(Duration::from_millis(20), check)
                .await
                .is_err()
        );
    }
    server.resume();
    assert_eq!(queue.counts().await.unwrap().ready, 1);
    assert_eq!(tasks(&worker.claim().await).len(), 1);
}
