//! What only the embedded queue promises: one process, one file, nothing lost when it ends.

use std::time::Duration;

use queue::Queue;
use queue::embedded::{EmbeddedQueue, OpenError};

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
