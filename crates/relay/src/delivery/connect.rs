use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use config::Smarthost;
use config::delivery::NextHopTls;
use nexthop::{Candidate, Candidates, HostName, NextHop, ResolveFailure};
use smtp::client::{Config, FailureCause, Phase, Tls};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connection::Connection;
use super::disposition::{self, Event, Verdict};
use super::{Inner, Settings};
use crate::routing::Target;

/// Why there is no connection to a next hop, or none any more.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    kind: Kind,
    host: Option<Host>,
}

#[derive(Clone, Debug)]
struct Host {
    name: Arc<str>,
    address: SocketAddr,
}

#[derive(Clone, Debug)]
enum Kind {
    Connect(String),
    Resolve(ResolveFailure),
    Session { phase: Phase, cause: FailureCause },
}

impl Failure {
    pub(super) fn connect(name: &str, address: SocketAddr, error: &io::Error) -> Self {
        let why = match error.kind() {
            io::ErrorKind::TimedOut => "connection timed out".to_owned(),
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            _ => error.to_string(),
        };
        Self {
            kind: Kind::Connect(why),
            host: Some(Host {
                name: name.into(),
                address,
            }),
        }
    }

    pub(super) fn session(
        name: &HostName,
        address: SocketAddr,
        failure: smtp::client::Failure,
    ) -> Self {
        let smtp::client::Failure { phase, cause, .. } = failure;
        let host = Host {
            name: name.to_string().into(),
            address,
        };
        Self {
            kind: Kind::Session { phase, cause },
            host: Some(host),
        }
    }

    fn resolve(failure: ResolveFailure) -> Self {
        Self {
            kind: Kind::Resolve(failure),
            host: None,
        }
    }

    pub(super) fn verdict(&self, is_last: bool) -> Verdict {
        let event = match &self.kind {
            Kind::Connect(_) => Event::Connect,
            Kind::Resolve(failure) => Event::Resolve(failure),
            Kind::Session { phase, cause } => Event::Session {
                phase: *phase,
                cause,
            },
        };
        disposition::verdict(event, is_last)
    }

    pub(super) fn host(&self) -> Option<&str> {
        self.host.as_ref().map(|host| &*host.name)
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.host.as_ref().map(|host| host.address)
    }

    /// The reply that ended it, if one did.
    pub(super) fn reply(&self) -> Option<&smtp::Reply> {
        match &self.kind {
            Kind::Session {
                cause: FailureCause::Refused(reply),
                ..
            } => Some(reply),
            _ => None,
        }
    }

    /// The phrase of what was going on.
    pub(super) fn error_type(&self) -> &'static str {
        match &self.kind {
            Kind::Connect(_) => "connect",
            Kind::Resolve(_) => "resolve",
            Kind::Session { cause, .. } => match cause {
                FailureCause::Closed => "closed",
                FailureCause::Refused(_) => "refused",
                FailureCause::TimedOut => "timeout",
                FailureCause::TlsFailed | FailureCause::TlsUnavailable => "tls",
                FailureCause::Violation(_) => "protocol",
                _ => "session",
            },
        }
    }

    /// Whether it was encrypting that failed.
    fn is_tls(&self) -> bool {
        let Kind::Session { phase, cause } = &self.kind else {
            return false;
        };
        *cause == FailureCause::TlsFailed || *phase == Phase::TlsHandshake
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Connect(why) => f.write_str(why),
            Kind::Resolve(failure) => {
                write!(f, "{failure}")?;
                match std::error::Error::source(failure) {
                    Some(source) => write!(f, ": {source}"),
                    None => Ok(()),
                }
            }
            Kind::Session {
                cause: FailureCause::Refused(reply),
                ..
            } => write!(f, "{reply}"),
            Kind::Session { phase, cause } => write!(f, "{cause} ({phase})"),
        }
    }
}

/// The hosts of one target, tried one after the other.
pub(super) struct Hosts<'a> {
    inner: &'a Inner,
    settings: &'a Settings,
    target: &'a Target,
    candidates: Option<Candidates>,
    last: Option<Arc<Failure>>,
    /// Hosts that failed in use.
    given_up: Vec<SocketAddr>,
}

impl<'a> Hosts<'a> {
    pub(super) fn new(inner: &'a Inner, settings: &'a Settings, target: &'a Target) -> Self {
        Self {
            inner,
            settings,
            target,
            candidates: None,
            last: None,
            given_up: Vec::new(),
        }
    }

    /// A connection to the next host that takes one. When there is none left it is the last
    /// failure, and what it means.
    pub(super) async fn connect(&mut self) -> Result<Connection, (Arc<Failure>, Verdict)> {
        if self.candidates.is_none() {
            match self.resolve().await {
                Ok(candidates) => self.candidates = Some(candidates),
                Err(failure) => {
                    let failure = Failure::resolve(failure);
                    let verdict = failure.verdict(true);
                    return Err((Arc::new(failure), verdict));
                }
            }
        }
        let suspensions = &self.inner.suspensions;
        while let Some(candidate) = self.candidates.as_mut().and_then(Iterator::next) {
            if !self.may_use(candidate.address) {
                continue;
            }
            if let Some(failure) = suspensions.why(candidate.address, Instant::now()) {
                self.failed(failure);
                continue;
            }
            match self.connect_to(&candidate).await {
                Ok(connection) => {
                    suspensions.lift(candidate.address);
                    self.inner.metrics.connections.inc();
                    return Ok(connection);
                }
                Err(failure) => {
                    let failure = Arc::new(failure);
                    suspensions.suspend(candidate.address, &failure, Instant::now());
                    self.failed(failure);
                }
            }
        }
        let failure = self
            .last
            .clone()
            .unwrap_or_else(|| Arc::new(Failure::no_host()));
        // A host nobody could look up may take what the others refuse for good.
        let known = self
            .candidates
            .as_ref()
            .is_none_or(|c| c.unresolved().is_empty());
        let verdict = failure.verdict(known);
        Err((failure, verdict))
    }

    /// A host failed in use: the others are tried before the mail is deferred for it. Where it said
    /// so itself, other mail need not try it either for a while.
    pub(super) fn gave_up(&mut self, host: SocketAddr, failure: &Arc<Failure>, suspend: bool) {
        self.given_up.push(host);
        if suspend {
            self.inner
                .suspensions
                .suspend(host, failure, Instant::now());
        }
        self.failed(Arc::clone(failure));
    }

    /// Whether `host` has not failed in use already.
    pub(super) fn may_use(&self, host: SocketAddr) -> bool {
        !self.given_up.contains(&host)
    }

    fn failed(&mut self, failure: Arc<Failure>) {
        tracing::debug!(host = failure.host(), error = %failure, "host does not take mail now");
        self.last = Some(failure);
    }

    async fn resolve(&self) -> Result<Candidates, ResolveFailure> {
        let next_hop = match self.target {
            Target::Smarthost(Smarthost { host, port, .. }) => NextHop::Smarthost {
                host: host.clone(),
                port: *port,
            },
            Target::Mx { domain } => match smtp::Host::parse(domain) {
                Ok(host) => NextHop::Mx(host),
                Err(_) => {
                    let domain = HostName::Name(domain.as_str().into());
                    return Err(ResolveFailure::NoSuchDomain { domain });
                }
            },
        };
        let candidates = self
            .inner
            .resolver
            .candidates(&next_hop, &self.settings.local, seed())
            .await?;
        self.inner.pool.learn(self.target, candidates.site());
        Ok(candidates)
    }

    async fn connect_to(&self, candidate: &Candidate) -> Result<Connection, Failure> {
        let (tls, connector) = match tls_requirement(self.target, self.settings) {
            NextHopTls::Opportunistic => (Tls::Opportunistic, &self.inner.tls.opportunistic),
            NextHopTls::Require => (Tls::Required, &self.inner.tls.verified),
        };
        match self.attempt(candidate, tls, connector).await {
            // RFC 7435: what cannot be encrypted goes in clear, on a new connection.
            Err(failure) if tls == Tls::Opportunistic && failure.is_tls() => {
                tracing::debug!(host = %candidate.host, "no TLS with this host, going on in clear");
                self.attempt(candidate, Tls::Disabled, connector).await
            }
            result => result,
        }
    }

    async fn attempt(
        &self,
        candidate: &Candidate,
        tls: Tls,
        connector: &tokio_rustls::TlsConnector,
    ) -> Result<Connection, Failure> {
        let Candidate { host, address, .. } = candidate;
        let connecting = TcpStream::connect(*address);
        let socket = timeout(self.settings.connect_timeout, connecting)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .and_then(|socket| socket.set_nodelay(true).map(|()| socket))
            .map_err(|error| Failure::connect(&host.to_string(), *address, &error))?;
        let mut config = Config::new(self.settings.helo_name.clone());
        config.tls = tls;
        config.timeouts = self.settings.timeouts;
        Connection::set_up(socket, config, connector.clone(), host.clone(), *address)
            .await
            .map_err(|failure| Failure::session(host, *address, failure))
    }
}

impl Failure {
    /// Every candidate was used up without a failure of its own; there is always at least one.
    fn no_host() -> Self {
        Self {
            kind: Kind::Connect("no host is left to try".to_owned()),
            host: None,
        }
    }
}

pub(super) fn tls_requirement(target: &Target, settings: &Settings) -> NextHopTls {
    match target {
        Target::Smarthost(smarthost) => smarthost.tls,
        Target::Mx { .. } => settings.tls,
    }
}

fn seed() -> u64 {
    let mut octets = [0; 8];
    match getrandom::fill(&mut octets) {
        Ok(()) => u64::from_ne_bytes(octets),
        // It spreads load; without it mail flows all the same.
        Err(_) => 0,
    }
}
