//! How many clients, and how many of one.

use crate::client::Client;
use crate::world::{Files, World};

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_client() {
    let world = World::new().await;
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(world.client().await);
    }
    let mut refused = Client::connect_only(world.address("inside")).await;
    let reply = refused.reply().await;
    assert!(
        reply.starts_with("421 4.7.0 Too many connections from your address"),
        "{reply}"
    );
    refused.closed().await;
    let (_, metrics) = world.get("health", "/metrics").await;
    for line in [
        "kurier_smtp_connections_open 10",
        "kurier_smtp_connections_refused_total{reason=\"client_limit\"} 1",
    ] {
        assert!(
            metrics.lines().any(|l| l == line),
            "{line} is not in\n{metrics}"
        );
    }

    // Whoever leaves makes room.
    assert!(open[0].command("QUIT").await.starts_with("221 "));
    open[0].closed().await;
    let mut again = Client::connect_only(world.address("inside")).await;
    let mut greeting = again.reply().await;
    while greeting.starts_with("421 ") {
        // The count falls when the connection's task ends, a moment after the client sees it.
        again = Client::connect_only(world.address("inside")).await;
        greeting = again.reply().await;
    }
    assert!(greeting.starts_with("220 "), "{greeting}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_in_all() {
    let files = Files::new();
    files.configure(|document| document.replace("connections: 20", "connections: 2"));
    let world = World::start(files, crate::gate::State::Open).await;
    let _open = [world.client().await, world.client().await];
    let mut refused = Client::connect_only(world.address("inside")).await;
    let reply = refused.reply().await;
    assert!(
        reply.starts_with("421 4.3.2 Too many connections"),
        "{reply}"
    );
    refused.closed().await;
}
