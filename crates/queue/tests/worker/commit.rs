use std::time::Duration;

use bytes::Bytes;
use queue::Queue;
use queue::record::{CHUNK, ChunkError};
use queue::worker::EnqueueError;

use crate::faulty::{Fault, Operation};
use crate::world::{World, deliver, grant, message};

#[tokio::test(start_paused = true)]
async fn who_waits_is_committed_together() {
    let world = World::new();
    let worker = world.worker();
    worker.enqueue(message("first.example")).await.unwrap();
    world.queue.always(Operation::Enqueue, Fault::Held);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let worker = worker.clone();
        waiting.spawn(async move { worker.enqueue(message("example.org")).await });
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let before = world.queue.calls(Operation::Enqueue);
    world.queue.heal();
    while let Some(result) = waiting.join_next().await {
        result.unwrap().unwrap();
    }
    assert_eq!(
        before,
        1 + 4,
        "each committer takes what it finds and does not wait for more"
    );
    // What could not be taken by then: at most 32 messages a call.
    assert!(world.queue.calls(Operation::Enqueue) <= before + 4);
    assert_eq!(world.counts().await.ready, 101);
}

#[tokio::test(start_paused = true)]
async fn lost_reply_is_taken_back_and_refused() {
    for fault in [Fault::ReplyLost, Fault::RequestLost, Fault::Late] {
        let world = World::new();
        let worker = world.worker();
        worker.enqueue(message("ok.example")).await.unwrap();
        world.queue.inject(Operation::Enqueue, fault);
        let result = worker.enqueue(message("example.org")).await;
        assert!(
            matches!(result, Err(EnqueueError::Unavailable(_))),
            "{fault:?}: {result:?}"
        );
        assert_eq!(world.counts().await.ready, 1, "{fault:?}");
        world.queue.run_late().await;
        assert_eq!(
            world.counts().await.ready,
            1,
            "{fault:?}: it came late and was barred"
        );
        worker.enqueue(message("example.org")).await.unwrap();
        assert_eq!(world.counts().await.ready, 2, "{fault:?}: the lane goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn taking_back_goes_on_until_it_is_answered() {
    let world = World::new();
    let worker = world.worker();
    world.queue.inject(Operation::Enqueue, Fault::ReplyLost);
    for fault in [Fault::Unreachable, Fault::RequestLost, Fault::ReplyLost] {
        world.queue.inject(Operation::Abort, fault);
    }
    let result = worker.enqueue(message("example.org")).await;
    assert!(
        matches!(result, Err(EnqueueError::Unavailable(_))),
        "{result:?}"
    );
    world.until_empty().await;
    assert_eq!(world.queue.pending_faults(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_another_holds_is_refused_all_the_same() {
    let world = World::new();
    let (worker, other) = (world.worker(), world.other_worker());
    world.queue.inject(Operation::Enqueue, Fault::ReplyLost);
    world.queue.inject(Operation::Abort, Fault::Held);
    let enqueuing = tokio::spawn({
        let worker = worker.clone();
        async move { worker.enqueue(message("example.org")).await }
    });
    let mut grant = grant(&other).await;
    world.queue.let_go();
    let result = enqueuing.await.unwrap();
    assert!(
        matches!(result, Err(EnqueueError::Unavailable(_))),
        "{result:?}"
    );
    let claim = grant.take().unwrap();
    assert!(deliver(&mut grant, claim).await, "a duplicate beats a loss");
}

#[tokio::test(start_paused = true)]
async fn nothing_that_surely_did_not_run_is_lost_or_doubled() {
    let world = World::new();
    let worker = world.worker();
    world.queue.inject(Operation::Enqueue, Fault::Unreachable);
    let result = worker.enqueue(message("example.org")).await;
    assert!(
        matches!(result, Err(EnqueueError::Unavailable(_))),
        "{result:?}"
    );
    assert_eq!(world.queue.calls(Operation::Abort), 0);
    world.until_empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_was_never_reached_refuses_and_is_joined_later() {
    let world = World::new();
    world.queue.always(Operation::Register, Fault::Unreachable);
    let worker = world.worker();
    let mut status = worker.status();
    status
        .wait_for(|status| status.error.is_some())
        .await
        .unwrap();
    let started = tokio::time::Instant::now();
    let result = worker.enqueue(message("example.org")).await;
    assert!(
        matches!(result, Err(EnqueueError::Unavailable(_))),
        "{result:?}"
    );
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "it is known, so nobody waits for it"
    );
    assert!(!status.borrow().reachable);

    world.queue.heal();
    status.wait_for(|status| status.reachable).await.unwrap();
    worker.enqueue(message("example.org")).await.unwrap();
    assert_eq!(status.borrow().error, None);
}

#[tokio::test(start_paused = true)]
async fn what_was_just_accepted_is_not_read_back() {
    let world = World::new();
    let (worker, other) = (world.worker(), world.other_worker());
    worker
        .enqueue(message("a.example b.example"))
        .await
        .unwrap();
    for _ in 0..2 {
        let mut grant = grant(&worker).await;
        let claim = grant.take().unwrap();
        assert!(deliver(&mut grant, claim).await);
    }
    assert_eq!(world.queue.calls(Operation::Read), 0);
    other.enqueue(message("c.example")).await.unwrap();
    let mut grant = grant(&worker).await;
    let claim = grant.take().unwrap();
    assert!(deliver(&mut grant, claim).await);
    assert_eq!(world.queue.calls(Operation::Read), 1);
    drop(grant);
    world.until_empty().await;
}

#[tokio::test(start_paused = true)]
async fn the_cache_is_bounded() {
    let world = World::new();
    let settings = queue::worker::Settings {
        cache_octets: 4096,
        ..world.settings()
    };
    let worker = world.worker_with(settings);
    for _ in 0..20 {
        worker.enqueue(message("example.org")).await.unwrap();
    }
    let mut done = 0;
    while done < 20 {
        let mut grant = grant(&worker).await;
        while let Some(claim) = grant.take() {
            assert!(deliver(&mut grant, claim).await);
            done += 1;
        }
    }
    let reads = world.queue.calls(Operation::Read);
    assert!(
        (3..=17).contains(&reads),
        "{reads} calls for the 17 of 20 that had no room"
    );
    world.until_empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_body_refuses_its_own_message_only() {
    let world = World::new();
    let worker = world.worker();
    worker.enqueue(message("first.example")).await.unwrap();
    let mut large = message("large.example");
    large.content.clear();
    large.header.body.chunks = 1;
    let staged = worker
        .stage(large.id, 0, Bytes::from_static(b"chunk"))
        .await;
    staged.unwrap();
    world.queue.model().unstage(large.id).await.unwrap();
    // Held back, they form groups.
    world.queue.always(Operation::Enqueue, Fault::Held);
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..40 {
        let worker = worker.clone();
        let large = (number == 20).then(|| large.clone());
        waiting.spawn(async move {
            let is_large = large.is_some();
            let message = large.unwrap_or_else(|| message("example.org"));
            (is_large, worker.enqueue(message).await)
        });
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    world.queue.heal();
    while let Some(result) = waiting.join_next().await {
        let (is_large, result) = result.unwrap();
        let expected = if is_large {
            Err(EnqueueError::BodyLost)
        } else {
            Ok(())
        };
        assert_eq!(result, expected);
    }
    assert_eq!(world.counts().await.ready, 40);
}

#[tokio::test(start_paused = true)]
async fn a_body_given_up_is_dropped_even_after_a_failure() {
    let world = World::new();
    let worker = world.worker();
    let id = message("example.org").id;
    let staged = worker.stage(id, 0, Bytes::from_static(b"chunk")).await;
    staged.unwrap();
    assert_eq!(world.queue.model().remains().bodies, 1);
    world.queue.inject(Operation::Unstage, Fault::Unreachable);
    worker.unstage(id);
    world
        .until("dropped", |_| world.queue.model().remains().bodies == 0)
        .await;
    assert_eq!(world.queue.pending_faults(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_chunk_is_read_through_a_short_outage() {
    let world = World::new();
    let worker = world.worker();
    let mut large = message("large.example");
    large.content.clear();
    (large.header.body.stored, large.header.body.chunks) = (CHUNK as u64 + 3, 2);
    for (number, length) in [(0, CHUNK), (1, 3)] {
        let staged = worker.stage(large.id, number, vec![b'x'; length].into());
        staged.await.unwrap();
    }
    worker.enqueue(large).await.unwrap();
    let mut grant = grant(&worker).await;
    let mut claim = grant.take().unwrap();
    let record = claim.record().await.unwrap();
    world.queue.inject(Operation::Read, Fault::Unreachable);
    world.queue.inject(Operation::Read, Fault::RequestLost);
    assert_eq!(claim.chunk(&record, 0).await.unwrap().len(), CHUNK);
    assert_eq!(world.queue.pending_faults(), 0);
    world.queue.hide_chunks(true);
    let missing = claim.chunk(&record, 1).await;
    assert!(
        matches!(missing, Err(ChunkError::Missing(1))),
        "{missing:?}"
    );
    world.queue.hide_chunks(false);
    assert_eq!(claim.chunk(&record, 1).await.unwrap().len(), 3);
    assert!(deliver(&mut grant, claim).await);
    world.until_empty().await;
    assert_eq!(world.queue.model().remains().bodies, 0);
}
