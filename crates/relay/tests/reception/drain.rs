//! Going away in order.

use std::time::Duration;

use crate::client::Client;
use crate::world::{Files, PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn idle_sessions_are_told_and_open_transactions_finish() {
    let files = Files::new();
    files.configure(|document| document.replace("acceptFor: 100ms", "acceptFor: 1s"));
    let world = World::start(files, crate::gate::State::Open).await;
    let (smtp, health) = (world.address("inside"), world.address("health"));
    let mut idle = world.client().await;
    let mut open = world.client().await;
    open.envelope("app@example.org", "user@example.net").await;

    let World {
        relay,
        queue,
        files: _files,
    } = world;
    let drained = tokio::spawn(relay.drain());
    let not_ready = async {
        loop {
            let stream = tokio::net::TcpStream::connect(health).await.unwrap();
            let ready = crate::world::http(stream, "GET /readyz HTTP/1.1\r\n", "").await;
            if ready == (503, "draining\n".to_owned()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, not_ready)
        .await
        .expect("readiness goes first");
    // Not everybody has heard of it yet.
    let mut late = Client::hello(smtp).await;
    assert!(late.submit().await.starts_with("250 "));

    for client in [&mut idle, &mut late] {
        let told = client.reply().await;
        assert!(told.starts_with("421 4.3.2 "), "{told}");
        client.closed().await;
    }
    let refused = async {
        // Whoever connects in the moment of closing is let go at once.
        while tokio::net::TcpStream::connect(smtp).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused)
        .await
        .expect("the socket is closed");
    assert!(!drained.is_finished(), "a transaction is open");
    let reply = open.command("Subject: x\r\n\r\nx\r\n.").await;
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    assert!(open.reply().await.starts_with("421 4.3.2 "));
    open.closed().await;
    tokio::time::timeout(PATIENCE, drained)
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(queue.accepted().len(), 2);
}

/// A client that never finishes is cut off at the deadline.
#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_holds() {
    let files = Files::new();
    files.configure(|document| document.replace("deadline: 10s", "deadline: 500ms"));
    let world = World::start(files, crate::gate::State::Open).await;
    let mut stuck = world.client().await;
    stuck.envelope("app@example.org", "user@example.net").await;
    stuck.send("Subject: x\r\n").await;
    tokio::time::timeout(PATIENCE, world.relay.drain())
        .await
        .expect("it ends");
    stuck.closed().await;
    assert!(world.queue.accepted().is_empty());
}
