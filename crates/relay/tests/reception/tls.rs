//! TLS of listeners: resumption, and certificates that change under open sessions.

use std::sync::Arc;
use std::time::Duration;

use rustls::HandshakeKind;

use crate::client::{self, Client};
use crate::world::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_resumed() {
    let world = World::new().await;
    let trusting = world.files.trusting();
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut client = Client::hello(world.address("submission"))
            .await
            .start_tls(&trusting)
            .await;
        assert_eq!(client.tls().handshake_kind(), Some(expected));
        // The ticket comes behind the handshake, and is read with this.
        assert!(client.command("QUIT").await.starts_with("221 "));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_counts_for_new_handshakes() {
    let world = World::new().await;
    let trusting = world.files.trusting();
    let address = world.address("implicit");
    let mut old = client::connect_tls(address, &trusting).await;
    assert!(old.plain("free", "other secret").await.starts_with("235 "));
    let renewed = world.files.issue("tls", "relay.example");
    let seen = async {
        loop {
            // Nothing is resumed: a resumed session shows no certificate.
            let fresh = world.files.trusting();
            let client = client::connect_tls(address, &fresh).await;
            if client.tls().peer_certificates().unwrap()[0] == renewed {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen)
        .await
        .expect("the certificate is renewed");
    let file = std::fs::read(world.files.path("tls.crt")).unwrap();
    let reported = crate::admin::status(&world).await.certificates.unwrap();
    assert_eq!(reported["implicit"], config::Digest::of(&file));
    assert!(
        old.submit().await.starts_with("250 2.0.0 "),
        "open sessions go on"
    );

    // What resumes a session outlives the certificate.
    let mut again = client::connect_tls(address, &trusting).await;
    assert_eq!(again.tls().handshake_kind(), Some(HandshakeKind::Resumed));
    assert!(again.command("QUIT").await.starts_with("221 "));
    drop(Arc::clone(&trusting));
}
