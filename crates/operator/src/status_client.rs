//! Asks one relay pod what it serves.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use config::Status;
use config::status::StatusError;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::certificate::Pair;

/// Where relay pods answer.
pub(crate) const PORT: u16 = 8443;

/// The name on every status certificate of a relay, whatever the pod's address.
pub(crate) fn server_name(relay_uid: &str) -> String {
    format!("{relay_uid}.relay.kurier")
}

/// Speaks to the pods of one relay.
#[derive(Clone)]
pub(crate) struct StatusClient {
    connector: TlsConnector,
    name: ServerName<'static>,
    port: u16,
}

impl StatusClient {
    /// `authority` has issued what the pods show and `client`.
    pub(crate) fn new(
        authority: &str,
        client: &Pair,
        relay_uid: &str,
    ) -> Result<Self, StatusClientError> {
        let unusable = |_| StatusClientError::Material;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).map_err(unusable)?)?;
        let chain = CertificateDer::pem_slice_iter(client.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(unusable)?;
        let key = PrivateKeyDer::from_pem_slice(client.key.as_bytes()).map_err(unusable)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        let name = ServerName::try_from(server_name(relay_uid))
            .map_err(|_| StatusClientError::Material)?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name,
            port: PORT,
        })
    }

    /// The report of the pod at `address`, which must be the pod `uid`.
    pub(crate) async fn ask(
        &self,
        address: IpAddr,
        uid: &str,
    ) -> Result<Status, StatusClientError> {
        tokio::time::timeout(PATIENCE, self.exchange(address, uid))
            .await
            .map_err(|_| StatusClientError::NoAnswer)?
    }

    async fn exchange(&self, address: IpAddr, uid: &str) -> Result<Status, StatusClientError> {
        let stream = TcpStream::connect(SocketAddr::new(address, self.port)).await?;
        let stream = self.connector.connect(self.name.clone(), stream).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = http::Request::get("/v1/status")
            .header(http::header::HOST, "relay")
            .body(Empty::<Bytes>::new())
            .map_err(|_| StatusClientError::Material)?;
        let answer = async {
            let response = sender.send_request(request).await?;
            if !response.status().is_success() {
                return Err(StatusClientError::Refused(response.status().as_u16()));
            }
            let body = Limited::new(response.into_body(), Status::MAX_OCTETS + 1);
            let octets = body
                .collect()
                .await
                .map_err(|_| StatusClientError::TooLong)?
                .to_bytes();
            let status = Status::decode(&octets)?;
            // The address may have gone to another pod meanwhile.
            if status.pod_uid == uid {
                Ok(status)
            } else {
                Err(StatusClientError::AnotherPod)
            }
        }
        .await;
        connection.abort();
        answer
    }
}

/// Longer than a pod waits for a queue that does not answer.
const PATIENCE: Duration = Duration::from_secs(4);

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StatusClientError {
    #[error("the status certificates are unusable")]
    Material,
    #[error("no answer within {} s", PATIENCE.as_secs())]
    NoAnswer,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("answered with status {0}")]
    Refused(u16),
    #[error("the report is too long")]
    TooLong,
    #[error("{0}")]
    Report(#[from] StatusError),
    #[error("another pod answered")]
    AnotherPod,
}

#[cfg(test)]
#[path = "status_client_tests.rs"]
mod tests;
