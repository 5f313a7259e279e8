use std::time::Duration;

use bytes::Bytes;
use queue::operation::{Limits, Rest};
use queue::worker::{Outcome, Work};

use crate::world::{World, grant, message};

#[tokio::test(start_paused = true)]
async fn mail_that_cannot_be_claimed_expires_all_the_same() {
    let world = World::new();
    let worker = world.worker();
    let limits = Limits {
        generation: 1,
        concurrency_default: 1,
        concurrency: Vec::new(),
        ..Limits::default()
    };
    worker.set_limits(&limits).await.unwrap();
    worker.enqueue(message("example.org")).await.unwrap();
    // The only slot is taken, for ever.
    let mut grant = grant(&worker).await;
    let holding = grant.take().unwrap();
    let mut short = message("example.org");
    short.header.lifetime_ms = 60_000;
    let id = short.id;
    let started = tokio::time::Instant::now();
    worker.enqueue(short).await.unwrap();
    let Some(Work::Expire(mut claim)) = worker.work().await else {
        panic!("an expired task")
    };
    assert!(started.elapsed() >= Duration::from_secs(60));
    assert!(
        started.elapsed() <= Duration::from_secs(70),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(claim.handle().task.message, id);
    assert_eq!(claim.expires_in(), Duration::ZERO);
    assert!(claim.record().await.is_ok());
    let notification = message("example.com");
    claim.settle(Outcome {
        delivered: Vec::new(),
        failed: vec![0],
        recipients: 1,
        rest: Rest::None,
        notification: Some(notification),
        journal: Bytes::new(),
    });
    world
        .until("settled with its notification", |counts| {
            (counts.ready, counts.in_flight) == (1, 1)
        })
        .await;
    drop(holding);
}
