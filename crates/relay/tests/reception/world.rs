//! A relay with its files, its queue, and whoever trusts it.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use relay::{Relay, Settings};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use crate::client::Client;
use crate::gate::{Gate, State};

pub(crate) struct World {
    pub(crate) relay: Relay,
    pub(crate) queue: Arc<Gate>,
    pub(crate) files: Files,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::start(Files::new(), State::Open).await
    }

    pub(crate) async fn start(files: Files, state: State) -> Self {
        let loaded = config::load(&files.document()).unwrap();
        let queue = Arc::new(Gate::new(&relay::timing(&loaded.config.timing), state));
        let settings = Settings {
            loaded,
            config_file: Some(files.document()),
            pod_name: "pod-0".to_owned(),
            pod_uid: "uid-0".to_owned(),
            version: "1.2.3",
            revision: "abc",
        };
        let relay = Relay::start(settings, queue.clone()).await.unwrap();
        let world = Self {
            relay,
            queue,
            files,
        };
        if state == State::Open {
            world.until_reachable(true).await;
        }
        world
    }

    pub(crate) async fn until_reachable(&self, reachable: bool) {
        let mut status = self.relay.queue_status();
        let reached = status.wait_for(|status| {
            status.reachable == reachable && (reachable || status.error.is_some())
        });
        tokio::time::timeout(PATIENCE, reached)
            .await
            .expect("the queue is noticed")
            .unwrap();
    }

    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        self.relay.address(listener).unwrap()
    }

    /// A client in clear on the listener whose clients may relay for their address.
    pub(crate) async fn client(&self) -> Client {
        Client::hello(self.address("inside")).await
    }

    /// The one message that is in the queue, as stored.
    pub(crate) fn only_message(&self) -> queue::record::NewMessage {
        let accepted = self.queue.accepted();
        let [message] = accepted.as_slice() else {
            panic!("{} messages", accepted.len())
        };
        message.clone()
    }

    /// `GET` of an administrative listener in clear: status line and body.
    pub(crate) async fn get(&self, listener: &str, path: &str) -> (u16, String) {
        self.request(listener, &format!("GET {path} HTTP/1.1\r\n"))
            .await
    }

    pub(crate) async fn request(&self, listener: &str, head: &str) -> (u16, String) {
        let stream = tokio::net::TcpStream::connect(self.address(listener))
            .await
            .unwrap();
        http(stream, head, "").await
    }
}

/// One request over any stream.
pub(crate) async fn http(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    head: &str,
    body: &str,
) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let length = body.len();
    let request = format!(
        "{head}Host: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // TLS without a good-bye is an error here, and the answer is whole all the same.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

/// The folder of a relay: its document, and certificates of one authority.
pub(crate) struct Files {
    folder: TempDir,
    authority: Issuer<'static, KeyPair>,
    management: u16,
    /// What clients trust.
    pub(crate) authority_pem: String,
}

impl Files {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_pem = params.self_signed(&key).unwrap().pem();
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
            authority: Issuer::new(params, key),
            management: free_port(),
            authority_pem,
        };
        files.write("ca.crt", &files.authority_pem);
        files.issue("tls", "relay.example");
        files.issue("status", "uid.relay.kurier");
        files.configure(|document| document);
        files
    }

    pub(crate) fn document(&self) -> PathBuf {
        self.path("relay.yaml")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As a mounted Secret changes: a new file takes the place of the old one.
    pub(crate) fn write(&self, name: &str, content: &str) {
        let fresh = self.path("fresh");
        std::fs::write(&fresh, content).unwrap();
        std::fs::rename(fresh, self.path(name)).unwrap();
    }

    /// A certificate for `host` as `<name>.crt` and `<name>.key`; gives its DER.
    pub(crate) fn issue(&self, name: &str, host: &str) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        self.write(&format!("{name}.key"), &key.serialize_pem());
        self.write(&format!("{name}.crt"), &certificate.pem());
        certificate.der().clone()
    }

    /// Writes the usual document as `change` wants it.
    pub(crate) fn configure(&self, change: impl FnOnce(String) -> String) {
        self.write(
            "relay.yaml",
            &change(usual_document(self.folder.path(), self.management)),
        );
    }

    /// A TLS client that trusts the authority.
    pub(crate) fn trusting(&self) -> Arc<ClientConfig> {
        Arc::new(client_builder(&self.authority_pem).with_no_client_auth())
    }

    /// One that shows the certificate `<name>` as well.
    pub(crate) fn trusting_with(&self, name: &str) -> Arc<ClientConfig> {
        let chain = CertificateDer::from_pem_file(self.path(&format!("{name}.crt"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
        let config = client_builder(&self.authority_pem)
            .with_client_auth_cert(vec![chain], key)
            .unwrap();
        Arc::new(config)
    }
}

fn client_builder(
    authority: &str,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}

/// A credential as it stands in a document.
pub(crate) fn credential(username: &str, password: &str, allowed_senders: &str) -> String {
    let salt = b"salt-of-tests";
    let iterations = NonZeroU32::new(4096).unwrap();
    let mut salted = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        salt,
        password.as_bytes(),
        &mut salted,
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let stored = digest::digest(&digest::SHA256, hmac::sign(&key, b"Client Key").as_ref());
    let server = hmac::sign(&key, b"Server Key");
    let base64 = |octets: &[u8]| BASE64_STANDARD.encode(octets);
    format!(
        "- username: {username}
  tenant: shop
  allowedSenders: {allowed_senders}
  scramSha256: {{salt: {}, iterations: 4096, storedKey: {}, serverKey: {}}}
",
        base64(salt),
        base64(stored.as_ref()),
        base64(server.as_ref())
    )
}

/// Mail goes to a port where nobody is, and stays.
fn usual_document(folder: &Path, management: u16) -> String {
    let folder = folder.display();
    let pair =
        |name: &str| format!("certificateFile: {folder}/{name}.crt, keyFile: {folder}/{name}.key");
    format!(
        "schema: 1
hostname: relay.example
listeners:
- name: submission
  address: 127.0.0.1:0
  role: Submission
  tls: {{mode: StartTLS, {tls}}}
- name: implicit
  address: 127.0.0.1:0
  role: Submission
  tls: {{mode: Implicit, {tls}}}
- name: closed
  address: 127.0.0.1:0
  role: Relay
- name: inside
  address: 127.0.0.1:0
  role: Submission
  allowedNetworks: [127.0.0.0/8]
- name: trace-only
  address: 127.0.0.1:0
  role: Relay
  allowedNetworks: [127.0.0.0/8]
defaultTenant: house
tenants:
- {{name: shop, senderDomains: [example.org, '*.example.org']}}
queue: {{source: {{type: Embedded, embedded: {{path: {folder}/queue}}}}}}
timing: {{lease: 3s, beat: 500ms, claim: 12s, begun: 180s, safetyWake: 3s}}
limits: {{messageSize: 64Ki, connections: 20, connectionsPerClient: 10}}
drain: {{acceptFor: 100ms, deadline: 10s}}
admin:
  health: 127.0.0.1:0
  status: {{address: '127.0.0.1:0', {status}, clientCaFile: {folder}/ca.crt}}
  management: 127.0.0.1:{management}
credentials:
{restricted}{free}routes:
- name: nowhere
  rules:
  - name: all
    action: {{type: Smarthost, smarthost: {{host: 127.0.0.1, port: 9}}}}
",
        tls = pair("tls"),
        status = pair("status"),
        restricted = credential(
            "app",
            "secret",
            "['noreply@example.org', '*@*.app.example.org']"
        ),
        free = credential("free", "other secret", "[]"),
    )
}

/// The management API must be on loopback, and `health` has port 0 already: equal addresses mean
/// one listener.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
