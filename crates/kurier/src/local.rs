//! `kurier relay --local`: a configuration made of flags, for one machine without a cluster.

use std::env;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use config::admin::{Admin, Drain, Log, LogFormat, Telemetry};
use config::delivery::NextHopTls;
use config::hostname::HostnameError;
use config::listener::{Auth, Limits, Listener, Role};
use config::manifest::Digest;
use config::queue::{Embedded, Redis, Source};
use config::route::{Action, Match, Route, Rule, Smarthost};
use config::{Loaded, Manifest, Network, RedisUrl, RedisUrlError, RelayConfig, SCHEMA, Secret};

use crate::cli::LocalArguments;

/// # Errors
/// When the flags ask for what local mode does not do.
pub(crate) fn configuration(arguments: &LocalArguments) -> Result<Loaded, LocalError> {
    // Clients are trusted for their address, so none from elsewhere may get here.
    for (flag, address) in [("--listen", arguments.listen), ("--admin", arguments.admin)] {
        if !address.ip().is_loopback() {
            return Err(LocalError::NotLoopback { flag, address });
        }
    }
    let source = match &arguments.redis {
        Some(url) => {
            RedisUrl::parse(url)?;
            Source::Redis(Redis {
                url: Some(Secret::new(url.as_str())),
                url_file: None,
                ca_file: None,
            })
        }
        None => Source::Embedded(Embedded {
            path: data_directory(arguments.data.clone())?,
        }),
    };
    let routes = match &arguments.smarthost {
        Some(smarthost) => vec![to_smarthost(parse_smarthost(smarthost)?)],
        None => Vec::new(),
    };
    let config = RelayConfig {
        schema: SCHEMA,
        identity: None,
        hostname: arguments.hostname.parse()?,
        listeners: vec![Listener {
            name: "local".to_owned(),
            address: arguments.listen,
            role: Role::Submission,
            tls: None,
            auth: Auth::default(),
            allowed_networks: loopback(),
        }],
        default_tenant: "local".to_owned(),
        tenants: Vec::new(),
        queue: config::queue::Queue {
            id: "local".to_owned(),
            owner: "local".to_owned(),
            source,
            durability: config::queue::Durability::default(),
            lifetime: Duration::from_secs(120 * 3600),
            held_expiry: config::queue::HeldExpiry::default(),
            retry: config::queue::Retry::default(),
            delay_notice: None,
            schema: None,
            journal: config::queue::Journal::default(),
        },
        delivery: config::delivery::Delivery::default(),
        // All clients have one address here.
        limits: Limits {
            connections_per_client: Limits::default().connections,
            ..Limits::default()
        },
        telemetry: Telemetry {
            log: Log {
                format: LogFormat::Text,
                filter: arguments.log_filter.clone(),
            },
            ..Telemetry::default()
        },
        admin: Admin {
            health: Some(arguments.admin),
            status: None,
            management: Some(arguments.admin),
        },
        timing: config::queue::Timing::default(),
        // Nobody balances load over this one process, so nobody has to hear of its end.
        drain: Drain {
            accept_for: Duration::ZERO,
            deadline: Duration::from_secs(30),
        },
        attachments: None,
        credentials: Vec::new(),
        routes: routes.clone(),
    };
    let manifest = Manifest {
        config_hash: Digest::of(format!("{config:?}").as_bytes()),
        shards: [].into(),
    };
    Ok(Loaded {
        config,
        credentials: Vec::new(),
        routes,
        manifest,
    })
}

fn loopback() -> Vec<Network> {
    ["127.0.0.0/8", "::1/128"]
        .map(|network| network.parse().expect("is written as networks are"))
        .to_vec()
}

fn to_smarthost(smarthost: Smarthost) -> Route {
    let rule = Rule {
        name: "smarthost".to_owned(),
        r#match: Match::default(),
        action: Action::Smarthost(smarthost),
        limits: None,
    };
    Route {
        name: "local".to_owned(),
        priority: 0,
        rules: vec![rule],
    }
}

/// `host:port`, `192.0.2.1:25` or `[2001:db8::1]:25`.
fn parse_smarthost(text: &str) -> Result<Smarthost, LocalError> {
    let malformed = || LocalError::Smarthost(text.to_owned());
    let (host, port) = text.rsplit_once(':').ok_or_else(malformed)?;
    let port = port
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(malformed)?;
    let host = match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(address) if address.parse::<IpAddr>().is_ok_and(|a| a.is_ipv6()) => address,
        Some(_) => return Err(malformed()),
        None => host,
    };
    let is_address = host.parse::<IpAddr>().is_ok();
    if !is_address && host.parse::<config::Hostname>().is_err() {
        return Err(malformed());
    }
    Ok(Smarthost {
        host: host.to_owned(),
        port,
        tls: NextHopTls::Opportunistic,
    })
}

/// XDG Base Directory Specification: state that should persist, but is not precious enough to be
/// moved to another machine.
fn data_directory(asked: Option<PathBuf>) -> Result<PathBuf, LocalError> {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    asked
        .or_else(|| absolute("XDG_STATE_HOME").map(|state| state.join("kurier")))
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state/kurier")))
        .ok_or(LocalError::NoDataDirectory)
}

/// What local mode does not do.
#[derive(Debug)]
pub(crate) enum LocalError {
    Hostname(HostnameError),
    NoDataDirectory,
    NotLoopback {
        flag: &'static str,
        address: SocketAddr,
    },
    Redis(RedisUrlError),
    Smarthost(String),
}

impl std::fmt::Display for LocalError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hostname(error) => write!(f, "--hostname: {error}"),
            Self::NoDataDirectory => {
                f.write_str("--data: there is no home directory to keep the queue in, so name one")
            }
            Self::NotLoopback { flag, address } => write!(
                f,
                "{flag}: {address} is no loopback address, and local mode asks nobody who they \
                 are; use --config to listen elsewhere"
            ),
            Self::Redis(error) => write!(f, "--redis: {error}"),
            Self::Smarthost(text) => {
                write!(f, "--smarthost: `{text}` is not of the form HOST:PORT")
            }
        }
    }
}

impl std::error::Error for LocalError {}

impl From<RedisUrlError> for LocalError {
    fn from(error: RedisUrlError) -> Self {
        Self::Redis(error)
    }
}

impl From<HostnameError> for LocalError {
    fn from(error: HostnameError) -> Self {
        Self::Hostname(error)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn configure(arguments: &[&str]) -> Result<Loaded, LocalError> {
        let all = ["kurier", "relay", "--local", "--data", "/var/lib/kurier"];
        let cli = Cli::parse_from(all.iter().chain(arguments));
        let Command::Relay(relay) = cli.command else {
            panic!("is the relay")
        };
        configuration(&relay.local)
    }

    #[test]
    fn what_flags_make_is_a_good_document() {
        let loaded = configure(&["--smarthost", "[::1]:2526"]).unwrap();
        let document = serde_json::to_string(&loaded.config).unwrap();
        let parsed = config::parse(&document, "local.json".as_ref()).unwrap();
        assert_eq!(parsed, loaded.config);
    }

    #[test]
    fn only_loopback_is_listened_on() {
        let check = |arguments: &[&str], flag: Option<&str>| match (configure(arguments), flag) {
            (Ok(_), None) => {}
            (Err(LocalError::NotLoopback { flag, .. }), Some(expected)) => {
                assert_eq!(flag, expected);
            }
            (other, _) => panic!("{arguments:?}: {other:?}"),
        };
        check(&["--listen", "127.0.0.1:25", "--admin", "[::1]:8025"], None);
        check(&["--listen", "127.1.2.3:25"], None);
        check(&["--listen", "0.0.0.0:25"], Some("--listen"));
        check(&["--listen", "[::]:25"], Some("--listen"));
        check(&["--listen", "192.0.2.1:25"], Some("--listen"));
        check(&["--admin", "0.0.0.0:8025"], Some("--admin"));
    }

    #[test]
    fn smarthosts() {
        let check = |text: &str, expected: Option<(&str, u16)>| {
            let parsed = parse_smarthost(text).ok();
            let parsed = parsed.as_ref().map(|s| (s.host.as_str(), s.port));
            assert_eq!(parsed, expected, "{text}");
        };
        check("smtp.example.com:587", Some(("smtp.example.com", 587)));
        check("192.0.2.1:25", Some(("192.0.2.1", 25)));
        check("[2001:db8::1]:25", Some(("2001:db8::1", 25)));
        for text in [
            "",
            "host",
            "host:",
            "host:0",
            "host:65536",
            ":25",
            "[host]:25",
            "a b:25",
        ] {
            check(text, None);
        }
    }
}
