use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
    ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver, system_conf};

use crate::exchangers::Exchangers;
use crate::failure::{Lookup, LookupError, ResolveFailure};
use crate::host::HostName;

/// A caching stub resolver. Clones share the cache.
#[derive(Clone, Debug)]
pub struct Resolver {
    stub: TokioResolver,
    pub(crate) port: u16,
    pub(crate) limit: Duration,
}

/// Whom to ask, and how long to wait.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Ask this name server only, and no hosts file, instead of what the system is configured to.
    pub name_server: Option<SocketAddr>,
    /// The search path of smarthost names, with a name server of its own.
    pub search: Vec<HostName>,
    /// How long to wait for one answer.
    pub timeout: Duration,
    /// How often to ask again when none came.
    pub retries: usize,
    /// How long all the look-ups for one next hop may take together.
    pub limit: Duration,
    /// The port of mail exchangers: 25 everywhere but in tests.
    pub port: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name_server: None,
            search: Vec::new(),
            timeout: Duration::from_secs(5),
            retries: 1,
            limit: Duration::from_secs(30),
            port: 25,
        }
    }
}

impl Settings {
    /// Asks only this name server.
    pub fn with_name_server(name_server: SocketAddr) -> Self {
        Self {
            name_server: Some(name_server),
            ..Self::default()
        }
    }
}

impl Resolver {
    /// Reads the system's configuration, unless a name server is set. Sends nothing yet.
    ///
    /// # Errors
    ///
    /// When the resolver cannot be made of these settings.
    pub fn new(settings: &Settings) -> Result<Self, BuildError> {
        let mut builder = match settings.name_server {
            Some(address) => only(address, &settings.search),
            None => system(),
        };
        let options = builder.options_mut();
        options.timeout = settings.timeout;
        options.attempts = settings.retries;
        // Long MX sets do not fit into 512 octets.
        options.edns0 = true;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = CACHED_ANSWERS;
        options.positive_max_ttl = Some(MAX_TTL);
        options.negative_max_ttl = Some(MAX_NEGATIVE_TTL);
        // Beyond it a connection answers "busy", and hundreds of deliveries may ask at once.
        options.max_active_requests = 1024;
        let stub = builder
            .build()
            .map_err(|error| BuildError(LookupError::new(error)))?;
        Ok(Self {
            stub,
            port: settings.port,
            limit: settings.limit,
        })
    }

    /// The mail exchangers of a domain.
    ///
    /// # Errors
    ///
    /// When the domain does not exist or takes no mail, or when nobody knows for now. A domain
    /// without MX records is its own exchanger, whether or not it has an address.
    pub async fn mail_exchangers(
        &self,
        domain: &HostName,
        seed: u64,
    ) -> Result<Exchangers, ResolveFailure> {
        let Some(name) = domain.to_dns() else {
            return Ok(Exchangers::implicit(domain.clone()));
        };
        match self.stub.lookup(name, RecordType::MX).await {
            Ok(answer) => {
                let mut records = answer
                    .answers()
                    .iter()
                    .filter_map(|record| match &record.data {
                        RData::MX(mx) => Some(mx),
                        _ => None,
                    })
                    .peekable();
                if records.peek().is_none() {
                    return Ok(Exchangers::implicit(domain.clone()));
                }
                Exchangers::from_records(domain.clone(), records, seed)
            }
            Err(error) => match absence(&error) {
                // RFC 8020: nothing exists at or below it, so there are no addresses either.
                Some(Absence::Name) => Err(ResolveFailure::NoSuchDomain {
                    domain: domain.clone(),
                }),
                Some(Absence::Records) => Ok(Exchangers::implicit(domain.clone())),
                None => Err(failed(domain, Lookup::MailExchanger, error)),
            },
        }
    }

    /// The addresses of a host, looked up fully qualified, of both families in turn; none if it
    /// has none.
    ///
    /// # Errors
    ///
    /// Only [`ResolveFailure::LookupFailed`], when there may be addresses that nobody tells.
    pub async fn addresses(&self, host: &HostName) -> Result<Vec<IpAddr>, ResolveFailure> {
        let name = match (host, host.to_dns()) {
            (HostName::Address(address), _) => return Ok(vec![*address]),
            (HostName::Name(_), Some(name)) => name,
            (HostName::Name(_), None) => return Ok(Vec::new()),
        };
        let (v4, v6) = tokio::join!(
            self.address_records(name.clone(), RecordType::A),
            self.address_records(name, RecordType::AAAA),
        );
        match (v4, v6) {
            (Ok(v4), Ok(v6)) => Ok(in_turn(v4, v6)),
            (Ok(known), Err(error)) | (Err(error), Ok(known)) => {
                if known.is_empty() {
                    return Err(failed(host, Lookup::Address, error));
                }
                // One family is enough to deliver.
                Ok(in_turn(known, Vec::new()))
            }
            (Err(error), Err(_)) => Err(failed(host, Lookup::Address, error)),
        }
    }

    /// The addresses of a configured host, looked up along the search path if its name has no
    /// trailing dot.
    pub(crate) async fn searched_addresses(
        &self,
        name: &str,
        host: &HostName,
    ) -> Result<Vec<IpAddr>, ResolveFailure> {
        if let HostName::Address(address) = host {
            return Ok(vec![*address]);
        }
        let Ok(name) = Name::from_ascii(name) else {
            return Ok(Vec::new());
        };
        match self.stub.lookup_ip(name).await {
            Ok(answer) => {
                let (v4, v6) = answer.iter().partition(IpAddr::is_ipv4);
                Ok(in_turn(v4, v6))
            }
            Err(error) if absence(&error).is_some() => Ok(Vec::new()),
            Err(error) => Err(failed(host, Lookup::Address, error)),
        }
    }

    async fn address_records(
        &self,
        name: Name,
        record_type: RecordType,
    ) -> Result<Vec<IpAddr>, NetError> {
        match self.stub.lookup(name, record_type).await {
            Ok(answer) => Ok(answer
                .answers()
                .iter()
                .filter_map(|record| record.data.ip_addr())
                .collect()),
            Err(error) if absence(&error).is_some() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// The resolver cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the resolver cannot be set up")]
pub struct BuildError(#[source] LookupError);

fn only(address: SocketAddr, search: &[HostName]) -> ResolverBuilder<TokioRuntimeProvider> {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    let server = NameServerConfig::new(address.ip(), true, connections.into());
    let search = search.iter().filter_map(HostName::to_dns).collect();
    let config = ResolverConfig::from_parts(None, search, vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().use_hosts_file = ResolveHosts::Never;
    // As in a pod.
    builder.options_mut().ndots = 5;
    builder
}

fn system() -> ResolverBuilder<TokioRuntimeProvider> {
    let (config, options) = system_conf::read_system_conf().unwrap_or_else(|error| {
        // As resolv.conf(5): "if this file does not exist, only the name server on the local
        // machine will be queried". Mail to smarthosts named by address must flow without any.
        tracing::warn!(%error, "no usable resolver configuration, asking 127.0.0.1");
        let server = NameServerConfig::udp_and_tcp(IpAddr::from([127, 0, 0, 1]));
        (
            ResolverConfig::from_parts(None, Vec::new(), vec![server]),
            ResolverOpts::default(),
        )
    });
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder
}

/// What a name server positively said not to be there.
enum Absence {
    /// NXDOMAIN
    Name,
    /// No records of the type asked for.
    Records,
}

fn absence(error: &NetError) -> Option<Absence> {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(found)) => match found.response_code {
            ResponseCode::NXDomain => Some(Absence::Name),
            ResponseCode::NoError => Some(Absence::Records),
            _ => None,
        },
        _ => None,
    }
}

fn failed(name: &HostName, lookup: Lookup, error: NetError) -> ResolveFailure {
    ResolveFailure::LookupFailed {
        name: name.clone(),
        lookup,
        source: LookupError::new(error),
    }
}

/// One of each in turn, so that a family without connectivity does not use up all attempts. IPv4
/// goes first: a pod network without IPv6 is the usual one.
fn in_turn(v4: Vec<IpAddr>, v6: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut turns = Vec::with_capacity(v4.len() + v6.len());
    let (mut v4, mut v6) = (v4.into_iter(), v6.into_iter());
    loop {
        let before = turns.len();
        turns.extend(v4.next());
        turns.extend(v6.next());
        if turns.len() == before || turns.len() >= MAX_ADDRESSES {
            turns.truncate(MAX_ADDRESSES);
            return turns;
        }
    }
}

const CACHED_ANSWERS: u64 = 8192;
/// A zone may say weeks; a mistake in it should not stay that long.
const MAX_TTL: Duration = Duration::from_secs(3600);
/// A domain that was just registered, or a Service that was just created.
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(60);
/// Of one host.
const MAX_ADDRESSES: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_within_the_limit() {
        let v4 = |n: u8| IpAddr::from([192, 0, 2, n]);
        let v6 = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]);
        assert_eq!(
            in_turn(vec![v4(1), v4(2), v4(3)], vec![v6(1)]),
            [v4(1), v6(1), v4(2), v4(3)]
        );
        assert_eq!(in_turn(Vec::new(), vec![v6(1)]), [v6(1)]);
        let many = in_turn((0..200).map(v4).collect(), (0..200).map(v6).collect());
        assert_eq!(many.len(), MAX_ADDRESSES);
        assert_eq!(many[9], v6(4));
    }
}
