//! Where a Redis is, how its servers stand together, and as whom to speak to them.

use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, RedisError,
};

use super::settings::OpenError;

/// What an address says: `redis://` names a server, `redis+sentinel://` the Sentinels that know the
/// primary, `redis+cluster://` some nodes of a Redis Cluster. With `rediss` all of it is TLS.
pub(super) struct Address {
    pub(super) topology: Topology,
    pub(super) tls: bool,
    pub(super) login: RedisConnectionInfo,
}

pub(super) enum Topology {
    Single(Endpoint),
    Sentinel(Sentinels),
    /// Nodes that are asked first.
    Cluster(Vec<Endpoint>),
}

pub(super) struct Sentinels {
    pub(super) endpoints: Vec<Endpoint>,
    /// What they call the servers.
    pub(super) name: String,
    /// At the Sentinels; that of the servers is another.
    pub(super) login: RedisConnectionInfo,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// See [`Locator`](super::Locator) for the forms.
    pub(super) fn parse(text: &str) -> Result<Self, OpenError> {
        let text = text.trim();
        let form = text
            .split_once("://")
            .and_then(|(scheme, rest)| Some((scheme.split_once('+')?, rest)));
        match form {
            None => {
                let one = One::parse(text)?;
                Ok(Self {
                    topology: Topology::Single(one.endpoint),
                    tls: one.tls,
                    login: one.login,
                })
            }
            Some(((transport @ ("redis" | "rediss"), "sentinel"), rest)) => {
                Self::of_sentinels(transport, rest)
            }
            Some(((transport @ ("redis" | "rediss"), "cluster"), rest)) => {
                Self::of_cluster(transport, rest)
            }
            Some(_) => Err(refused("it begins with another scheme")),
        }
    }

    fn of_sentinels(transport: &str, rest: &str) -> Result<Self, OpenError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (name, database) = path.split_once('/').unwrap_or((path, ""));
        if name.is_empty() || !name.chars().all(is_of_name) {
            return Err(refused("it does not name the primary behind the Sentinels"));
        }
        let several = Several::parse(transport, authority, database, SENTINEL_PORT)?;
        let (mut user, mut password) = ("", "");
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("sentinelUsername", value)) => user = value,
                Some(("sentinelPassword", value)) => password = value,
                _ => return Err(refused("it has an unknown parameter")),
            }
        }
        // The same encoding as before a host, so that there is one way to write a password.
        let at_sentinels = match (user, password) {
            ("", "") => String::new(),
            _ => format!("{user}:{password}@"),
        };
        let login = One::parse(&format!("{transport}://{at_sentinels}localhost"))?.login;
        Ok(Self {
            topology: Topology::Sentinel(Sentinels {
                endpoints: several.endpoints,
                name: name.to_owned(),
                login,
            }),
            tls: several.tls,
            login: several.login,
        })
    }

    fn of_cluster(transport: &str, rest: &str) -> Result<Self, OpenError> {
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(refused("a cluster has no database but the first"));
        }
        let several = Several::parse(transport, authority, "", REDIS_PORT)?;
        Ok(Self {
            topology: Topology::Cluster(several.endpoints),
            tls: several.tls,
            login: several.login,
        })
    }
}

/// A name as a Sentinel's configuration allows it.
fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
}

fn refused(why: &str) -> OpenError {
    OpenError::Address(why.to_owned())
}

/// Hosts that share what stands around them.
struct Several {
    endpoints: Vec<Endpoint>,
    tls: bool,
    login: RedisConnectionInfo,
}

impl Several {
    fn parse(
        transport: &str,
        authority: &str,
        database: &str,
        port: u16,
    ) -> Result<Self, OpenError> {
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (format!("{login}@"), hosts),
            None => (String::new(), authority),
        };
        let mut several: Option<Self> = None;
        for host in hosts.split(',') {
            let has_port = host
                .rsplit_once(':')
                .is_some_and(|(_, port)| !port.ends_with(']'));
            let port = if has_port {
                String::new()
            } else {
                format!(":{port}")
            };
            let one = One::parse(&format!("{transport}://{login}{host}{port}/{database}"))?;
            several
                .get_or_insert_with(|| Self {
                    endpoints: Vec::new(),
                    tls: one.tls,
                    login: one.login,
                })
                .endpoints
                .push(one.endpoint);
        }
        several.ok_or_else(|| refused("it names no host"))
    }
}

/// One host with everything around it.
struct One {
    endpoint: Endpoint,
    tls: bool,
    login: RedisConnectionInfo,
}

impl One {
    fn parse(text: &str) -> Result<Self, OpenError> {
        // The category names what is wrong; the details may quote the address, and a password.
        let wrong = |error: RedisError| refused(error.category());
        let info: ConnectionInfo = text.into_connection_info().map_err(wrong)?;
        let (host, port, tls) = match info.addr().clone() {
            ConnectionAddr::Tcp(host, port) => (host, port, false),
            ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                ..
            } => (host, port, true),
            _ => return Err(refused("neither TCP nor TLS that verifies its peer")),
        };
        let login = info
            .redis_settings()
            .clone()
            .set_protocol(redis::ProtocolVersion::RESP2)
            .set_lib_name(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        Ok(Self {
            endpoint: Endpoint { host, port },
            tls,
            login,
        })
    }
}

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(address: &Address) -> Vec<String> {
        let endpoints = match &address.topology {
            Topology::Single(endpoint) => std::slice::from_ref(endpoint),
            Topology::Sentinel(sentinels) => &sentinels.endpoints,
            Topology::Cluster(seeds) => seeds,
        };
        endpoints
            .iter()
            .map(|Endpoint { host, port }| format!("{host} {port}"))
            .collect()
    }

    #[test]
    fn addresses_are_taken_apart() {
        type Login<'a> = (i64, Option<&'a str>, Option<&'a str>);
        let cases: [(&str, &[&str], bool, Login<'_>); 10] = [
            (
                "redis://localhost",
                &["localhost 6379"],
                false,
                (0, None, None),
            ),
            (
                "redis://127.0.0.1:7000/\n",
                &["127.0.0.1 7000"],
                false,
                (0, None, None),
            ),
            ("redis://[::1]:7000", &["::1 7000"], false, (0, None, None)),
            (
                "redis://r.mail.svc/3",
                &["r.mail.svc 6379"],
                false,
                (3, None, None),
            ),
            (
                "rediss://:p%40ss%2Fw@host:6380",
                &["host 6380"],
                true,
                (0, None, Some("p@ss/w")),
            ),
            (
                "redis://kurier:a%40b@host",
                &["host 6379"],
                false,
                (0, Some("kurier"), Some("a@b")),
            ),
            (
                "redis+sentinel://kurier:a%40b@s1,s2:7000,[::1]/outbound/2",
                &["s1 26379", "s2 7000", "::1 26379"],
                false,
                (2, Some("kurier"), Some("a@b")),
            ),
            (
                "rediss+sentinel://s1/main",
                &["s1 26379"],
                true,
                (0, None, None),
            ),
            (
                "redis+cluster://:x@n1,n2:7000",
                &["n1 6379", "n2 7000"],
                false,
                (0, None, Some("x")),
            ),
            ("rediss+cluster://n1/", &["n1 6379"], true, (0, None, None)),
        ];
        for (text, expected, tls, login) in cases {
            let address = Address::parse(text).unwrap();
            assert_eq!(endpoints(&address), expected, "{text}");
            assert_eq!(address.tls, tls, "{text}");
            let said = &address.login;
            assert_eq!(
                (said.db(), said.username(), said.password()),
                login,
                "{text}"
            );
        }
    }

    #[test]
    fn sentinels_have_a_login_of_their_own() {
        let parse = |text| match Address::parse(text).unwrap().topology {
            Topology::Sentinel(Sentinels { name, login, .. }) => (
                name,
                login.username().map(str::to_owned),
                login.password().map(str::to_owned),
            ),
            _ => panic!("{text}"),
        };
        let some = |text: &str| Some(text.to_owned());
        let (name, user, password) =
            parse("redis+sentinel://:x@s1/a?sentinelUsername=watch&sentinelPassword=p%2Fw");
        assert_eq!(
            (name.as_str(), user, password),
            ("a", some("watch"), some("p/w"))
        );
        let (_, user, password) = parse("redis+sentinel://:x@s1/a");
        assert_eq!((user, password), (None, None));
    }

    #[test]
    fn what_is_no_address_is_refused_without_showing_it() {
        for text in [
            "http://:secret@host",
            "redis://",
            "redis://:secret@a b",
            "redis://:secret@[x]",
            "redis://:secret@host:70000",
            "redis://:secret@host/x",
            "rediss://:secret@host/#insecure",
            "unix:///secret.sock",
            "redis+sentinel://:secret@s1",
            "redis+sentinel://:secret@s1/a b",
            "redis+sentinel://:secret@s1,,s2/a",
            "redis+sentinel://:secret@s1/a?password=secret",
            "redis+cluster://:secret@n1/1",
            "redis+cluster://:secret@",
            "http+cluster://:secret@n1",
            "redis+proxy://:secret@n1",
        ] {
            let error = Address::parse(text)
                .err()
                .unwrap_or_else(|| panic!("{text}"));
            assert!(
                !format!("{error} {error:?}").contains("secret"),
                "{text}: {error}"
            );
        }
    }
}
