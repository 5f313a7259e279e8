//! A changed configuration counts without a restart; a bad one does not count.

use std::time::Duration;

use config::Status;

use crate::admin::status;
use crate::client;
use crate::world::{PATIENCE, World, credential};

async fn until(world: &World, what: &str, is: impl Fn(&Status) -> bool) -> Status {
    let reached = async {
        loop {
            let status = status(world).await;
            if is(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached)
        .await
        .unwrap_or_else(|_| panic!("{what}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_credential_is_refused_in_open_sessions() {
    let world = World::new().await;
    let before = status(&world).await;
    let mut client = client::connect_tls(world.address("implicit"), &world.files.trusting()).await;
    assert!(
        client
            .plain("free", "other secret")
            .await
            .starts_with("235 ")
    );
    client.envelope("app@example.org", "user@example.net").await;

    let free = credential("free", "other secret", "[]");
    world
        .files
        .configure(|document| document.replace(&free, ""));
    until(&world, "the change is in force", |now| {
        now.config_hash != before.config_hash
    })
    .await;
    // The open transaction was begun with a good credential.
    assert!(
        client
            .command("Subject: x\r\n\r\nx\r\n.")
            .await
            .starts_with("250 ")
    );
    let refused = client.command("MAIL FROM:<app@example.org>").await;
    assert!(refused.starts_with("530 5.7.0 "), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_reported_and_changes_nothing() {
    let world = World::new().await;
    let before = status(&world).await;
    assert_eq!(before.config_rejected, None);
    let wrong = "hostname: relay.example\nhostnam: x";
    world
        .files
        .configure(|document| document.replace("hostname: relay.example", wrong));
    let rejected = until(&world, "the mistake is reported", |s| {
        s.config_rejected.is_some()
    })
    .await;
    assert_eq!(rejected.config_hash, before.config_hash);
    let message = rejected.config_rejected.unwrap().message;
    assert!(
        message.contains("relay.yaml:3:") && message.contains("hostnam"),
        "{message}"
    );
    assert!(world.client().await.submit().await.starts_with("250 "));

    world.files.configure(|document| document);
    until(&world, "the mistake is mended", |s| {
        s.config_rejected.is_none()
    })
    .await;
}

/// A port cannot change, but that must not hold up a revocation in the same document.
#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_restart_is_reported_and_the_rest_counts() {
    let world = World::new().await;
    let before = status(&world).await;
    let free = credential("free", "other secret", "[]");
    world.files.configure(|document| {
        document
            .replace(&free, "")
            .replace("safetyWake: 3s", "safetyWake: 4s")
    });
    let partial = until(&world, "the rest is reported", |s| {
        s.config_rejected.is_some()
    })
    .await;
    assert_eq!(
        partial.config_hash, before.config_hash,
        "not in force as a whole"
    );
    let message = partial.config_rejected.unwrap().message;
    assert!(
        message.contains("`timing`") && message.contains("restart"),
        "{message}"
    );
    let mut client = client::connect_tls(world.address("implicit"), &world.files.trusting()).await;
    assert!(
        client
            .plain("free", "other secret")
            .await
            .starts_with("535 ")
    );
    assert!(client.plain("app", "secret").await.starts_with("235 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_routes_change() {
    let world = World::new().await;
    let before = status(&world).await;
    world.files.configure(|document| {
        let document = document.replace("messageSize: 64Ki", "messageSize: 128Ki");
        document.replace("name: nowhere", "name: elsewhere")
    });
    until(&world, "the change is in force", |now| {
        now.config_hash != before.config_hash
    })
    .await;
    let mut client = world.client().await;
    assert!(client.ehlo().await.contains("250-SIZE 131072\n"));
    assert!(client.submit().await.starts_with("250 "));
    let header = world.only_message().header;
    assert_eq!(header.tasks[0].queue.route, "rule:elsewhere/all");
}
