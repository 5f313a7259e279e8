//! Server sides of TLS, made from PEM.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use config::Digest;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{ProducesTickets, StoresServerSessions, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

/// What resumes sessions, kept over changes of certificates: a client that comes back after a
/// reload need not shake hands in full.
#[derive(Clone, Debug)]
pub(crate) struct Resumption {
    tickets: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
}

impl Resumption {
    pub(crate) fn new() -> Result<Self, rustls::Error> {
        Ok(Self {
            tickets: aws_lc_rs::Ticketer::new()?,
            sessions: rustls::server::ServerSessionMemoryCache::new(SESSIONS),
        })
    }
}

/// A certificate chain and its key, as read from their files.
#[derive(Debug)]
pub(crate) struct KeyPair {
    /// Of the file that holds the chain.
    pub(crate) digest: Digest,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl KeyPair {
    pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let (digest, chain) = read_certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|source| TlsError::new(key, source, "a private key"))?;
        Ok(Self { digest, chain, key })
    }

    /// For listeners of mail: whoever comes may shake hands.
    pub(crate) fn into_server(
        self,
        resumption: &Resumption,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = builder()?
            .with_no_client_auth()
            .with_single_cert(self.chain, self.key)?;
        config.ticketer = Arc::clone(&resumption.tickets);
        config.session_storage = Arc::clone(&resumption.sessions);
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
    }

    /// For the status listener: only who holds a certificate of `authority`.
    pub(crate) fn into_mutual(self, authority: &Path) -> Result<Arc<ServerConfig>, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in read_certificates(authority)?.1 {
            roots.add(certificate)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::new(aws_lc_rs::default_provider()),
        )
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut config = builder()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain, self.key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    #[error("{}: cannot be read: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: holds no {expected} in PEM: {reason}", .path.display())]
    Pem {
        path: PathBuf,
        expected: &'static str,
        reason: String,
    },
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

impl TlsError {
    /// The file at fault, where it is one alone.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Io { path, .. } | Self::Pem { path, .. } => Some(path),
            Self::Unusable(_) => None,
        }
    }

    fn new(path: &Path, source: pem::Error, expected: &'static str) -> Self {
        match source {
            pem::Error::Io(source) => Self::Io {
                path: path.to_owned(),
                source,
            },
            other => Self::Pem {
                path: path.to_owned(),
                expected,
                reason: other.to_string(),
            },
        }
    }
}

/// The certificates in a file, and the digest of the octets they were read from.
fn read_certificates(path: &Path) -> Result<(Digest, Vec<CertificateDer<'static>>), TlsError> {
    let error = |source| TlsError::new(path, source, "certificate");
    let octets = fs::read(path).map_err(|source| error(pem::Error::Io(source)))?;
    let chain = CertificateDer::pem_slice_iter(&octets)
        .collect::<Result<Vec<_>, _>>()
        .map_err(error)?;
    if chain.is_empty() {
        return Err(error(pem::Error::NoItemsFound));
    }
    Ok((Digest::of(&octets), chain))
}

type Builder = rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>;

fn builder() -> Result<Builder, rustls::Error> {
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
}

const SESSIONS: usize = 4096;
