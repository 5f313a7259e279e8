use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{StatusClient, StatusClientError, server_name};
use crate::certificate::{Authority, Usage};

const UID: &str = "6c0e2f6e-5f0f-4d0a-9f2b-1f6f0a3f7a11";

fn report(pod: &str) -> String {
    format!(
        r#"{{"podUid":"{pod}","schema":1,"version":"0","durability":{{"type":"Unknown"}},
        "redis":{{"reachable":false,"since":"2026-01-01T00:00:00Z"}}}}"#
    )
}

fn response(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A pod with a certificate for `name`, that answers every request with `answer`.
async fn pod(authority: &Authority, name: &str, answer: String) -> u16 {
    let pair = authority
        .issue(&[name.to_owned()], Usage::Server, Timestamp::now())
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .build()
        .unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = vec![0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

async fn ask(authority: &Authority, port: u16) -> Result<config::Status, StatusClientError> {
    let pair = authority
        .issue(&["operator".to_owned()], Usage::Client, Timestamp::now())
        .unwrap();
    let mut client = StatusClient::new(&authority.certificate, &pair, UID).unwrap();
    client.port = port;
    client.ask(IpAddr::V4(Ipv4Addr::LOCALHOST), "pod-1").await
}

#[tokio::test]
async fn reads_a_report() {
    let authority = Authority::generate("a", Timestamp::now()).unwrap();
    let port = pod(&authority, &server_name(UID), response(&report("pod-1"))).await;
    assert_eq!(ask(&authority, port).await.unwrap().pod_uid, "pod-1");
}

#[tokio::test]
async fn believes_nobody_else() {
    let authority = Authority::generate("a", Timestamp::now()).unwrap();
    let port = pod(&authority, &server_name(UID), response(&report("pod-2"))).await;
    assert!(matches!(
        ask(&authority, port).await,
        Err(StatusClientError::AnotherPod)
    ));

    let port = pod(
        &authority,
        &server_name("other"),
        response(&report("pod-1")),
    )
    .await;
    assert!(matches!(
        ask(&authority, port).await,
        Err(StatusClientError::Io(_))
    ));

    let stranger = Authority::generate("b", Timestamp::now()).unwrap();
    let port = pod(&stranger, &server_name(UID), response(&report("pod-1"))).await;
    assert!(matches!(
        ask(&authority, port).await,
        Err(StatusClientError::Io(_))
    ));
}

#[tokio::test]
async fn bounds_what_it_reads() {
    let authority = Authority::generate("a", Timestamp::now()).unwrap();
    let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(100_000));
    let port = pod(&authority, &server_name(UID), long).await;
    assert!(matches!(
        ask(&authority, port).await,
        Err(StatusClientError::TooLong)
    ));

    let refusal = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_owned();
    let port = pod(&authority, &server_name(UID), refusal).await;
    assert!(matches!(
        ask(&authority, port).await,
        Err(StatusClientError::Refused(503))
    ));
}
