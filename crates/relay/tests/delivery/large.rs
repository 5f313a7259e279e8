//! Messages that nobody holds whole: sent chunk by chunk, and never cut short.

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::digest;
use bytes::Bytes;
use queue::id::MessageId;
use queue::record::{Body, CHUNK, NewMessage};
use relay::delivery::OutcomeKind;

use crate::faulty::{Fault, Operation};
use crate::receiver::{Answer, Phase, Receiver};
use crate::world::{World, is_deferred, is_delivered, is_notified, message_with, settings};

/// Some 2 MB, with dots at every place within a chunk.
fn raw() -> Vec<u8> {
    let mut raw = b"Subject: large\r\n\r\n".to_vec();
    let mut number = 0;
    while raw.len() < 2_000_000 {
        raw.extend_from_slice(b".\r\n..x\r\n");
        raw.extend_from_slice(&b"text "[..number % 5]);
        raw.extend_from_slice(b"and text\r\n");
        number += 1;
    }
    raw
}

/// As reception puts it aside.
async fn stage(world: &World, raw: &[u8], recipients: &[&str]) -> NewMessage {
    let mut message = message_with(recipients, raw);
    let content: Bytes = message.content.concat().into();
    message.content.clear();
    let body = &mut message.header.body;
    body.chunks = Body::chunks_of(body.stored);
    let hash = digest::digest(&digest::SHA256, raw);
    body.sha256 = hash.as_ref().iter().map(|o| format!("{o:02x}")).collect();
    for (number, chunk) in (0..).zip(content.chunks(CHUNK)) {
        let chunk = content.slice_ref(chunk);
        world.worker.stage(message.id, number, chunk).await.unwrap();
    }
    message
}

async fn enqueue(world: &World, raw: &[u8]) -> MessageId {
    let message = stage(world, raw, &["r@example.org"]).await;
    world.enqueue(message).await
}

fn why(kind: &OutcomeKind) -> &str {
    match kind {
        OutcomeKind::Deferred { reply, .. } => reply,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn content_arrives_octet_for_octet_and_leaves_nothing() {
    let receiver = Receiver::accepting().await;
    let mut world = World::new(receiver.address);
    let raw = raw();
    // Of one chunk, of exactly two, and of several.
    for length in [300_000, 2 * CHUNK, raw.len()] {
        // A little less as each dot counts twice, cut behind a line.
        let length = raw[..length * 9 / 10]
            .iter()
            .rposition(|o| *o == b'\n')
            .unwrap()
            + 1;
        enqueue(&world, &raw[..length]).await;
        world.until("delivered", is_delivered).await;
    }
    let exact = [b"x".repeat(CHUNK - 2), b"\r\n".to_vec()].concat();
    enqueue(&world, &exact.repeat(2)).await;
    world.until("delivered", is_delivered).await;
    let received = receiver.until(4).await;
    assert!(raw.starts_with(&received[2].content) && received[2].content.len() > 1_700_000);
    assert!(received[3].content == exact.repeat(2));
    assert_eq!(receiver.connections(), 1);
    world.until_empty().await;
    assert_eq!(world.queue.model().remains().bodies, 0);
}

#[tokio::test]
async fn a_missing_chunk_is_a_deferral_with_the_reason() {
    let receiver = Receiver::accepting().await;
    let mut world = World::new(receiver.address);
    let raw = raw();
    world.queue.hide_chunks(true);
    enqueue(&world, &raw).await;
    let seen = world.until("deferred", is_deferred).await;
    assert_eq!(
        why(&seen.last().unwrap().kind),
        "chunk 1 of the body is missing"
    );
    assert_eq!(receiver.received().len(), 0, "nothing is cut short");
    world.queue.hide_chunks(false);
    world.until("delivered", is_delivered).await;
    assert!(receiver.until(1).await[0].content == raw);
    world.until_empty().await;
}

#[tokio::test]
async fn a_body_that_is_not_the_one_accepted_is_not_sent() {
    let receiver = Receiver::accepting().await;
    let raw = raw();
    type Spoil = fn(&mut Body);
    let spoils: [(Spoil, &str); 3] = [
        (
            |body| body.sha256 = "00".repeat(32),
            "the content in the queue is not what was accepted",
        ),
        (
            |body| body.size -= 1,
            "the content in the queue is not what was accepted",
        ),
        (|body| body.stored -= 1, "chunk 4 of the body has"),
    ];
    for (spoil, expected) in spoils {
        let mut world = World::new(receiver.address);
        let mut message = stage(&world, &raw, &["r@example.org"]).await;
        spoil(&mut message.header.body);
        world.enqueue(message).await;
        let seen = world.until("deferred", is_deferred).await;
        let why = why(&seen.last().unwrap().kind);
        assert!(why.starts_with(expected), "{why}");
        // It would be tried again and again.
        world.worker.set_claiming(false);
        while world.counts().await.in_flight > 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(receiver.received().len(), 0);
}

#[tokio::test]
async fn a_connection_that_ends_in_the_middle_is_a_deferral() {
    let attempts = AtomicUsize::new(0);
    let receiver = Receiver::with(move |phase, _| match phase {
        Phase::Dot if attempts.fetch_add(1, Ordering::Relaxed) == 0 => {
            Answer::Reply("451 4.3.0 again")
        }
        _ => Answer::Accept,
    })
    .await;
    let mut world = World::new(receiver.address);
    let raw = raw();
    // The read of a chunk fails for a moment, which is nobody's business.
    world.queue.inject(Operation::Read, Fault::Unreachable);
    enqueue(&world, &raw).await;
    let seen = world.until("deferred", is_deferred).await;
    assert!(why(&seen.last().unwrap().kind).contains("again"));
    assert_eq!(world.queue.pending_faults(), 0);
    world.until("delivered", is_delivered).await;
    assert!(receiver.until(1).await[0].content == raw);
}

/// A next hop that goes away while the content is sent.
#[tokio::test]
async fn content_that_is_not_read_to_its_end_is_sent_again() {
    use tokio::io::AsyncReadExt as _;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut world = World::new(address);
    let raw = raw();
    enqueue(&world, &raw).await;
    let (socket, _) = listener.accept().await.unwrap();
    let mut script = Scripted(tokio::io::BufStream::new(socket));
    script.up_to_data().await;
    script.0.read_exact(&mut vec![0; 700_000]).await.unwrap();
    drop((script, listener));
    let seen = world.until("deferred", is_deferred).await;
    assert!(!seen.iter().any(|outcome| is_delivered(&outcome.kind)));

    let receiver = Receiver::at(&address.to_string(), "250-8BITMIME\r\n", None, |_, _| {
        Answer::Accept
    })
    .await;
    world.until("delivered", is_delivered).await;
    assert!(receiver.until(1).await[0].content == raw);
}

struct Scripted(tokio::io::BufStream<tokio::net::TcpStream>);

impl Scripted {
    async fn up_to_data(&mut self) {
        use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
        let mut reply = "220 here";
        loop {
            self.0
                .write_all(format!("{reply}\r\n").as_bytes())
                .await
                .unwrap();
            self.0.flush().await.unwrap();
            if reply.starts_with("354") {
                return;
            }
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            reply = if line.starts_with("DATA") {
                "354 go"
            } else {
                "250 ok"
            };
        }
    }
}

#[tokio::test]
async fn a_notification_quotes_the_header_section() {
    let receiver = Receiver::with(|phase, text| match phase {
        Phase::Dot if text.starts_with("Subject: large") => Answer::Reply("554 5.6.0 no"),
        _ => Answer::Accept,
    })
    .await;
    let mut world = World::with(
        settings(&receiver.address.ip().to_string(), receiver.address.port()),
        crate::world::TIMING,
    );
    enqueue(&world, &raw()).await;
    world.until("notified", is_notified).await;
    let received = receiver.until(1).await;
    let text = received[0].text();
    assert!(text.contains("Content-Type: text/rfc822-headers"), "{text}");
    assert!(text.contains("Subject: large\r\n"), "{text}");
    assert!(text.len() < 20_000 && !text.contains("and text"), "{text}");
    world.until_empty().await;
    assert_eq!(world.queue.model().remains().bodies, 0);
}
