//! Servers that belong together: a primary with its replica, Sentinels over them, a cluster.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use queue::durability::Level;
use queue::redis::Locator;
use tempfile::TempDir;

use crate::clock::Clock;
use crate::redis_fixture::PREFIX;
use crate::redis_server::{RedisServer, end, free_port};

/// A primary that takes writes only while its replica is there.
pub(crate) struct Pair {
    pub(crate) primary: RedisServer,
    pub(crate) replica: RedisServer,
}

impl Pair {
    pub(crate) fn start() -> Self {
        Self::start_with(&[], &[])
    }

    pub(crate) fn start_with(options: &[(&str, &str)], environment: &[(&str, OsString)]) -> Self {
        Self::start_as("redis-server".into(), options, environment)
    }

    pub(crate) fn start_as(
        program: OsString,
        options: &[(&str, &str)],
        environment: &[(&str, OsString)],
    ) -> Self {
        let usual = [
            ("min-replicas-to-write", "1"),
            ("min-replicas-max-lag", "10"),
            ("repl-diskless-sync-delay", "0"),
        ];
        let options = [&usual, options].concat();
        let start = || RedisServer::start_as(program.clone(), &options, environment);
        let (primary, replica) = (start(), start());
        follow(&replica, &primary);
        Self { primary, replica }
    }
}

/// Makes a replica of a server and waits until it is in step.
pub(crate) fn follow(replica: &RedisServer, primary: &RedisServer) {
    let mut client = replica.client();
    redis::cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(primary.port())
        .exec(&mut client)
        .expect("a replica");
    wait("a replica in step", || {
        let info: String = redis::cmd("INFO")
            .arg("replication")
            .query(&mut client)
            .ok()?;
        info.contains("master_link_status:up").then_some(())
    });
}

/// Watches servers that it calls `outbound`.
pub(crate) struct Sentinel {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Sentinel {
    /// Waits until it knows as many `replicas`.
    pub(crate) fn over(primary: &RedisServer, replicas: usize) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let file = directory.path().join("sentinel.conf");
        let watched = primary.port();
        let text = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nlogfile log\n\
             sentinel monitor outbound 127.0.0.1 {watched} 1\n\
             sentinel down-after-milliseconds outbound 500\n\
             sentinel failover-timeout outbound 3000\n",
            directory.path().display()
        );
        std::fs::write(&file, text).expect("a file");
        let child = Command::new("redis-server")
            .arg(&file)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let sentinel = Self {
            child,
            port,
            _directory: directory,
        };
        wait("a Sentinel that knows the replicas", || {
            let known: Vec<redis::Value> = sentinel.ask("REPLICAS")?;
            (known.len() == replicas).then_some(())
        });
        sentinel
    }

    pub(crate) fn url(&self) -> String {
        // One that is not there is passed over.
        format!(
            "redis+sentinel://127.0.0.1:1,127.0.0.1:{}/outbound",
            self.port
        )
    }

    /// The port of whom it names.
    pub(crate) fn primary(&self) -> Option<u16> {
        let (_, port): (String, u16) = self.ask("GET-MASTER-ADDR-BY-NAME")?;
        Some(port)
    }

    fn ask<T: redis::FromRedisValue>(&self, question: &str) -> Option<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).ok()?;
        let mut connection = client.get_connection().ok()?;
        let mut command = redis::cmd("SENTINEL");
        command.arg(question).arg("outbound");
        command.query(&mut connection).ok()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Where a queue is served.
pub(crate) trait Servers: Send + Sync {
    fn locator(&self) -> Locator;

    fn level(&self) -> Level {
        Level::Fsync
    }

    /// The one that has the keys of the tests.
    fn holder(&self) -> &RedisServer;
}

impl Servers for RedisServer {
    fn locator(&self) -> Locator {
        Locator::Url(self.url())
    }

    fn holder(&self) -> &RedisServer {
        self
    }
}

/// Where the pinned Valkey is, or another that KURIER_VALKEY_SERVER names.
pub(crate) fn valkey() -> OsString {
    if let Some(program) = env::var_os("KURIER_VALKEY_SERVER") {
        return program;
    }
    let pinned = include_str!("../../../xtask/tools/valkey/requirements.txt");
    let version = pinned
        .split_once("==")
        .map(|(_, rest)| rest)
        .expect("a version");
    let version = version.split_whitespace().next().expect("a version");
    let cache = match env::var_os("XDG_CACHE_HOME").map(PathBuf::from) {
        Some(folder) if folder.is_absolute() => folder,
        _ => PathBuf::from(env::var_os("HOME").expect("a home")).join(".cache"),
    };
    let program = cache.join(format!("kurier/tools/valkey-{version}/valkey-server"));
    assert!(
        program.is_file(),
        "{} is not there: `cargo xtask tools` brings it, or name another in KURIER_VALKEY_SERVER",
        program.display()
    );
    program.into_os_string()
}

/// A primary and a replica that Sentinels know.
pub(crate) struct Watched {
    pair: Pair,
    sentinel: Sentinel,
}

impl Watched {
    pub(crate) fn start_by(clock: &Clock) -> Self {
        // A test's days are no silence.
        let patient = [
            ("repl-timeout", "1000000000"),
            ("min-replicas-to-write", "0"),
        ];
        let pair = Pair::start_with(&patient, &clock.environment());
        let sentinel = Sentinel::over(&pair.primary, 1);
        Self { pair, sentinel }
    }
}

impl Servers for Watched {
    fn locator(&self) -> Locator {
        Locator::Url(self.sentinel.url())
    }

    /// When a test's hour has passed in no time, the replica's last word is an hour old.
    fn level(&self) -> Level {
        Level::Memory
    }

    fn holder(&self) -> &RedisServer {
        &self.pair.primary
    }
}

impl Servers for Cluster {
    fn locator(&self) -> Locator {
        Locator::Url(self.url())
    }

    fn holder(&self) -> &RedisServer {
        let key = format!("{PREFIX}m:");
        let has = |node: &&RedisServer| {
            let asked = redis::cmd("EXISTS")
                .arg(&key)
                .query::<u8>(&mut node.client());
            asked.is_ok()
        };
        self.nodes
            .iter()
            .find(has)
            .expect("a node that has the slot")
    }
}

/// Three nodes without replicas.
pub(crate) struct Cluster {
    nodes: Vec<RedisServer>,
}

impl Cluster {
    pub(crate) fn start_by(clock: &Clock) -> Self {
        // Theirs among themselves is usually above by more than there are ports.
        let buses: Vec<_> = (0..3).map(|_| free_port().to_string()).collect();
        let start = |bus: &String| {
            let options = [
                ("cluster-enabled", "yes"),
                ("cluster-port", bus.as_str()),
                // A test's days are no silence.
                ("cluster-node-timeout", "1000000000"),
            ];
            RedisServer::start_with(&options, &clock.environment())
        };
        let nodes: Vec<_> = buses.iter().map(start).collect();
        let shares = [(0, 5460), (5461, 10922), (10923, 16383)];
        for (node, (first, last)) in nodes.iter().zip(shares) {
            let mut client = node.client();
            let mut slots = redis::cmd("CLUSTER");
            slots.arg("ADDSLOTSRANGE").arg(first).arg(last);
            slots.exec(&mut client).expect("slots");
            for (other, bus) in nodes.iter().zip(&buses) {
                let mut meet = redis::cmd("CLUSTER");
                meet.arg("MEET").arg("127.0.0.1").arg(other.port()).arg(bus);
                meet.exec(&mut client).expect("a meeting");
            }
        }
        for node in &nodes {
            let mut client = node.client();
            wait("a cluster that serves", || {
                // It takes nothing in the first seconds.
                clock.advance(Duration::from_secs(1));
                let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut client).ok()?;
                let serves = info.contains("cluster_state:ok") && info.contains("known_nodes:3");
                serves.then_some(())
            });
        }
        Self { nodes }
    }

    fn url(&self) -> String {
        let nodes = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port()));
        format!("redis+cluster://{}", nodes.collect::<Vec<_>>().join(","))
    }
}

fn wait(what: &str, mut is: impl FnMut() -> Option<()>) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while is().is_none() {
        assert!(Instant::now() < deadline, "{what} does not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}
