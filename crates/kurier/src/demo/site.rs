//! The throw-away site: a certificate, a configuration, and a relay on the embedded queue.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use relay::Relay;
use relay::delivery::Outcome;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::broadcast;

/// A self-signed certificate for `localhost`, which the demo's clients trust and nobody else.
pub(super) struct Certificate {
    chain: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    certificate_file: PathBuf,
    key_file: PathBuf,
}

pub(super) fn certificate(folder: &Path) -> Result<Certificate> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let certificate_file = folder.join("tls.crt");
    let key_file = folder.join("tls.key");
    std::fs::write(&certificate_file, made.cert.pem())?;
    std::fs::write(&key_file, made.signing_key.serialize_pem())?;
    Ok(Certificate {
        chain: made.cert.der().clone(),
        key: PrivateKeyDer::try_from(made.signing_key.serialize_der())
            .map_err(|error| anyhow::anyhow!("{error}"))?,
        certificate_file,
        key_file,
    })
}

impl Certificate {
    pub(super) fn server(&self) -> Result<Arc<rustls::ServerConfig>> {
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![self.chain.clone()], self.key.clone_key())?;
        Ok(Arc::new(config))
    }

    pub(super) fn client(&self) -> Result<Arc<rustls::ClientConfig>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.chain.clone())?;
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

/// A running relay, as `kurier relay --config` would run it.
pub(super) struct Site {
    pub(super) address: SocketAddr,
    relay: Relay,
}

impl Site {
    pub(super) async fn start(
        folder: &Path,
        certificate: &Certificate,
        receiver: SocketAddr,
    ) -> Result<Self> {
        let file = folder.join("relay.yaml");
        std::fs::write(&file, document(folder, certificate, receiver))?;
        let loaded = config::load(&file)?;
        let queue = crate::store::open(&loaded.config)?;
        let settings = relay::Settings {
            loaded,
            config_file: None,
            pod_name: "demo".to_owned(),
            pod_uid: String::new(),
            version: env!("CARGO_PKG_VERSION"),
            revision: "demo",
        };
        let relay = Relay::start(settings, queue).await?;
        let address = relay
            .address("submission")
            .context("no submission listener")?;
        Ok(Self { address, relay })
    }

    pub(super) fn outcomes(&self) -> broadcast::Receiver<Arc<Outcome>> {
        self.relay.outcomes()
    }

    pub(super) async fn stop(self) {
        self.relay.drain().await;
    }
}

/// Retries are a second apart and a message lives for 12 s, so that a demo shows in a minute what
/// takes days.
fn document(folder: &Path, certificate: &Certificate, receiver: SocketAddr) -> String {
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    format!(
        "schema: 1
hostname: relay.example
listeners:
- name: submission
  address: 127.0.0.1:0
  role: Submission
  tls: {{mode: StartTLS, certificateFile: {}, keyFile: {}}}
  allowedNetworks: [127.0.0.0/8]
queue:
  source: {{type: Embedded, embedded: {{path: {}}}}}
  lifetime: 12s
  retry: {{initial: 1s, max: 2s}}
admin: {{health: null, management: null}}
drain: {{acceptFor: 0s, deadline: 10s}}
routes:
- name: demo
  rules:
  - name: receiver
    action: {{type: Smarthost, smarthost: {{host: 127.0.0.1, port: {}}}}}
",
        quoted(&certificate.certificate_file),
        quoted(&certificate.key_file),
        quoted(&folder.join("queue")),
        receiver.port()
    )
}
