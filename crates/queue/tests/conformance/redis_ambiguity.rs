//! Requests and replies that are lost or late: the outcome is open until it is resolved, and then
//! nothing is lost, doubled or left behind.

use std::sync::Arc;
use std::time::Duration;

use queue::operation::{Aborted, Next, Resolved, Taken};
use queue::redis::Redis;
use queue::{Queue, QueueError};

use crate::redis_fixture::{
    COMMIT, Caller, claim, delivered, handles_of, in_time, keys, message, open, settings, slots,
    tasks,
};
use crate::redis_proxy::{Fate, Proxy};
use crate::redis_server::RedisServer;

/// A worker whose requests go through a network that fails, after its connections were made.
async fn through(proxy: &Proxy) -> Caller {
    let mut settings = settings(proxy.url());
    settings.response_timeout = Duration::from_millis(400);
    let queue = Arc::new(Redis::open(&settings).unwrap());
    let mut worker = Caller::register(&queue).await;
    worker.claim().await;
    let first = message(&["warm.example"]);
    let call = worker.call(COMMIT);
    queue
        .enqueue(call, std::slice::from_ref(&first))
        .await
        .unwrap();
    queue
        .abort(call, first.id, &handles_of(&first))
        .await
        .unwrap();
    worker.claim().await;
    worker
}

fn assert_ambiguous<T: std::fmt::Debug>(outcome: Result<T, QueueError>) {
    assert!(
        matches!(outcome, Err(QueueError::Ambiguous(_))),
        "{outcome:?}"
    );
}

/// What a failed exchange closed is opened again on the next call.
async fn repeated<T, F: Future<Output = Result<T, QueueError>>>(operation: impl Fn() -> F) -> T {
    in_time(async {
        loop {
            match operation().await {
                Ok(value) => return value,
                Err(QueueError::Unreachable(_)) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_enqueue_without_reply_is_taken_back() {
    let server = RedisServer::start();
    for fate in [Fate::ReplyLost, Fate::RequestLost] {
        let proxy = Proxy::before(server.port()).await;
        let mut worker = through(&proxy).await;
        let sent = message(&["example.net", "example.org"]);
        let call = worker.call(COMMIT);
        proxy.set(fate);
        assert_ambiguous(
            worker
                .queue
                .enqueue(call, std::slice::from_ref(&sent))
                .await,
        );
        proxy.set(Fate::Passed);

        let queue = Arc::clone(&worker.queue);
        let handles = handles_of(&sent);
        for _ in 0..2 {
            let aborted = repeated(|| queue.abort(call, sent.id, &handles)).await;
            assert_eq!(aborted, Aborted::Gone, "{fate:?}");
        }
        assert!(tasks(&worker.claim().await).is_empty());
        assert!(
            !keys(&server)
                .iter()
                .any(|key| key.starts_with("m:") || key.starts_with("q:"))
        );
    }
}

#[tokio::test]
async fn an_enqueue_that_arrives_after_its_abort_changes_nothing() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port()).await;
    let mut worker = through(&proxy).await;
    let direct = open(server.url());
    let sent = message(&["example.net"]);
    let call = worker.call(COMMIT);
    proxy.set(Fate::Held);
    assert_ambiguous(
        worker
            .queue
            .enqueue(call, std::slice::from_ref(&sent))
            .await,
    );
    let aborted = direct
        .abort(call, sent.id, &handles_of(&sent))
        .await
        .unwrap();
    assert_eq!(aborted, Aborted::Gone);
    in_time(proxy.deliver()).await;
    assert_eq!(direct.counts().await.unwrap().ready, 0);
    assert!(
        !keys(&server)
            .iter()
            .any(|key| key.starts_with("m:") || key == "exp")
    );
}

#[tokio::test]
async fn an_enqueue_of_which_somebody_has_a_task_is_not_taken_back() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port()).await;
    let mut worker = through(&proxy).await;
    let mut other = Caller::register(&open(server.url())).await;
    let sent = message(&["example.net", "example.org"]);
    let call = worker.call(COMMIT);
    proxy.set(Fate::ReplyLost);
    assert_ambiguous(
        worker
            .queue
            .enqueue(call, std::slice::from_ref(&sent))
            .await,
    );
    let next = Next {
        claim: Some(claim(1, 1)),
        ..other.next()
    };
    let claimed = tasks(&other.run(&next).await);
    assert_eq!(claimed.len(), 1);
    let aborted = other
        .queue
        .abort(call, sent.id, &handles_of(&sent))
        .await
        .unwrap();
    assert_eq!(aborted, Aborted::Held);
    let counts = other.queue.counts().await.unwrap();
    assert_eq!((counts.ready, counts.in_flight), (1, 1));
}

#[tokio::test]
async fn a_claim_whose_reply_was_lost_is_told_again() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port()).await;
    let mut worker = through(&proxy).await;
    worker
        .enqueue(&[message(&["example.net"]), message(&["example.org"])])
        .await;
    let next = Next {
        claim: Some(claim(9, 9)),
        ..worker.next()
    };
    proxy.set(Fate::ReplyLost);
    assert_ambiguous(worker.queue.next(&next).await);
    proxy.set(Fate::Passed);

    let queue = Arc::clone(&worker.queue);
    let resolved = repeated(|| queue.resolve(next.call)).await;
    let Resolved::Ran(reply) = &resolved else {
        panic!("{resolved:?}")
    };
    assert_eq!(tasks(reply).len(), 2);
    assert_eq!(queue.resolve(next.call).await.unwrap(), resolved);
    assert_eq!(queue.next(&next).await.unwrap(), Taken::Refused);

    let next = Next {
        settlements: tasks(reply)
            .iter()
            .map(|task| delivered(&task.handle))
            .collect(),
        releases: slots(reply),
        ..worker.next()
    };
    assert!(worker.run(&next).await.stale.is_empty());
    assert_eq!(queue.counts().await.unwrap().in_flight, 0);
    assert!(
        !keys(&server)
            .iter()
            .any(|key| key == "ct" || key.starts_with("cw:"))
    );
}

#[tokio::test]
async fn a_claim_that_arrives_after_it_was_resolved_claims_nothing() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port()).await;
    let mut worker = through(&proxy).await;
    let direct = open(server.url());
    worker.enqueue(&[message(&["example.net"])]).await;
    let next = Next {
        claim: Some(claim(9, 9)),
        ..worker.next()
    };
    proxy.set(Fate::Held);
    assert_ambiguous(worker.queue.next(&next).await);
    for _ in 0..2 {
        assert_eq!(direct.resolve(next.call).await.unwrap(), Resolved::Barred);
    }
    in_time(proxy.deliver()).await;
    let counts = direct.counts().await.unwrap();
    assert_eq!((counts.ready, counts.in_flight), (1, 0));
    proxy.set(Fate::Passed);
    assert_eq!(tasks(&worker.claim().await).len(), 1);
}

#[tokio::test]
async fn a_settlement_that_arrives_after_it_was_resolved_settles_nothing_twice() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port()).await;
    let mut worker = through(&proxy).await;
    let direct = open(server.url());
    let sent = message(&["example.net", "example.org"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let reply = worker.claim().await;
    let handles: Vec<_> = tasks(&reply).into_iter().map(|task| task.handle).collect();
    let next = Next {
        settlements: vec![delivered(&handles[0])],
        releases: slots(&reply),
        ..worker.next()
    };
    proxy.set(Fate::Held);
    assert_ambiguous(worker.queue.next(&next).await);
    assert_eq!(direct.resolve(next.call).await.unwrap(), Resolved::Barred);
    let again = Next {
        call: worker.call(1),
        ..next
    };
    let Taken::Ran(reply) = direct.next(&again).await.unwrap() else {
        panic!()
    };
    assert!(reply.stale.is_empty());
    in_time(proxy.deliver()).await;
    // One of two tasks is over: the record stays, with one slot count of zero.
    assert!(direct.read(&[sent.id]).await.unwrap()[0].is_some());
    assert_eq!(direct.counts().await.unwrap().in_flight, 1);
    assert!(!keys(&server).iter().any(|key| key == "ct"));
}

#[tokio::test]
async fn what_was_lost_on_its_way_may_be_sent_again() {
    let server = RedisServer::start();
    for fate in [Fate::ReplyLost, Fate::RequestLost] {
        let proxy = Proxy::before(server.port()).await;
        let mut worker = through(&proxy).await;
        let queue = Arc::clone(&worker.queue);
        worker.enqueue(&[message(&["example.net"])]).await;
        let handle = tasks(&worker.claim().await).pop().unwrap().handle;
        let handles = [handle];
        proxy.set(fate);
        assert_ambiguous(queue.begin(worker.worker, &handles).await);
        assert_ambiguous(queue.beat(worker.worker).await);
        proxy.set(Fate::Passed);
        let begun = repeated(|| queue.begin(worker.worker, &handles)).await;
        assert_eq!(begun, [queue::operation::Begun::Begun]);
        repeated(|| queue.beat(worker.worker)).await;
        assert!(queue.check(worker.worker, &handles[0]).await.unwrap());
        worker.settle(vec![delivered(&handles[0])]).await;
    }
}
