//! The configuration in force, compiled: what sessions, deliveries and the admin interface look at.
//!
//! It is replaced as a whole and never changed, so whoever holds one sees things that belong
//! together.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use config::admin::StatusListener;
use config::listener::{Listener, ListenerTls, Mechanism, Role, TlsMode};
use config::{Digest, Loaded, Manifest, Network, RelayConfig};
use queue::record::INLINE;
use rustls::ServerConfig;
use smtp::server::{Authentication, StartTls};

use crate::admission::credentials::{Credential, Credentials};
use crate::listener::limits::ConnectionLimits;
use crate::routing::Routes;
use crate::tls::{KeyPair, Resumption, TlsError};

#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) loaded: Loaded,
    pub(crate) hostname: smtp::Domain,
    pub(crate) routes: Arc<Routes>,
    pub(crate) credentials: Credentials,
    pub(crate) status_tls: Option<Arc<ServerConfig>>,
    pub(crate) connection_limits: ConnectionLimits,
    /// What of it differs from what this process was started with and cannot follow.
    pub(crate) needs_restart: Option<&'static str>,
    /// The digests to report: the newest that are in force without a remainder.
    pub(crate) reported: Manifest,
    listeners: HashMap<String, Arc<ListenerPolicy>>,
}

impl Active {
    /// Reads the certificates that `loaded` names and compiles everything.
    pub(crate) fn compile(loaded: Loaded, resumption: &Resumption) -> Result<Self, CompileError> {
        let config = &loaded.config;
        let hostname = hostname(config)?;
        let limits = &config.limits;
        let mut listeners = HashMap::new();
        for listener in &config.listeners {
            let policy = ListenerPolicy::compile(&loaded, &hostname, listener, resumption)
                .map_err(|source| CompileError::Listener {
                    name: listener.name.clone(),
                    source,
                })?;
            listeners.insert(listener.name.clone(), Arc::new(policy));
        }
        let status = config.admin.status.as_ref();
        let status_tls = status
            .map(|status| status_tls(status).map_err(CompileError::Status))
            .transpose()?;
        Ok(Self {
            hostname,
            routes: Arc::new(Routes::new(&loaded.routes)),
            credentials: Credentials::new(loaded.credentials.iter().map(Credential::from)),
            status_tls,
            connection_limits: ConnectionLimits {
                all: limits.connections,
                per_client: limits.connections_per_client,
            },
            needs_restart: None,
            reported: loaded.manifest.clone(),
            listeners,
            loaded,
        })
    }

    /// Takes the place of `before` in a process that was started with `start`, whose sockets and
    /// queue stay.
    pub(crate) fn following(mut self, start: &Self, before: &Self) -> Self {
        // A socket that is still open keeps a policy.
        for (name, policy) in &start.listeners {
            self.listeners
                .entry(name.clone())
                .or_insert_with(|| Arc::clone(policy));
        }
        let (started, now) = (&start.loaded.config, &self.loaded.config);
        self.needs_restart = now.fixed_at_start().changed_from(&started.fixed_at_start());
        if self.needs_restart.is_some() {
            self.reported = before.reported.clone();
        }
        self
    }

    pub(crate) fn listener(&self, name: &str) -> Option<&Arc<ListenerPolicy>> {
        self.listeners.get(name)
    }

    /// Digests of the certificate files in force, by listener.
    pub(crate) fn certificates(&self) -> BTreeMap<String, Digest> {
        let listeners = self.listeners.iter();
        listeners
            .filter_map(|(name, policy)| Some((name.clone(), policy.certificate.clone()?)))
            .collect()
    }

    /// Whether mail of `tenant` may have a reverse-path in `domain`.
    pub(crate) fn tenant_may_send_as(&self, tenant: &str, domain: &str) -> bool {
        let tenants = &self.loaded.config.tenants;
        tenants
            .iter()
            .find(|t| t.name == tenant)
            .is_none_or(|t| t.may_send_as(domain))
    }
}

/// What holds for the clients of one listener.
#[derive(Debug)]
pub(crate) struct ListenerPolicy {
    pub(crate) session: Arc<smtp::server::Config>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) implicit_tls: bool,
    pub(crate) role: Role,
    pub(crate) offers_authentication: bool,
    /// Digest of the file that its certificate was read from.
    certificate: Option<Digest>,
    requires_authentication: bool,
    allowed_networks: Vec<Network>,
}

impl ListenerPolicy {
    fn compile(
        loaded: &Loaded,
        hostname: &smtp::Domain,
        listener: &Listener,
        resumption: &Resumption,
    ) -> Result<Self, TlsError> {
        let (tls, certificate) = match &listener.tls {
            Some(tls) => {
                let (server, digest) = listener_tls(tls, resumption)?;
                (Some(server), Some(digest))
            }
            None => (None, None),
        };
        let implicit_tls = listener
            .tls
            .as_ref()
            .is_some_and(|tls| tls.mode == TlsMode::Implicit);
        let offers_authentication = tls.is_some() && !listener.auth.mechanisms.is_empty();
        let limits = &loaded.config.limits;
        let mut session = smtp::server::Config::new(hostname.clone());
        session.max_message_size = limits.message_size;
        session.max_part_size = INLINE;
        session.max_recipients = usize::try_from(limits.recipients).unwrap_or(usize::MAX);
        if tls.is_some() && !implicit_tls {
            session.starttls = StartTls::Offered;
        }
        if offers_authentication {
            // Who must authenticate is decided with the rest of the policy, in `admission`.
            session.authentication = Authentication::Offered;
            session.mechanisms = listener.auth.mechanisms.iter().map(mechanism).collect();
        }
        Ok(Self {
            session: Arc::new(session),
            tls,
            implicit_tls,
            role: listener.role,
            offers_authentication,
            certificate,
            requires_authentication: listener.auth.required,
            allowed_networks: listener.allowed_networks.clone(),
        })
    }

    /// Whether a client at `address` may relay without AUTH.
    pub(crate) fn relays_for(&self, address: IpAddr) -> bool {
        !self.requires_authentication
            && self
                .allowed_networks
                .iter()
                .any(|network| network.contains(address))
    }
}

/// Why a configuration that was read cannot be put in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    #[error("hostname {hostname:?} cannot be used in SMTP: {source}")]
    Hostname {
        hostname: String,
        source: smtp::AddressError,
    },
    #[error("listener {name:?}: {source}")]
    Listener { name: String, source: TlsError },
    #[error("status listener: {0}")]
    Status(TlsError),
}

pub(crate) fn hostname(config: &RelayConfig) -> Result<smtp::Domain, CompileError> {
    smtp::Domain::parse(&config.hostname).map_err(|source| CompileError::Hostname {
        hostname: config.hostname.to_string(),
        source,
    })
}

/// With the digest of the file that the certificate was read from.
pub(crate) fn listener_tls(
    tls: &ListenerTls,
    resumption: &Resumption,
) -> Result<(Arc<ServerConfig>, Digest), TlsError> {
    let pair = KeyPair::read(&tls.certificate_file, &tls.key_file)?;
    let digest = pair.digest.clone();
    Ok((pair.into_server(resumption)?, digest))
}

pub(crate) fn status_tls(status: &StatusListener) -> Result<Arc<ServerConfig>, TlsError> {
    KeyPair::read(&status.certificate_file, &status.key_file)?.into_mutual(&status.client_ca_file)
}

impl From<&config::Credential> for Credential {
    fn from(configured: &config::Credential) -> Self {
        Self {
            username: configured.username.clone(),
            tenant: configured.tenant.clone(),
            allowed_senders: configured.allowed_senders.clone(),
            verifier: configured.scram_sha256.clone(),
        }
    }
}

fn mechanism(configured: &Mechanism) -> smtp::Mechanism {
    match configured {
        Mechanism::Login => smtp::Mechanism::Login,
        Mechanism::Plain => smtp::Mechanism::Plain,
    }
}
