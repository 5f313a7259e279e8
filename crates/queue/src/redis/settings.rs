//! How to reach a Redis and which queue in it is meant.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::address::Address;
use super::connection::Target;
use super::locate::{Dial, Locator};
use crate::durability::Level;
use crate::operation::Timing;
use crate::schema::{self, NotWritten, Reads, Schema};

/// How to reach a Redis and which queue in it is meant.
#[derive(Clone)]
pub struct Settings {
    pub locator: Locator,
    /// Roots for TLS instead of the public ones, PEM; read anew for each connection.
    pub ca_file: Option<PathBuf>,
    /// Id of the queue; no braces.
    pub queue: String,
    /// Who may use it: another owner's queue is refused.
    pub owner: String,
    pub timing: Timing,
    /// What a confirmed write is to be worth.
    pub level: Level,
    /// What this program reads; [`schema::READS`](crate::schema::READS) unless it acts as another release.
    pub reads: Reads,
    /// The schema to put in force, when no pod is left that does not read it; `None` leaves it.
    pub schema: Option<Schema>,
    /// How many entries the journal keeps, one for each call that settles, some more at times; 0 for no journal.
    pub journal_keeps: u32,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
}

impl Settings {
    pub fn new(locator: Locator, queue: String, owner: String, timing: Timing) -> Self {
        Self {
            locator,
            ca_file: None,
            queue,
            owner,
            timing,
            level: Level::default(),
            reads: schema::READS,
            schema: None,
            journal_keeps: 0,
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(10),
        }
    }

    /// Looks at everything that a connection will be made with, the files included, without making
    /// one.
    ///
    /// # Errors
    /// What would keep every connection from coming about.
    pub fn check(&self) -> Result<(), OpenError> {
        Dial::new(&self.target()?).map(|_| ())
    }

    pub(super) fn target(&self) -> Result<Target, OpenError> {
        let queue = &self.queue;
        let forbidden = |c: char| matches!(c, '{' | '}' | ' ') || c.is_control();
        if queue.is_empty() || queue.len() > 200 || queue.contains(forbidden) {
            return Err(OpenError::QueueId);
        }
        if let Some(asked) = self.schema {
            self.reads.admit(asked)?;
        }
        // What stands in a file is looked at when a connection is made: it changes.
        if let Locator::Url(url) = &self.locator {
            Address::parse(url)?;
        }
        Ok(Target {
            locator: self.locator.clone(),
            ca_file: self.ca_file.clone(),
            // One hash tag, so one slot of a cluster.
            prefix: format!("mr:{{{queue}:0}}:"),
            owner: self.owner.clone(),
            level: self.level,
            reads: self.reads,
            schema: self.schema,
            connect_timeout: self.connect_timeout,
        })
    }
}

/// Never shows the address, which may hold a password.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("queue", &self.queue)
            .field("owner", &self.owner)
            .finish()
    }
}

/// Why the settings name no queue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    #[error(
        "the address of Redis is wrong ({0}): it is redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], \
         redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST..]/NAME or \
         redis+cluster://[[USER]:PASSWORD@]HOST[:PORT][,HOST..], with rediss instead of redis for TLS; in user and \
         password / is %2F, @ is %40, % is %25"
    )]
    Address(String),
    #[error("{}: {source}", .path.display())]
    AddressInFile { path: PathBuf, source: Box<Self> },
    #[error("{}: cannot be read: {source}", .path.display())]
    AddressFile { path: PathBuf, source: io::Error },
    #[error(
        "the address asks for no TLS, so nobody would be asked for a certificate of caFile: \
         write rediss:// instead of redis://"
    )]
    InClear,
    #[error(
        "the queue's id is empty, over 200 octets, or holds braces, spaces or control characters"
    )]
    QueueId,
    #[error(transparent)]
    Schema(#[from] NotWritten),
    #[error("cannot read root certificates from {path}: {reason}")]
    Roots { path: PathBuf, reason: String },
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

pub(super) fn tls_config(ca_file: Option<&Path>) -> Result<rustls::ClientConfig, OpenError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => add_roots(&mut roots, path).map_err(|reason| OpenError::Roots {
            path: path.to_owned(),
            reason,
        })?,
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn add_roots(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        Err("it holds no certificate".into())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str, queue: &str) -> Settings {
        let second = Duration::from_secs(1);
        let timing = Timing {
            lease: second,
            beat: second,
            claim: second,
            begun: second,
            safety_wake: second,
        };
        Settings::new(
            Locator::Url(url.into()),
            queue.into(),
            "local".into(),
            timing,
        )
    }

    #[test]
    fn keys_begin_with_one_hash_tag() {
        let target = settings("redis://host", "mail.outbound").target().ok();
        assert_eq!(target.unwrap().prefix, "mr:{mail.outbound:0}:");
        for queue in ["", "a b", "a}b", "{", "a\n"] {
            let error = settings("redis://host", queue).target().err();
            assert!(matches!(error, Some(OpenError::QueueId)), "{queue:?}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let settings = settings("redis://:secret@", "q");
        assert!(!format!("{settings:?}").contains("secret"));
        let error = settings.target().err().unwrap();
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
}
