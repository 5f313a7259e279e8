//! Chunks are written without a sync and last from the commit of their message on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::caller::{Caller, message, open, settlement, until};
use super::disk::Disk;
use crate::embedded::EmbeddedQueue;
use crate::model::Remains;
use crate::operation::{Rest, Taken};
use crate::queue::{Queue, QueueError};
use crate::record::{CHUNK, NewMessage};

fn large(number: u8) -> NewMessage {
    let mut large = message(number, &["a.example"]);
    large.content = Vec::new();
    large.header.body.stored = CHUNK as u64 + 3;
    large.header.body.chunks = 2;
    large
}

fn chunks() -> [Bytes; 2] {
    [vec![b'x'; CHUNK].into(), Bytes::from_static(b"end")]
}

async fn stage(queue: &EmbeddedQueue, message: &NewMessage) -> Result<(), QueueError> {
    for (number, chunk) in (0..).zip(chunks()) {
        queue.stage(message.id, number, chunk).await?;
    }
    Ok(())
}

async fn is_whole(queue: &EmbeddedQueue, message: &NewMessage) -> bool {
    for (number, chunk) in (0..).zip(chunks()) {
        let read = message.header.body.chunk(queue, message.id, number).await;
        if read.ok() != Some(chunk) {
            return false;
        }
    }
    true
}

#[tokio::test]
async fn a_body_survives_a_crash_with_its_message() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    let sent = large(1);
    stage(&caller.queue, &sent).await.unwrap();
    let before = disk.syncs.load(Ordering::SeqCst);
    for number in 2..22 {
        stage(&caller.queue, &large(number)).await.unwrap();
    }
    let syncs = disk.syncs.load(Ordering::SeqCst) - before;
    assert!(syncs < 10, "{syncs} syncs for 40 chunks");
    let taken = caller.enqueue(std::slice::from_ref(&sent)).await.unwrap();
    assert_eq!(taken, Taken::Ran(()));

    let disk = disk.after_crash();
    let mut later = Caller::register(open(&disk)).await;
    assert!(is_whole(&later.queue, &sent).await);
    // Nobody is left who could enqueue the others.
    assert_eq!(later.queue.remains().await.unwrap().bodies, 1);
    assert_eq!(later.queue.committer.reader().bodies().unwrap(), [sent.id]);
    let claimed = later.claim().await;
    later
        .run(vec![settlement(&claimed[0], &[0, 1], Rest::None)], false)
        .await;
    later.queue.remains().await.unwrap();
    let nothing = open(&disk.after_crash()).remains().await.unwrap();
    assert_eq!(nothing, Remains::default());
}

#[tokio::test]
async fn a_failed_file_loses_chunks_and_says_so() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    let sent = large(1);
    stage(&caller.queue, &sent).await.unwrap();
    disk.full.store(true, Ordering::SeqCst);
    let refused = caller.enqueue(&[message(2, &["a.example"])]).await;
    assert!(matches!(refused, Err(QueueError::Full(_))), "{refused:?}");
    let refused = caller.enqueue(std::slice::from_ref(&sent)).await;
    assert!(
        matches!(refused, Err(QueueError::Incomplete(id)) if id == sent.id),
        "{refused:?}"
    );
    disk.full.store(false, Ordering::SeqCst);
    until(|| caller.queue.committer.failure().is_none()).await;
    stage(&caller.queue, &sent).await.unwrap();
    caller.enqueue(std::slice::from_ref(&sent)).await.unwrap();
    let after = open(&disk.after_crash());
    assert!(is_whole(&after, &sent).await);
    assert_eq!(after.counts().await.unwrap().ready, 1);
}

#[tokio::test]
async fn a_full_disk_refuses_chunks_and_is_opened_again() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    disk.full.store(true, Ordering::SeqCst);
    // Until it does not fit into what is kept in memory any more.
    let mut refused = None;
    for number in 1..200 {
        if let Err(error) = stage(&caller.queue, &large(number)).await {
            refused = Some(error);
            break;
        }
    }
    assert!(matches!(refused, Some(QueueError::Full(_))), "{refused:?}");
    // Nobody else writes anything, and still it recovers.
    disk.full.store(false, Ordering::SeqCst);
    let sent = large(200);
    // What is staged in the moment it is opened again may count for lost.
    while stage(&caller.queue, &sent).await.is_err()
        || caller.enqueue(std::slice::from_ref(&sent)).await.is_err()
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(is_whole(&open(&disk.after_crash()), &sent).await);
}
