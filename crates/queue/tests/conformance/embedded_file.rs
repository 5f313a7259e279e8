//! What only the embedded queue promises: one process, one file, nothing lost when it ends.

use std::time::Duration;

use bytes::Bytes;
use queue::Queue;
use queue::embedded::{EmbeddedQueue, OpenError};
use queue::operation::{Settlement, Suspension};

use crate::caller::{Caller, deferred};
use crate::clock::Clock;
use crate::redis_fixture::{TIMING, delivered, handles_of, message, tasks};

#[tokio::test]
async fn all_claims_go_back_when_it_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("queue");
    let clock = Clock::new();
    let open =
        || std::sync::Arc::new(EmbeddedQueue::open_with(&path, &TIMING, clock.wall()).unwrap());

    let sent: Vec<_> = (0..4)
        .map(|_| message(&["example.net", "example.org"]))
        .collect();
    {
        let queue = open();
        let mut worker = Caller::register(queue).await;
        worker.enqueue(&sent).await;
        worker.claim(50, 50).await;
        let settlements = vec![
            delivered(&handles_of(&sent[0])[0]),
            delivered(&handles_of(&sent[1])[0]),
            delivered(&handles_of(&sent[1])[1]),
            deferred(&handles_of(&sent[2])[0], Duration::from_secs(60)),
        ];
        assert!(worker.settle(settlements).await.stale.is_empty());
        worker.begin(&handles_of(&sent[3])[0]).await;
    }

    let queue = open();
    let counts = queue.counts().await.unwrap();
    assert_eq!((counts.ready, counts.deferred, counts.in_flight), (4, 1, 0));
    let ids: Vec<_> = sent.iter().map(|message| message.id).collect();
    let records = queue.read(&ids).await.unwrap();
    let there: Vec<_> = records.iter().map(Option::is_some).collect();
    assert_eq!(there, [true, false, true, true]);
    // The process that held them is no more: its octets cannot come any more, so nothing is marked.
    let mut worker = Caller::register(queue).await;
    let claimed = tasks(&worker.claim(50, 50).await);
    assert_eq!(claimed.len(), 4);
    assert!(claimed.iter().all(|task| !task.state.reclaimed_begun));
    clock.advance(Duration::from_secs(60));
    worker.beat().await;
    let claimed = tasks(&worker.claim(50, 50).await);
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].handle, handles_of(&sent[2])[0]);
    assert_eq!(claimed[0].state.attempts, 1);
}

#[tokio::test]
async fn suspensions_outlive_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("queue");
    let clock = Clock::new();
    let open =
        || std::sync::Arc::new(EmbeddedQueue::open_with(&path, &TIMING, clock.wall()).unwrap());
    let suspension = |scope: &str, lasts| Suspension {
        scope: scope.parse().unwrap(),
        lasts,
        reason: "under repair".to_owned(),
    };
    let [for_ever, for_a_while, ended] = [
        suspension("tenant:t", None),
        suspension("site:mx:example.net", Some(Duration::from_secs(60))),
        suspension("all", None),
    ];
    {
        let queue = open();
        for one in [&for_ever, &for_a_while, &ended] {
            queue.suspend(one).await.unwrap();
        }
        assert!(queue.resume(&ended.scope).await.unwrap());
    }

    let queue = open();
    let found = queue.suspensions().await.unwrap();
    assert_eq!(found, [for_a_while.clone(), for_ever]);
    let mut worker = Caller::register(queue.clone()).await;
    worker.enqueue(&[message(&["example.net"])]).await;
    assert!(worker.claim(9, 9).await.grants.is_empty());
    clock.advance(Duration::from_secs(60));
    worker.beat().await;
    let waited_for = worker.claim(9, 9).await;
    assert_eq!(waited_for.grants.len(), 1);
}

#[test]
fn a_second_one_on_the_same_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("queue");
    let first = EmbeddedQueue::open(&path, &TIMING).unwrap();
    let error = EmbeddedQueue::open(&path, &TIMING).unwrap_err();
    assert!(matches!(&error, OpenError::InUse(of) if *of == path));
    let text = error.to_string();
    assert!(
        text.contains(&*path.to_string_lossy()) && text.contains("in use"),
        "{text}"
    );
    drop(first);
    EmbeddedQueue::open(&path, &TIMING).unwrap();
}

#[tokio::test]
async fn the_journal_outlives_the_process_and_stays_within_its_bound() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("queue");
    let clock = Clock::new();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let queue = EmbeddedQueue::open_with(&path, &TIMING, clock.wall()).unwrap();
        queue.keep_journal(4);
        let queue = std::sync::Arc::new(queue);
        let mut worker = Caller::register(queue.clone()).await;
        for _ in 0..2 {
            let sent = message(&["example.net"]);
            worker.enqueue(std::slice::from_ref(&sent)).await;
            worker.claim(1, 1).await;
            let settlement = Settlement {
                journal: Bytes::from_static(b"delivered"),
                ..delivered(&handles_of(&sent)[0])
            };
            worker.settle(vec![settlement]).await;
        }
        ids.push(
            queue
                .journal(None, 9)
                .await
                .unwrap()
                .iter()
                .map(|entry| entry.id)
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(ids.iter().map(Vec::len).collect::<Vec<_>>(), [2, 4, 4]);
    // Those of before are the first, and the oldest have gone.
    assert_eq!(ids[1][..2], ids[0]);
    assert_eq!(ids[2][..2], ids[1][2..]);
    assert!(ids[2].is_sorted(), "{ids:?}");
}
