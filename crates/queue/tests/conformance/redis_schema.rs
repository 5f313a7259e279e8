//! Two releases on one queue, and the step from one schema to the next.

use std::sync::Arc;

use queue::redis::{OpenError, Redis};
use queue::schema::{Reads, Schema};
use queue::{Queue, QueueError};

use crate::redis_fixture::{Caller, PREFIX, message, settings};
use crate::redis_server::RedisServer;

const OLD: Reads = Reads {
    oldest: 1,
    newest: 1,
};
const NEW: Reads = Reads {
    oldest: 1,
    newest: 2,
};
const NEWER: Reads = Reads {
    oldest: 2,
    newest: 3,
};

/// A program of the release that reads `reads`, configured with `schema`.
fn release(server: &RedisServer, reads: Reads, schema: Option<Schema>) -> Arc<Redis> {
    let mut settings = settings(server.url());
    settings.reads = reads;
    settings.schema = schema;
    Arc::new(Redis::open(&settings).expect("settings that can be used"))
}

fn in_force(server: &RedisServer) -> Schema {
    redis::cmd("HGET")
        .arg(&[&format!("{PREFIX}meta"), "schema"])
        .query(&mut server.client())
        .expect("a schema")
}

async fn refusal_of(queue: &Redis) -> String {
    match queue.counts().await {
        Err(QueueError::Conflict(text)) => text,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_new_queue_begins_with_the_newest_schema_or_the_one_asked_for() {
    for (schema, expected) in [(None, 2), (Some(1), 1), (Some(2), 2)] {
        let server = RedisServer::start();
        release(&server, NEW, schema).counts().await.unwrap();
        assert_eq!(in_force(&server), expected, "{schema:?}");
    }
}

#[tokio::test]
async fn a_new_release_writes_what_the_old_one_reads_until_the_flip() {
    let server = RedisServer::start();
    let mut old = Caller::register(&release(&server, OLD, None)).await;
    let mut new = Caller::register(&release(&server, NEW, Some(1))).await;
    Caller::register(&release(&server, NEW, None)).await;
    assert_eq!(in_force(&server), 1);
    new.enqueue(&[message(&["example.net"])]).await;
    assert_eq!(old.claim().await.grants.len(), 1);
    old.beat().await;
}

#[tokio::test]
async fn the_flip_ends_the_old_release_and_is_not_taken_back() {
    let server = RedisServer::start();
    let queue = release(&server, OLD, None);
    let old = Caller::register(&queue).await;
    let mut flips = Caller::register(&release(&server, NEW, Some(2))).await;
    assert_eq!(in_force(&server), 2);

    // Not only when it connects: its lease is not renewed.
    let error = queue.beat(old.worker).await.unwrap_err();
    assert!(
        matches!(&error, QueueError::Conflict(text) if text.contains("schema 2") && text.contains("schema 1")),
        "{error}"
    );
    let text = refusal_of(&release(&server, OLD, None)).await;
    assert!(text.contains("install the release that wrote it"), "{text}");

    flips.beat().await;
    flips.enqueue(&[message(&["example.net"])]).await;
    for schema in [None, Some(1)] {
        release(&server, NEW, schema).counts().await.unwrap();
        assert_eq!(in_force(&server), 2);
    }
}

#[tokio::test]
async fn no_release_is_left_out() {
    let server = RedisServer::start();
    release(&server, OLD, None).counts().await.unwrap();
    let text = refusal_of(&release(&server, NEWER, Some(3))).await;
    assert!(text.contains("install the release between them"), "{text}");
    assert_eq!(in_force(&server), 1);
}

#[tokio::test]
async fn a_schema_that_the_program_does_not_write_is_refused_before_it_connects() {
    let server = RedisServer::start();
    for asked in [0, 2] {
        let mut settings = settings(server.url());
        settings.schema = Some(asked);
        let error = Redis::open(&settings).err();
        assert!(matches!(error, Some(OpenError::Schema(_))), "{error:?}");
    }
}
