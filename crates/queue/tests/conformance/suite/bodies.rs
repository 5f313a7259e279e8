//! A large body comes in chunks before its message, and goes with it.

use bytes::Bytes;
use std::time::Duration;

use queue::operation::{Aborted, STAGED_FOR, Taken};
use queue::record::{Body, CHUNK, ChunkError, NewMessage};
use queue::{Queue, QueueError};

use crate::caller::{Caller, failed};
use crate::harness::Harness;
use crate::redis_fixture::{COMMIT, delivered, handles_of, message, slots, tasks};

/// A message whose body has `chunks` chunks.
pub(crate) fn large(domains: &[&str], chunks: u32) -> NewMessage {
    let mut large = message(domains);
    large.content = Vec::new();
    let body = &mut large.header.body;
    body.stored = (u64::from(chunks) - 1) * CHUNK as u64 + 7;
    body.chunks = chunks;
    large
}

fn chunk_of(body: &Body, number: u32) -> Bytes {
    let last = number + 1 == body.chunks;
    vec![b'a' + number as u8; if last { 7 } else { CHUNK }].into()
}

async fn stage(queue: &dyn Queue, message: &NewMessage, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        let chunk = chunk_of(&message.header.body, number);
        queue.stage(message.id, number, chunk).await.expect("room");
    }
}

/// Enqueued, with its body.
async fn sent(worker: &mut Caller, domains: &[&str], chunks: u32) -> NewMessage {
    let message = large(domains, chunks);
    stage(&*worker.queue, &message, 0..chunks).await;
    worker.enqueue(std::slice::from_ref(&message)).await;
    message
}

async fn is_incomplete(worker: &mut Caller, messages: &[NewMessage], which: &NewMessage) {
    let call = worker.call(COMMIT);
    let refused = worker.queue.enqueue(call, messages).await;
    assert!(
        matches!(&refused, Err(QueueError::Incomplete(id)) if *id == which.id),
        "{refused:?}"
    );
}

pub(crate) async fn a_body_in_chunks_comes_back_as_it_was(h: impl Harness) {
    let mut worker = h.caller().await;
    let message = sent(&mut worker, &["example.net"], 3).await;
    let body = &message.header.body;
    let record = h.read(&[message.id]).await.remove(0).unwrap().unwrap();
    assert_eq!(&record.header, &message.header);
    assert!(record.content.is_empty());
    let queue = h.queue();
    for number in 0..3 {
        let chunk = body.chunk(&*queue, message.id, number).await.unwrap();
        assert!(chunk == chunk_of(body, number), "chunk {number}");
    }
    let beyond = body.chunk(&*queue, message.id, 3).await;
    assert!(matches!(beyond, Err(ChunkError::Missing(3))), "{beyond:?}");
    let mut other = body.clone();
    other.stored -= 1;
    let short = other.chunk(&*queue, message.id, 2).await;
    let expected = ChunkError::Length {
        number: 2,
        found: 7,
        expected: 6,
    };
    assert_eq!(short.unwrap_err().to_string(), expected.to_string());
}

pub(crate) async fn chunks_end_with_their_message(h: impl Harness) {
    let mut worker = h.caller().await;
    // Delivered alone, delivered with others of its message, failed, taken back.
    let alone = sent(&mut worker, &["a.example"], 1).await;
    let split = sent(&mut worker, &["a.example", "b.example"], 2).await;
    let bounced = sent(&mut worker, &["c.example"], 2).await;
    assert_eq!(h.remains().await.bodies, 3);
    let reply = worker.claim(9, 9).await;
    assert_eq!(tasks(&reply).len(), 4);

    let first = &handles_of(&split)[0];
    let settled = [&handles_of(&alone)[0], first].map(delivered).to_vec();
    worker.settle(settled).await;
    assert_eq!(h.remains().await.bodies, 2);
    let notification = message(&["sender.example"]);
    let failure = failed(&handles_of(&bounced)[0], Some(notification));
    worker.settle(vec![failure]).await;
    assert_eq!(h.remains().await.bodies, 1);
    worker.settle(vec![delivered(&handles_of(&split)[1])]).await;
    assert_eq!(h.remains().await.bodies, 0);
    worker.release(slots(&reply)).await;

    let unanswered = large(&["a.example"], 2);
    stage(&*h.queue(), &unanswered, 0..2).await;
    let call = worker.call(COMMIT);
    let handles = handles_of(&unanswered);
    worker
        .enqueue_as(call, std::slice::from_ref(&unanswered))
        .await;
    let aborted = worker.abort(call, unanswered.id, &handles).await;
    assert_eq!(aborted, Aborted::Gone);
    // It had not come, too.
    let never = large(&["a.example"], 2);
    stage(&*h.queue(), &never, 0..2).await;
    assert_eq!(
        worker.abort(call, never.id, &handles_of(&never)).await,
        Aborted::Gone
    );
    assert_eq!(h.remains().await.bodies, 0);
}

pub(crate) async fn a_message_that_lacks_a_chunk_is_refused(h: impl Harness) {
    let mut worker = h.caller().await;
    let (whole, lacking) = (large(&["a.example"], 2), large(&["b.example"], 3));
    stage(&*h.queue(), &whole, 0..2).await;
    stage(&*h.queue(), &lacking, [0, 2]).await;
    let group = [message(&["c.example"]), whole.clone(), lacking.clone()];
    is_incomplete(&mut worker, &group, &lacking).await;
    // Nothing of the group is there, and nothing is lost.
    assert_eq!(h.places().await, (0, 0, 0));
    let ids = group.each_ref().map(|message| message.id);
    assert!(h.read(&ids).await.iter().all(Option::is_none));
    stage(&*h.queue(), &lacking, [1]).await;
    worker.enqueue(&group).await;
    assert_eq!(h.places().await, (3, 0, 0));
    // Once they belong to a message they count for no other call.
    is_incomplete(&mut worker, std::slice::from_ref(&whole), &whole).await;
    assert!(h.read(&[whole.id]).await[0].is_some());
    let body = &whole.header.body;
    assert!(body.chunk(&*h.queue(), whole.id, 1).await.is_ok());
}

pub(crate) async fn chunks_of_a_message_given_up_are_dropped(h: impl Harness) {
    let mut worker = h.caller().await;
    let given_up = large(&["a.example"], 2);
    stage(&*h.queue(), &given_up, 0..2).await;
    assert_eq!(h.remains().await.bodies, 1);
    h.queue().unstage(given_up.id).await.unwrap();
    assert_eq!(h.remains().await.bodies, 0);
    is_incomplete(&mut worker, std::slice::from_ref(&given_up), &given_up).await;

    // Its worker may not know that it has been enqueued.
    let enqueued = sent(&mut worker, &["a.example"], 2).await;
    h.queue().unstage(enqueued.id).await.unwrap();
    let body = &enqueued.header.body;
    assert!(body.chunk(&*h.queue(), enqueued.id, 0).await.is_ok());
}

pub(crate) async fn chunks_of_a_dead_process_are_dropped_in_time(h: impl Harness) {
    let mut worker = h.caller().await;
    let forgotten = large(&["a.example"], 3);
    stage(&*h.queue(), &forgotten, [0]).await;
    h.pass(STAGED_FOR - Duration::from_secs(1));
    // Each chunk renews the time of all.
    stage(&*h.queue(), &forgotten, [1]).await;
    h.pass(STAGED_FOR);
    assert_eq!(h.remains().await.bodies, 1);
    stage(&*h.queue(), &forgotten, [2]).await;
    h.pass(STAGED_FOR + Duration::from_millis(1));
    worker.beat().await;
    assert_eq!(h.remains().await.bodies, 0);
    is_incomplete(&mut worker, std::slice::from_ref(&forgotten), &forgotten).await;
    assert_eq!(h.remains().await.rows, 0);
    // What comes later does not make it whole.
    stage(&*h.queue(), &forgotten, [0]).await;
    is_incomplete(&mut worker, std::slice::from_ref(&forgotten), &forgotten).await;
    h.pass(STAGED_FOR * 2);
    worker.beat().await;
    assert_eq!(h.remains().await.bodies, 0);
}

pub(crate) async fn a_body_outlives_the_time_of_its_chunks(h: impl Harness) {
    let mut worker = h.caller().await;
    let message = sent(&mut worker, &["a.example"], 2).await;
    h.pass(STAGED_FOR * 2);
    worker.beat().await;
    let body = &message.header.body;
    for number in 0..2 {
        assert!(body.chunk(&*h.queue(), message.id, number).await.is_ok());
    }
    let reply = worker.claim(9, 9).await;
    worker.deliver_all(&reply).await;
    assert_eq!(h.remains().await.bodies, 0);
}

pub(crate) async fn chunks_stay_for_an_enqueue_that_did_not_run(h: impl Harness) {
    let (mut late, survivor) = (h.caller().await, h.caller().await);
    let message = large(&["a.example"], 2);
    stage(&*h.queue(), &message, 0..2).await;
    h.outlive(&survivor).await;
    let call = late.call(COMMIT);
    let taken = late.enqueue_as(call, std::slice::from_ref(&message)).await;
    assert_eq!(taken, Taken::Reaped);
    // The process goes on under another id.
    let mut anew = h.caller().await;
    anew.enqueue(std::slice::from_ref(&message)).await;
    assert_eq!(h.places().await, (1, 0, 0));
}
