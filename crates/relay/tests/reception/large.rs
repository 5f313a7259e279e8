//! Messages that nobody holds whole: put aside in chunks while they come.

use aws_lc_rs::digest;
use queue::Queue as _;
use queue::record::CHUNK;
use smtp::data::Unstuffing;

use crate::client::Client;
use crate::gate::State;
use crate::queue_trouble::until_accepting;
use crate::world::{Files, PATIENCE, World};

async fn world() -> World {
    let files = Files::new();
    files.configure(|document| document.replace("messageSize: 64Ki", "messageSize: 4Mi"));
    World::start(files, State::Open).await
}

/// Dot-stuffed, some 2 MiB, with dots at every place within a chunk.
fn content() -> String {
    let mut content = "Subject: large\r\nMessage-ID: <large@example.org>\r\n\r\n".to_owned();
    let mut number = 0;
    while content.len() < 2 << 20 {
        content.push_str("..\r\n...x\r\n");
        content.push_str(&"text "[..number % 5]);
        content.push_str("and text\r\n");
        number += 1;
    }
    content
}

async fn send_all_of(client: &mut Client, content: &str) -> String {
    client.envelope("app@example.org", "user@example.net").await;
    client.command(&format!("{content}.")).await
}

async fn until_no_bodies(world: &World) {
    let gone = async {
        while world.queue.bodies() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn put_aside_in_chunks_as_it_came() {
    let world = world().await;
    let mut client = world.client().await;
    let content = content();
    let reply = send_all_of(&mut client, &content).await;
    let stored = world.only_message();
    assert_eq!(reply, format!("250 2.0.0 {} queued", stored.id));
    let body = &stored.header.body;
    assert!(stored.content.is_empty());
    assert_eq!(body.chunks, 5);
    let mut octets = Vec::new();
    for number in 0..5 {
        let chunk = world
            .queue
            .read_chunk(stored.id, number)
            .await
            .unwrap()
            .unwrap();
        assert!(chunk.len() == CHUNK || number == 4);
        octets.extend_from_slice(&chunk);
    }
    assert_eq!(octets.len() as u64, body.stored);
    let (trace, rest) = octets.split_at(octets.len() - content.len());
    assert!(rest == content.as_bytes());
    let trace = String::from_utf8_lossy(trace);
    assert!(
        trace.starts_with("Received: from client.example"),
        "{trace}"
    );
    assert!(trace.contains("for <user@example.net>"), "{trace}");

    let (mut raw, mut unstuffing) = (Vec::new(), Unstuffing::default());
    let mut stuffed = &octets[..];
    while let Some(slice) = unstuffing.next_slice(&mut stuffed) {
        raw.extend_from_slice(slice);
    }
    assert_eq!(raw.len() as u64, body.size);
    let expected: String = digest::digest(&digest::SHA256, &raw)
        .as_ref()
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    assert_eq!(body.sha256, expected);

    // The session goes on as ever.
    assert!(client.submit().await.starts_with("250 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_or_given_up_leaves_nothing() {
    let world = world().await;
    let mut client = world.client().await;
    let content = content();
    // A queue that has no room for chunks.
    client.envelope("app@example.org", "user@example.net").await;
    world.queue.set(State::Full);
    let reply = client.command(&format!("{content}.")).await;
    assert_eq!(reply, "452 4.3.1 The queue is full, try again later");
    world.queue.set(State::Open);
    until_no_bodies(&world).await;

    // A commit that is refused when all of them are there.
    client.envelope("app@example.org", "user@example.net").await;
    world.queue.set(State::Held);
    client.send(&format!("{content}.\r\n")).await;
    world.queue.commit_came().await;
    assert_eq!(world.queue.bodies(), 1);
    world.queue.set(State::NotDurable);
    assert!(client.reply().await.starts_with("451 4.3.0 "));
    world.queue.set(State::Open);
    until_no_bodies(&world).await;

    // Content that breaks a rule when much of it has come, and a loop.
    until_accepting(&world).await;
    let mut client = world.client().await;
    let reply = send_all_of(&mut client, &format!("{content}bare\nfeed\r\n")).await;
    assert!(reply.starts_with("550 5.6.0"), "{reply}");
    until_no_bodies(&world).await;
    let hops = "Received: from somewhere\r\n".repeat(120);
    let reply = send_all_of(&mut client, &format!("{hops}{content}")).await;
    assert!(reply.starts_with("554 5.4.6"), "{reply}");
    assert_eq!(world.queue.bodies(), 0);
    let reply = send_all_of(&mut client, &content.repeat(3)).await;
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    until_no_bodies(&world).await;

    // A client that goes away in the middle.
    client.envelope("app@example.org", "user@example.net").await;
    let before = world.queue.staged().len();
    client.send(&content[..3 << 19]).await;
    let staged = async {
        while world.queue.staged().len() == before {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, staged).await.unwrap();
    assert_eq!(world.queue.bodies(), 1);
    drop(client);
    until_no_bodies(&world).await;
    let only_probes = world
        .queue
        .accepted()
        .iter()
        .all(|m| m.header.body.chunks == 0);
    assert!(only_probes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_is_lost_before_the_commit_is_a_451() {
    let world = world().await;
    let mut client = world.client().await;
    client.envelope("app@example.org", "user@example.net").await;
    world.queue.set(State::Held);
    client.send(&format!("{}.\r\n", content())).await;
    world.queue.commit_came().await;
    world.queue.lose_chunks().await;
    world.queue.set(State::Open);
    assert_eq!(
        client.reply().await,
        "451 4.3.0 The queue is not available, try again later"
    );
    assert!(world.queue.accepted().is_empty());
}

/// Less room is left for large messages than for others.
#[tokio::test(flavor = "multi_thread")]
async fn a_filling_queue_takes_nothing_large() {
    let files = Files::new();
    files.configure(|document| document.replace("messageSize: 64Ki", "messageSize: 4Mi"));
    let world = World::start(files, State::Filling).await;
    let mut status = world.relay.queue_status();
    let noticed = status.wait_for(|status| status.fill == Some(81));
    tokio::time::timeout(PATIENCE, noticed)
        .await
        .unwrap()
        .unwrap();
    let mut client = world.client().await;
    let full = "452 4.3.1 The queue is full, try again later";
    let mail = "MAIL FROM:<app@example.org> SIZE=";
    assert_eq!(client.command(&format!("{mail}1048577")).await, full);
    assert_eq!(
        client.command(&format!("{mail}1048576")).await,
        "250 2.1.0 Ok"
    );
    assert_eq!(client.command("RSET").await, "250 2.0.0 ok");
    let content = content();
    assert_eq!(send_all_of(&mut client, &content).await, full);
    until_no_bodies(&world).await;
    assert!(client.submit().await.starts_with("250 "));
    let reply = send_all_of(
        &mut client,
        &content[..content[..900_000].rfind("..\r\n").unwrap()],
    )
    .await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(world.queue.bodies(), 1);
}
