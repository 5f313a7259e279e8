use std::net::{IpAddr, SocketAddr};
use std::vec;

use futures::future::join_all;
use smtp::{Domain, Host};
use tokio::time::timeout;

use crate::exchangers::Exchangers;
use crate::failure::ResolveFailure;
use crate::host::HostName;
use crate::order::Shuffle;
use crate::resolver::Resolver;
use crate::site::{mx_site, smarthost_site};

/// How mail to a destination is routed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NextHop {
    /// By the mail exchangers of a domain, or to the address of an address literal, on port 25.
    Mx(Host),
    /// To a host by its name or address, whatever its MX records say.
    Smarthost {
        /// An address, or a name to look up along the search path.
        host: String,
        port: u16,
    },
}

impl From<Domain> for NextHop {
    fn from(domain: Domain) -> Self {
        Self::Mx(Host::Domain(domain))
    }
}

/// What the outside may call this relay: whoever is called so is ourselves.
#[derive(Clone, Debug, Default)]
pub struct LocalHost {
    pub names: Vec<HostName>,
    pub addresses: Vec<IpAddr>,
}

impl Resolver {
    /// Where to connect, in order. `seed` should differ from attempt to attempt: it spreads load
    /// over hosts of equal preference and over the addresses of a host.
    ///
    /// # Errors
    ///
    /// When there is nowhere to connect to; the failure says whether for good.
    pub async fn candidates(
        &self,
        next_hop: &NextHop,
        local: &LocalHost,
        seed: u64,
    ) -> Result<Candidates, ResolveFailure> {
        let search = async {
            match next_hop {
                NextHop::Mx(Host::Literal(literal)) => Ok(of_address(literal.address(), self.port)),
                NextHop::Mx(Host::Domain(domain)) => {
                    self.candidates_by_mx(domain.into(), local, seed).await
                }
                NextHop::Smarthost { host, port } => {
                    self.candidates_of_smarthost(host, *port, seed).await
                }
            }
        };
        timeout(self.limit, search).await.unwrap_or_else(|_| {
            Err(ResolveFailure::TookTooLong {
                name: next_hop.name(),
                limit: self.limit,
            })
        })
    }

    async fn candidates_by_mx(
        &self,
        domain: HostName,
        local: &LocalHost,
        seed: u64,
    ) -> Result<Candidates, ResolveFailure> {
        let exchangers = self.mail_exchangers(&domain, seed).await?;
        let site = mx_site(&exchangers);
        let exchangers =
            exchangers.better_than_local(|exchanger| local.names.contains(&exchanger.host))?;
        let answers = join_all(exchangers.iter().map(|e| self.addresses(&e.host))).await;
        // A name that is not known to be ours may still lead here.
        let is_local = |addresses: &Result<Vec<IpAddr>, _>| {
            addresses.as_ref().is_ok_and(|known: &Vec<IpAddr>| {
                known
                    .iter()
                    .any(|address| local.addresses.contains(address))
            })
        };
        let ours: Vec<HostName> = exchangers
            .iter()
            .zip(&answers)
            .filter(|(_, addresses)| is_local(addresses))
            .map(|(exchanger, _)| exchanger.host.clone())
            .collect();
        let left = exchangers
            .clone()
            .better_than_local(|exchanger| ours.contains(&exchanger.host))?;
        let known = exchangers
            .iter()
            .map(|exchanger| exchanger.host.clone())
            .zip(answers)
            .filter(|(host, _)| left.iter().any(|exchanger| exchanger.host == *host));
        collect(&exchangers, site, known, self.port, seed)
    }

    async fn candidates_of_smarthost(
        &self,
        name: &str,
        port: u16,
        seed: u64,
    ) -> Result<Candidates, ResolveFailure> {
        let Some(host) = HostName::parse(name) else {
            let host = HostName::Name(name.into());
            return Err(ResolveFailure::SmarthostNotFound { host });
        };
        let mut addresses = self.searched_addresses(name, &host).await?;
        if addresses.is_empty() {
            return Err(ResolveFailure::SmarthostNotFound { host });
        }
        Shuffle::new(seed).shuffle(&mut addresses);
        let site = smarthost_site(&host, port);
        let ordered = addresses
            .into_iter()
            .map(|address| (host.clone(), SocketAddr::new(address, port)));
        Ok(Candidates::new(site, ordered.collect(), Vec::new()))
    }
}

/// The hosts and addresses to try, in order, at least one; an iterator over what is left of them.
#[derive(Clone, Debug)]
pub struct Candidates {
    site: String,
    unresolved: Vec<Unresolved>,
    left: vec::IntoIter<(HostName, SocketAddr)>,
}

/// One address to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The name that the host's certificate should have, and that logs and notifications tell.
    pub host: HostName,
    pub address: SocketAddr,
    /// Whether nothing is left to try behind it: what fails here, fails or defers the mail.
    pub is_last: bool,
}

/// A mail exchanger whose addresses nobody tells for now. With such a one about, a host-wide
/// permanent failure of the last candidate is not the last word.
#[derive(Clone, Debug)]
pub struct Unresolved {
    pub host: HostName,
    pub failure: ResolveFailure,
}

impl Candidates {
    fn new(
        site: String,
        ordered: Vec<(HostName, SocketAddr)>,
        unresolved: Vec<Unresolved>,
    ) -> Self {
        Self {
            site,
            unresolved,
            left: ordered.into_iter(),
        }
    }

    /// What connections and limits of this destination are keyed by.
    pub fn site(&self) -> &str {
        &self.site
    }

    /// The exchangers that could not be looked up.
    pub fn unresolved(&self) -> &[Unresolved] {
        &self.unresolved
    }
}

impl Iterator for Candidates {
    type Item = Candidate;

    fn next(&mut self) -> Option<Candidate> {
        let (host, address) = self.left.next()?;
        Some(Candidate {
            host,
            address,
            is_last: self.left.len() == 0,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl ExactSizeIterator for Candidates {}

impl NextHop {
    fn name(&self) -> HostName {
        match self {
            Self::Mx(Host::Domain(domain)) => domain.into(),
            Self::Mx(Host::Literal(literal)) => HostName::Address(literal.address()),
            Self::Smarthost { host, .. } => HostName::Name(host.as_str().into()),
        }
    }
}

fn of_address(address: IpAddr, port: u16) -> Candidates {
    let host = HostName::Address(address);
    let site = smarthost_site(&host, port);
    Candidates::new(
        site,
        vec![(host, SocketAddr::new(address, port))],
        Vec::new(),
    )
}

fn collect(
    exchangers: &Exchangers,
    site: String,
    answers: impl Iterator<Item = (HostName, Result<Vec<IpAddr>, ResolveFailure>)>,
    port: u16,
    seed: u64,
) -> Result<Candidates, ResolveFailure> {
    let mut known = Vec::new();
    let mut unresolved = Vec::new();
    for (host, addresses) in answers {
        match addresses {
            Ok(addresses) if addresses.is_empty() => {}
            Ok(addresses) => known.push((host, addresses)),
            Err(failure) => unresolved.push(Unresolved { host, failure }),
        }
    }
    if known.is_empty() {
        let domain = exchangers.domain().clone();
        return Err(match unresolved.pop() {
            Some(Unresolved { failure, .. }) => failure,
            None if exchangers.is_implicit() => ResolveFailure::NoExchanger { domain },
            None => ResolveFailure::NoAddress { domain },
        });
    }
    // One host with many addresses must not keep the next one from its turn.
    let per_host = (MAX_CANDIDATES / known.len()).max(2);
    let mut shuffle = Shuffle::new(seed);
    let mut ordered = Vec::new();
    for (host, mut addresses) in known {
        // RFC 5321 §5.1 has the addresses tried in the order the resolver gives them. That is us,
        // and the cache has always the same one.
        rotate(&mut shuffle, &mut addresses);
        let tried = addresses.into_iter().take(per_host);
        ordered.extend(tried.map(|address| (host.clone(), SocketAddr::new(address, port))));
    }
    ordered.truncate(MAX_CANDIDATES);
    Ok(Candidates::new(site, ordered, unresolved))
}

/// Shuffles each family's addresses among the places that the family has.
fn rotate(shuffle: &mut Shuffle, addresses: &mut [IpAddr]) {
    for family in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
        let mut members: Vec<IpAddr> = addresses.iter().copied().filter(family).collect();
        shuffle.shuffle(&mut members);
        let places = addresses.iter_mut().filter(|address| family(address));
        places
            .zip(members)
            .for_each(|(place, member)| *place = member);
    }
}

/// Each may cost a connect time-out.
const MAX_CANDIDATES: usize = 20;

#[cfg(test)]
mod tests;
