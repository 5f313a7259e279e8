//! Finding the server: files that change, Sentinels, clusters.

use std::sync::Arc;
use std::time::Duration;

use queue::redis::{Locator, Redis};
use queue::{Queue, QueueError};

use crate::redis_fixture::{Caller, message, settings, tasks};
use crate::redis_server::{RedisServer, until};

fn at(locator: Locator) -> Arc<Redis> {
    let mut settings = settings(String::new());
    settings.locator = locator;
    Arc::new(Redis::open(&settings).expect("settings that can be used"))
}

#[tokio::test]
async fn a_rotated_password_is_followed() {
    let server = RedisServer::start_with(&[("requirepass", "first")], &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}\n", server.port());
    write("nonsense");
    let queue = at(Locator::UrlFile(file.clone()));
    let refused = queue.counts().await;
    let Err(QueueError::Unreachable(text)) = &refused else {
        panic!("{refused:?}")
    };
    assert!(text.contains("url") && !text.contains("nonsense"), "{text}");

    write(&url("first"));
    until(async || queue.counts().await.is_ok()).await;
    let mut worker = Caller::register(&queue).await;

    let mut client = redis::Client::open(url("first").trim())
        .unwrap()
        .get_connection()
        .unwrap();
    redis::cmd("CONFIG")
        .arg(&["SET", "requirepass", "second"])
        .exec(&mut client)
        .unwrap();
    redis::cmd("CLIENT")
        .arg(&["KILL", "TYPE", "normal"])
        .exec(&mut client)
        .unwrap();
    until(async || matches!(queue.counts().await, Err(QueueError::Unreachable(_)))).await;
    write(&url("second"));
    until(async || queue.counts().await.is_ok()).await;
    worker.enqueue(&[message(&["example.net"])]).await;

    assert_eq!(tasks(&worker.claim().await).len(), 1);

    std::fs::remove_file(&file).unwrap();
    // What is open goes on; what is not says what is missing.
    let counts = queue.counts().await.unwrap();
    assert_eq!(counts.in_flight, 1);
    for _ in 0..2 {
        let connection = queue.read_chunk(message(&["example.net"]).id, 0).await;
        let Err(QueueError::Unreachable(text)) = &connection else {
            panic!("{connection:?}")
        };
        assert!(text.contains("cannot be read"), "{text}");
    }
}

#[tokio::test]
async fn another_start_of_the_server_is_another_epoch() {
    let mut server = RedisServer::start();
    let queue = at(Locator::Url(server.url()));
    let mut worker = Caller::register(&queue).await;
    worker.enqueue(&[message(&["example.net"])]).await;
    assert_eq!(tasks(&worker.claim().await).len(), 1);
    assert_eq!(queue.epoch(), 0);
    server.restart();
    until(async || queue.counts().await.is_ok()).await;
    assert_eq!(queue.epoch(), 1);
    // All connections of the first epoch have gone; those of the second make no third.
    worker.enqueue(&[message(&["example.net"])]).await;
    assert_eq!(tasks(&worker.claim().await).len(), 1);
    assert_eq!(queue.epoch(), 1);
    let idle = tokio::time::timeout(Duration::from_secs(10), worker.beat()).await;
    assert!(idle.is_ok());
}
