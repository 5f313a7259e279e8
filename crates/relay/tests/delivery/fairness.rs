//! Who shares what at one destination.

use crate::receiver::Receiver;
use crate::world::{World, message};

/// Everybody's queue is one of its own, and the connections are the site's.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tenants_share_the_connections_of_a_site() {
    let receiver = Receiver::accepting().await;
    let world = World::new(receiver.address);
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
