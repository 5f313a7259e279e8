//! Finding the server that has the queue: asked anew for each connection, because it may have moved.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redis::Value;
use tokio::time::Instant;

use super::address::{Address, Endpoint, Sentinels, Topology};
use super::connection::{ConnectError, Connection, Target};
use super::reply::{refusal_text, text_of};
use super::settings::{OpenError, tls_config};
use super::survey::promotable_of;

/// Where the address of the queue's Redis stands. It is one of
/// * `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`: the primary;
/// * `redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]..]/NAME[/DATABASE]`: Sentinels, which
///   say who the primary of the servers is that they call NAME. The login is that of the servers; the
///   Sentinels' own follows as `?sentinelUsername=USER&sentinelPassword=PASSWORD`;
/// * `redis+cluster://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]..]`: nodes of a Redis Cluster, which say
///   who has the queue's slot.
///
/// With `rediss` instead of `redis` every connection is TLS. Logins are percent-encoded.
#[derive(Clone)]
pub enum Locator {
    Url(String),
    /// A file that holds nothing but the address, read for each connection, so that a password may
    /// be rotated in it.
    UrlFile(PathBuf),
}

impl Locator {
    fn address(&self) -> Result<Address, OpenError> {
        match self {
            Self::Url(url) => Address::parse(url),
            Self::UrlFile(path) => {
                let url = read(path).map_err(|source| OpenError::AddressFile {
                    path: path.clone(),
                    source,
                })?;
                Address::parse(&url).map_err(|source| OpenError::AddressInFile {
                    path: path.clone(),
                    source: Box::new(source),
                })
            }
        }
    }

    /// Whether somebody else than the address says who the primary is.
    pub(super) fn can_fail_over(&self) -> bool {
        self.address().is_ok_and(|address| address.can_fail_over())
    }
}

/// No address is longer than the bound.
fn read(file: &Path) -> io::Result<String> {
    let mut octets = Vec::new();
    File::open(file)?.take(64 << 10).read_to_end(&mut octets)?;
    // What is no text is no address either.
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

impl Address {
    fn can_fail_over(&self) -> bool {
        !matches!(self.topology, Topology::Single(_))
    }
}

/// How connections are made, as the files say now.
pub(super) struct Dial {
    address: Address,
    /// Present exactly when the address asks for TLS.
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Dial {
    pub(super) fn new(target: &Target) -> Result<Self, OpenError> {
        let address = target.locator.address()?;
        let tls = match (address.tls, &target.ca_file) {
            (true, ca_file) => Some(Arc::new(tls_config(ca_file.as_deref())?)),
            (false, None) => None,
            (false, Some(_)) => return Err(OpenError::InClear),
        };
        Ok(Self { address, tls })
    }

    pub(super) fn can_fail_over(&self) -> bool {
        self.address.can_fail_over()
    }

    /// How many replicas Sentinels may promote, where there are Sentinels that answer.
    pub(super) async fn promotable(&self, deadline: Instant) -> usize {
        let Topology::Sentinel(sentinels) = &self.address.topology else {
            return 0;
        };
        let count = |reply| Ok(promotable_of(&reply));
        let asked = ask_sentinels(self, sentinels, "REPLICAS", deadline, count).await;
        asked.unwrap_or(0)
    }

    pub(super) async fn server(
        &self,
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> Result<Connection, ConnectError> {
        Connection::to(endpoint, &self.address.login, self.tls.as_ref(), deadline).await
    }
}

/// A connection to the server that is said to be the primary of the queue with `prefix`.
pub(super) async fn primary(
    dial: &Dial,
    prefix: &str,
    deadline: Instant,
) -> Result<(Connection, Endpoint), ConnectError> {
    let endpoint = match &dial.address.topology {
        Topology::Single(endpoint) => endpoint.clone(),
        Topology::Sentinel(sentinels) => named_by_sentinels(dial, sentinels, deadline).await?,
        Topology::Cluster(seeds) => return owner_of_slot(dial, seeds, prefix, deadline).await,
    };
    Ok((dial.server(&endpoint, deadline).await?, endpoint))
}

/// The first Sentinel that answers is believed: whoever it names has still to say that it is the
/// primary.
async fn named_by_sentinels(
    dial: &Dial,
    sentinels: &Sentinels,
    deadline: Instant,
) -> Result<Endpoint, ConnectError> {
    let named = |reply: Value| match reply {
        Value::Array(parts) => {
            let mut parts = parts.iter().filter_map(text_of);
            let host = parts.next();
            match (host, parts.next().and_then(|port| port.parse().ok())) {
                (Some(host), Some(port)) => Ok(Endpoint { host, port }),
                _ => Err("the Sentinel names no address".to_owned()),
            }
        }
        Value::Nil => Err(format!(
            "the Sentinel knows no primary called {}",
            sentinels.name
        )),
        other => Err(format!("the Sentinel answered {other:?}")),
    };
    let question = "GET-MASTER-ADDR-BY-NAME";
    ask_sentinels(dial, sentinels, question, deadline, named).await
}

async fn ask_sentinels<T>(
    dial: &Dial,
    sentinels: &Sentinels,
    question: &str,
    deadline: Instant,
    answer_of: impl Fn(Value) -> Result<T, String>,
) -> Result<T, ConnectError> {
    let mut error = ConnectError::Unreachable("there is no Sentinel to ask".to_owned());
    let endpoints = &sentinels.endpoints;
    for (sentinel, deadline) in endpoints.iter().zip(turns(endpoints.len(), deadline)) {
        let asked = async {
            let (login, tls) = (&sentinels.login, dial.tls.as_ref());
            let mut connection = Connection::to(sentinel, login, tls, deadline).await?;
            let mut command = redis::cmd("SENTINEL");
            command.arg(question).arg(&sentinels.name);
            let reply = connection.ask(command, deadline).await;
            match reply.map_err(|error| ConnectError::from(error).at(sentinel))? {
                Value::ServerError(error) => Err(refusal_text(&error)),
                reply => answer_of(reply),
            }
            .map_err(|text| ConnectError::Unreachable(text).at(sentinel))
        };
        error = match asked.await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
    }
    Err(error)
}

/// Any node says where a key is that it does not have; one that has it answers.
async fn owner_of_slot(
    dial: &Dial,
    seeds: &[Endpoint],
    prefix: &str,
    deadline: Instant,
) -> Result<(Connection, Endpoint), ConnectError> {
    let mut error = ConnectError::Unreachable("there is no node to ask".to_owned());
    for (seed, deadline) in seeds.iter().zip(turns(seeds.len(), deadline)) {
        error = match follow(dial, seed, prefix, deadline).await {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
    }
    Err(error)
}

async fn follow(
    dial: &Dial,
    seed: &Endpoint,
    prefix: &str,
    deadline: Instant,
) -> Result<(Connection, Endpoint), ConnectError> {
    let mut endpoint = seed.clone();
    for _ in 0..MOVES {
        let mut connection = dial.server(&endpoint, deadline).await?;
        let mut command = redis::cmd("MGET");
        command.arg(format!("{prefix}m:"));
        let asked = connection.ask(command, deadline).await;
        match asked.map_err(|error| ConnectError::from(error).at(&endpoint))? {
            Value::ServerError(error) if error.code() == "MOVED" => {
                let details = error.details().unwrap_or_default();
                endpoint = moved_to(details, &endpoint)
                    .ok_or_else(|| ConnectError::Unreachable(refusal_text(&error)).at(&endpoint))?;
            }
            Value::ServerError(error) => {
                return Err(ConnectError::Unreachable(refusal_text(&error)).at(&endpoint));
            }
            _ => return Ok((connection, endpoint)),
        }
    }
    Err(
        ConnectError::Unreachable("the nodes of the cluster send one to another".to_owned())
            .at(seed),
    )
}

/// Of `SLOT HOST:PORT`. A node that does not know its own name means whoever was asked.
fn moved_to(details: &str, asked: &Endpoint) -> Option<Endpoint> {
    let (host, port) = details.split_once(' ')?.1.rsplit_once(':')?;
    let host = match host {
        "" | "?" => &asked.host,
        host => host.trim_start_matches('[').trim_end_matches(']'),
    };
    Some(Endpoint {
        host: host.to_owned(),
        port: port.parse().ok()?,
    })
}

/// Until when each of `count` may take in turn, so that one that is silent leaves time for the others.
fn turns(count: usize, deadline: Instant) -> impl Iterator<Item = Instant> {
    (0..count).map(move |turn| {
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        let others = u32::try_from(count - turn).unwrap_or(u32::MAX);
        // The server that is named is still to be spoken to.
        now + left / (others + 1)
    })
}

const MOVES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_names_a_node() {
        let asked = Endpoint {
            host: "seed".to_owned(),
            port: 1,
        };
        let to = |details| moved_to(details, &asked).map(|at| (at.host, at.port));
        let some = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(to("3999 127.0.0.1:6381"), some("127.0.0.1", 6381));
        assert_eq!(to("3999 fd00::1:6381"), some("fd00::1", 6381));
        assert_eq!(to("3999 node-1.redis.svc:7"), some("node-1.redis.svc", 7));
        assert_eq!(to("3999 :6381"), some("seed", 6381));
        assert_eq!(to("3999 ?:6381"), some("seed", 6381));
        assert_eq!(to("3999"), None);
        assert_eq!(to("3999 host:x"), None);
    }
}
