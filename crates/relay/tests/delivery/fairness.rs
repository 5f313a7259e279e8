//! Who shares what at one destination.

use crate::receiver::Receiver;
use crate::world::{TIMING, World, message, settings};

/// Everybody's queue is one of its own, and the connections are the site's.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tenants_share_the_connections_of_a_site() {
    let receiver = Receiver::accepting().await;
    let address = receiver.address;
    let mut settings = settings(&address.ip().to_string(), address.port());
    // None ends for its age, so that as many are made as are used at a time.
    settings.messages_per_connection = 1000;
    let world = World::with(settings, TIMING);
    world.worker.set_claiming(false);
    for tenant in 0..1000 {
        let mut message = message(&["user@example.net"]);
        message.header.tenant = format!("t{tenant}");
        message.header.tasks[0].queue.tenant = format!("t{tenant}");
        world.enqueue(message).await;
    }
    world.worker.set_claiming(true);
    receiver.until(1000).await;
    let connections = receiver.connections();
    assert!(connections <= 20, "{connections} connections");
}
