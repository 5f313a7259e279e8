use std::sync::Arc;

use config::Smarthost;
use config::delivery::NextHopTls;
use relay::delivery::OutcomeKind;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::receiver::{Answer, Phase, Receiver};
use crate::world::{TIMING, World, is_deferred, is_delivered, message, settings_with};

struct Certified {
    acceptor: TlsAcceptor,
    certificate: CertificateDer<'static>,
}

/// A self-signed certificate for 127.0.0.1.
fn certified() -> Certified {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    Certified {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        certificate,
    }
}

async fn receiver(
    tls: Option<TlsAcceptor>,
    rule: impl Fn(Phase, &str) -> Answer + Send + Sync + 'static,
) -> Receiver {
    Receiver::at(
        "127.0.0.1:0",
        "250-8BITMIME\r\n250-PIPELINING\r\n",
        tls,
        rule,
    )
    .await
}

fn world(receiver: &Receiver, tls: NextHopTls, trusted: Option<CertificateDer<'static>>) -> World {
    let (host, port) = ("127.0.0.1".to_owned(), receiver.address.port());
    let mut settings = settings_with(Smarthost { host, port, tls });
    if let Some(certificate) = trusted {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        settings.roots = Arc::new(roots);
    }
    World::with(settings, TIMING)
}

#[tokio::test]
async fn opportunistic_takes_any_certificate() {
    let receiver = receiver(Some(certified().acceptor), |_, _| Answer::Accept).await;
    let mut world = world(&receiver, NextHopTls::Opportunistic, None);
    for _ in 0..2 {
        world.enqueue(message(&["r@example.org"])).await;
        world.until("delivered", is_delivered).await;
    }
    assert!(
        receiver
            .until(2)
            .await
            .iter()
            .all(|received| received.encrypted)
    );
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn opportunistic_goes_in_clear_where_there_is_no_tls() {
    // Not offered; refused; and a handshake that fails, as the receiver just ends it.
    let broken = |phase: Phase, _: &str| match phase {
        Phase::StartTls => Answer::Close,
        _ => Answer::Accept,
    };
    let refusing = |phase: Phase, _: &str| match phase {
        Phase::StartTls => Answer::Reply("454 4.7.0 not now"),
        _ => Answer::Accept,
    };
    for receiver in [
        receiver(None, |_, _| Answer::Accept).await,
        receiver(Some(certified().acceptor), refusing).await,
        receiver(Some(no_common_version()), |_, _| Answer::Accept).await,
    ] {
        let mut world = world(&receiver, NextHopTls::Opportunistic, None);
        world.enqueue(message(&["r@example.org"])).await;
        let seen = world.until("delivered", is_delivered).await;
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert!(!receiver.until(1).await[0].encrypted);
    }
    // A connection that ends at STARTTLS is no failed handshake: somebody may have cut it.
    let receiver = receiver(Some(certified().acceptor), broken).await;
    let mut world = world(&receiver, NextHopTls::Opportunistic, None);
    world.enqueue(message(&["r@example.org"])).await;
    world.until("deferred", is_deferred).await;
    assert!(receiver.received().is_empty());
}

/// A server whose handshake fails with every client: its key does not fit its certificate.
fn no_common_version() -> TlsAcceptor {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(NoCertificate));
    config.send_tls13_tickets = 0;
    TlsAcceptor::from(Arc::new(config))
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::server::ResolvesServerCert for NoCertificate {
    fn resolve(
        &self,
        _client_hello: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }
}

#[tokio::test]
async fn required_is_required() {
    let certified = certified();
    // Not offered, and offered by whoever it may be.
    for (tls, expected) in [
        (
            None,
            "the peer does not offer STARTTLS, which is required (in reply to STARTTLS)",
        ),
        (
            Some(certified.acceptor.clone()),
            "the TLS handshake failed (in the TLS handshake)",
        ),
    ] {
        let receiver = receiver(tls, |_, _| Answer::Accept).await;
        let mut world = world(&receiver, NextHopTls::Require, None);
        world.enqueue(message(&["r@example.org"])).await;
        let seen = world.until("deferred", is_deferred).await;
        let OutcomeKind::Deferred { reply, .. } = &seen[0].kind else {
            panic!("{seen:?}")
        };
        assert_eq!(reply, expected);
        assert!(receiver.received().is_empty());
    }
    let receiver = receiver(Some(certified.acceptor), |_, _| Answer::Accept).await;
    let mut world = world(&receiver, NextHopTls::Require, Some(certified.certificate));
    world.enqueue(message(&["r@example.org"])).await;
    world.until("delivered", is_delivered).await;
    assert!(receiver.until(1).await[0].encrypted);
}
