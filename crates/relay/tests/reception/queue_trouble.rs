//! Clients get 451 or 452 when the queue is in trouble, never a refused connection and never a
//! false 250.

use std::time::Duration;

use crate::client::Client;
use crate::gate::State;
use crate::world::{Files, PATIENCE, World};

/// A relay that starts while the queue is away is ready, says 451, and needs nothing but the queue
/// to go on.
#[tokio::test(flavor = "multi_thread")]
async fn away_from_the_start() {
    let world = World::start(Files::new(), State::Unreachable).await;
    world.until_reachable(false).await;
    assert_eq!(world.get("health", "/readyz").await.0, 200);
    let mut client = world.client().await;
    client.command("MAIL FROM:<app@example.org>").await;
    client.command("RCPT TO:<user@example.net>").await;
    let refused = client.command("DATA").await;
    assert_eq!(
        refused,
        "451 4.3.0 The queue is not available, try again later"
    );
    assert_eq!(client.command("RSET").await, "250 2.0.0 ok");

    world.queue.set(State::Open);
    world.until_reachable(true).await;
    assert!(client.submit().await.starts_with("250 2.0.0 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_while_a_message_comes() {
    let world = World::new().await;
    let mut client = world.client().await;
    for (state, expected) in [
        (
            State::Unreachable,
            "451 4.3.0 The queue is not available, try again later",
        ),
        (State::Full, "452 4.3.1 The queue is full, try again later"),
        (
            State::NotDurable,
            "451 4.3.0 The queue is not available, try again later",
        ),
    ] {
        client.envelope("app@example.org", "user@example.net").await;
        world.queue.set(state);
        assert_eq!(
            client.command("Subject: x\r\n\r\nx\r\n.").await,
            expected,
            "{state:?}"
        );
        world.queue.set(State::Open);
        world.until_reachable(true).await;
        until_accepting(&world).await;
    }
    assert!(
        world
            .queue
            .accepted()
            .iter()
            .all(|m| m.header.reverse_path == "probe@example.org")
    );
}

/// Before anything is sent, and only as long as it lasts.
#[tokio::test(flavor = "multi_thread")]
async fn nearly_full() {
    let world = World::start(Files::new(), State::NearlyFull).await;
    until_filled(&world, Some(86)).await;
    let mut client = world.client().await;
    assert_eq!(
        client.command("MAIL FROM:<app@example.org>").await,
        "452 4.3.1 The queue is full, try again later"
    );
    world.queue.set(State::Open);
    until_filled(&world, None).await;
    assert!(client.submit().await.starts_with("250 2.0.0 "));
}

async fn until_filled(world: &World, fill: Option<u8>) {
    let mut status = world.relay.queue_status();
    let noticed = status.wait_for(|status| status.fill == fill);
    tokio::time::timeout(PATIENCE, noticed)
        .await
        .expect("the fill is noticed")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn not_durable_as_declared() {
    let world = World::start(Files::new(), State::NotDurable).await;
    world.until_reachable(true).await;
    let mut status = world.relay.queue_status();
    let unmet = status.wait_for(|s| {
        matches!(
            s.durability,
            queue::durability::Durability::Unmet {
                reason: "AofOff",
                ..
            }
        )
    });
    tokio::time::timeout(PATIENCE, unmet)
        .await
        .unwrap()
        .unwrap();
    let mut client = world.client().await;
    client.command("MAIL FROM:<app@example.org>").await;
    client.command("RCPT TO:<user@example.net>").await;
    assert!(client.command("DATA").await.starts_with("451 4.3.0 "));
    let (_, metrics) = world.get("health", "/metrics").await;
    assert!(metrics.contains("\nkurier_queue_durable 0\n"), "{metrics}");
}

/// The worker may take a beat to see that the queue is back.
pub(crate) async fn until_accepting(world: &World) {
    let accepted = async {
        loop {
            let mut probe = Client::hello(world.address("inside")).await;
            probe.command("MAIL FROM:<probe@example.org>").await;
            probe.command("RCPT TO:<user@example.net>").await;
            if probe.command("DATA").await.starts_with("354")
                && probe.command("x\r\n.").await.starts_with("250")
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, accepted)
        .await
        .expect("the queue is back");
}
