//! `rediss://` with a private root.

use std::ffi::OsString;
use std::path::PathBuf;

use queue::redis::{OpenError, Redis};
use queue::{Queue, QueueError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::redis_fixture::{Caller, message, settings, tasks};
use crate::redis_server::RedisServer;

struct Pki {
    directory: tempfile::TempDir,
}

impl Pki {
    fn new(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()])
            .unwrap()
            .signed_by(&key, &ca)
            .unwrap();
        let write = |file: &str, text: String| {
            std::fs::write(directory.path().join(file), text).unwrap();
        };
        write("ca.crt", ca.pem());
        write("tls.crt", certificate.pem());
        write("tls.key", key.serialize_pem());
        Self { directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Its TLS port is below those that the system hands out, so that nobody takes it meanwhile.
    fn start(&self) -> RedisServer {
        let path = |name| self.file(name).into_os_string().into_string().unwrap();
        let (certificate, key, ca) = (path("tls.crt"), path("tls.key"), path("ca.crt"));
        let environment: [(&str, OsString); 0] = [];
        let server = RedisServer::start_with(
            &[
                ("tls-cert-file", &certificate),
                ("tls-key-file", &key),
                ("tls-ca-cert-file", &ca),
                ("tls-auth-clients", "no"),
            ],
            &environment,
        );
        crate::redis_fixture::config_set(&server, "tls-port", &tls_port(&server).to_string());
        server
    }
}

fn tls_port(server: &RedisServer) -> u16 {
    10_000 + server.port() % 4_000
}

#[tokio::test]
async fn mail_goes_through_tls_under_a_private_root() {
    let pki = Pki::new("localhost");
    let server = pki.start();
    let mut settings = settings(format!("rediss://localhost:{}", tls_port(&server)));
    settings.ca_file = Some(pki.file("ca.crt"));
    let queue = std::sync::Arc::new(Redis::open(&settings).unwrap());
    let mut worker = Caller::register(&queue).await;
    worker.enqueue(&[message(&["example.net"])]).await;
    assert_eq!(tasks(&worker.claim().await).len(), 1);
}

#[tokio::test]
async fn a_certificate_that_does_not_verify_is_no_connection() {
    let pki = Pki::new("localhost");
    let server = pki.start();
    let other = Pki::new("localhost");
    let url = |host: &str| format!("rediss://{host}:{}", tls_port(&server));
    let cases = [
        (url("localhost"), Some(other.file("ca.crt"))),
        (url("127.0.0.1"), Some(pki.file("ca.crt"))),
        (url("localhost"), None),
    ];
    for (url, ca_file) in cases {
        let mut settings = settings(url);
        settings.ca_file = ca_file;
        let refused = Redis::open(&settings).unwrap().counts().await;
        let Err(QueueError::Unreachable(text)) = &refused else {
            panic!("{refused:?}")
        };
        assert!(text.contains("certificate"), "{text}");
    }
}

#[test]
fn roots_that_cannot_be_read_are_named() {
    let mut settings = settings("rediss://localhost".into());
    settings.ca_file = Some("/nonexistent/ca.crt".into());
    let error = settings.check().expect_err("no roots");
    assert!(matches!(error, OpenError::Roots { .. }));
    assert!(error.to_string().contains("/nonexistent/ca.crt"));
}
