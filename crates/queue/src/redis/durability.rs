//! Level `Fsync`: a confirmed write is on stable storage and no fail-over can lose it. Read from what
//! the server says of itself, when a connection is made and with every beat.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::{ConnectError, Connection};
use super::resp::{Command, Reply, Request};
use crate::durability::Durability;

/// What a server says of itself: `INFO`, and the settings it does not tell there.
#[derive(Default, Debug)]
pub(super) struct Store {
    info: HashMap<String, String>,
    /// `None` where CONFIG is not permitted.
    settings: Option<HashMap<String, String>>,
}

/// The last answer, shared by all connections, and when it was given.
#[derive(Default)]
pub(super) struct Verified(Mutex<Option<(Instant, Durability)>>);

impl Verified {
    pub(super) fn set(&self, durability: Durability) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), durability));
    }

    /// The last answer, unless it is older than `age`.
    pub(super) fn recent(&self, age: Duration) -> Option<Durability> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref()
            .filter(|(at, _)| at.elapsed() <= age)
            .map(|(_, durability)| durability.clone())
    }
}

pub(super) async fn ask(
    connection: &mut Connection,
    deadline: Instant,
) -> Result<Store, ConnectError> {
    let mut request = Request::of(Command::new("INFO"));
    for setting in SETTINGS {
        let mut command = Command::new("CONFIG");
        command.arg("GET").arg(setting);
        request.push(command);
    }
    let mut replies = connection.exchange(request, deadline).await?.into_iter();
    let mut store = Store::default();
    match replies.next() {
        Some(Reply::Bulk(text)) => store.info = info_of(&String::from_utf8_lossy(&text)),
        // Without INFO nothing is verified, but nothing is wrong with the connection.
        Some(Reply::Error(text)) if text.starts_with("NOPERM") => {}
        Some(Reply::Error(text)) => return Err(ConnectError::Unreachable(text)),
        other => return Err(ConnectError::Unreachable(format!("INFO: {other:?}"))),
    }
    store.settings = replies.map(setting_of).collect();
    Ok(store)
}

impl Store {
    /// Why mail cannot be taken here, whatever the settings.
    pub(super) fn unsupported(&self) -> Option<String> {
        if self.info.contains_key("dragonfly_version") {
            return Some("Dragonfly has no append-only file; use Redis or Valkey >= 7.0".into());
        }
        if self.info("role") == "slave" {
            return Some("this is a replica: name the primary in the address".into());
        }
        let version = self.info.get("redis_version")?;
        let major = version
            .split('.')
            .next()
            .and_then(|major| major.parse::<u32>().ok());
        if major.is_some_and(|major| major < 7) {
            let name = if self.is_keydb() {
                "KeyDB, which is Redis"
            } else {
                "Redis"
            };
            return Some(format!(
                "this is {name} {version}; use Redis or Valkey >= 7.0"
            ));
        }
        None
    }

    pub(super) fn durability(&self) -> Durability {
        match self.first_unmet() {
            None => Durability::Fsync,
            Some((reason, remedy)) => Durability::Unmet { reason, remedy },
        }
    }

    fn first_unmet(&self) -> Option<(&'static str, String)> {
        let unmet = |reason, remedy: &str| Some((reason, remedy.to_owned()));
        if let Some(reason) = self.unsupported() {
            return unmet("NotVerified", &reason);
        }
        if self.info.is_empty() {
            return unmet(
                "NotVerified",
                "permit the commands INFO and CONFIG GET to this user",
            );
        }
        if self.info("redis_mode") != "standalone" {
            return unmet(
                "FailoverCanLose",
                "use a single primary without Sentinel or Cluster: a fail-over loses what was not \
                 replicated, and this level does not wait for replicas",
            );
        }
        if self.info("connected_slaves") != "0" {
            return unmet(
                "FailoverCanLose",
                "detach the replicas: one that is promoted lacks what was not replicated, and this \
                 level does not wait for them",
            );
        }
        if self.info("aof_enabled") != "1" || self.awaits_first_rewrite() {
            return unmet(
                "AofOff",
                "set `appendonly yes` in the server's configuration",
            );
        }
        if self.info("aof_last_write_status") != "ok" {
            return unmet(
                "NotVerified",
                "the last write to the append-only file failed: look at the server's disk and log",
            );
        }
        let Some(settings) = &self.settings else {
            return unmet("NotVerified", "permit the command CONFIG GET to this user");
        };
        let setting = |name: &str| settings.get(name).map_or("", String::as_str);
        if setting("appendfsync") != "always" {
            return unmet(
                "NotFsyncAlways",
                "set `appendfsync always` in the server's configuration",
            );
        }
        if setting("no-appendfsync-on-rewrite") != "no" {
            return unmet(
                "FsyncPausedOnRewrite",
                "set `no-appendfsync-on-rewrite no` in the server's configuration",
            );
        }
        if setting("maxmemory-policy") != "noeviction" {
            return unmet(
                "Evicting",
                "set `maxmemory-policy noeviction` in the server's configuration",
            );
        }
        None
    }

    /// Switched on while running, the append-only file counts only once its first rewrite is done. A
    /// file that was there from the start has no base either, but is not rewritten while small.
    fn awaits_first_rewrite(&self) -> bool {
        let rewriting = self.info("aof_rewrite_in_progress") == "1"
            || self.info("aof_rewrite_scheduled") == "1";
        let small = self
            .info("aof_current_size")
            .parse()
            .is_ok_and(|size: u64| size < 32 << 20);
        rewriting && self.info("aof_base_size") == "0" && small
    }

    fn is_keydb(&self) -> bool {
        self.info("executable").ends_with("keydb-server") || self.info.contains_key("mvcc_depth")
    }

    fn info(&self, field: &str) -> &str {
        self.info.get(field).map_or("", String::as_str)
    }
}

fn info_of(text: &str) -> HashMap<String, String> {
    text.lines()
        .filter_map(|line| line.trim_end().split_once(':'))
        .map(|(field, value)| (field.to_owned(), value.to_owned()))
        .collect()
}

fn setting_of(reply: Reply) -> Option<(String, String)> {
    match reply {
        Reply::Array(pair) => match pair.as_slice() {
            [Reply::Bulk(name), Reply::Bulk(value)] => Some((
                String::from_utf8_lossy(name).into_owned(),
                String::from_utf8_lossy(value).into_owned(),
            )),
            _ => None,
        },
        _ => None,
    }
}

/// Asked one by one: a name that a server does not know must not hide the others.
const SETTINGS: [&str; 3] = [
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "maxmemory-policy",
];

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD_INFO: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n\
        executable:/usr/bin/redis-server\r\nrole:master\r\nconnected_slaves:0\r\naof_enabled:1\r\n\
        aof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0\r\naof_last_write_status:ok\r\n\
        aof_current_size:0\r\naof_base_size:0\r\n";
    const GOOD_SETTINGS: &str = "appendfsync:always\nno-appendfsync-on-rewrite:no\n\
        maxmemory-policy:noeviction";

    fn store(changes: &[(&str, &str)]) -> Store {
        let mut store = Store {
            info: info_of(GOOD_INFO),
            settings: Some(info_of(GOOD_SETTINGS)),
        };
        for (field, value) in changes {
            let settings = store.settings.as_mut().unwrap();
            let map = if settings.contains_key(*field) {
                settings
            } else {
                &mut store.info
            };
            map.insert((*field).to_owned(), (*value).to_owned());
        }
        store
    }

    #[test]
    fn each_requirement_is_named_when_unmet() {
        let cases: [(&[(&str, &str)], &str); 13] = [
            (&[("aof_enabled", "0")], "AofOff"),
            (&[("aof_rewrite_in_progress", "1")], "AofOff"),
            (&[("appendfsync", "everysec")], "NotFsyncAlways"),
            (
                &[("no-appendfsync-on-rewrite", "yes")],
                "FsyncPausedOnRewrite",
            ),
            (&[("maxmemory-policy", "allkeys-lru")], "Evicting"),
            (&[("connected_slaves", "1")], "FailoverCanLose"),
            (&[("redis_mode", "cluster")], "FailoverCanLose"),
            (&[("redis_mode", "sentinel")], "FailoverCanLose"),
            (&[("role", "slave")], "NotVerified"),
            (&[("aof_last_write_status", "err")], "NotVerified"),
            (&[("redis_version", "6.2.14")], "NotVerified"),
            (
                &[
                    ("redis_version", "6.3.4"),
                    ("executable", "/bin/keydb-server"),
                ],
                "NotVerified",
            ),
            (&[("dragonfly_version", "df-v1.30.0")], "NotVerified"),
        ];
        assert_eq!(store(&[]).durability(), Durability::Fsync);
        for (changes, expected) in cases {
            match store(changes).durability() {
                Durability::Unmet { reason, remedy } => {
                    assert_eq!(reason, expected, "{changes:?}");
                    assert!(remedy.len() > 20, "{remedy}");
                }
                other => panic!("{changes:?} gave {other:?}"),
            }
        }
    }

    #[test]
    fn a_large_file_from_the_start_may_be_rewritten() {
        let changes = [
            ("aof_rewrite_in_progress", "1"),
            ("aof_current_size", "67108864"),
        ];
        assert_eq!(store(&changes).durability(), Durability::Fsync);
    }

    #[test]
    fn what_is_not_told_is_not_verified() {
        let without_config = Store {
            settings: None,
            ..store(&[])
        };
        let without_info = Store {
            info: HashMap::new(),
            ..store(&[])
        };
        for store in [without_config, without_info] {
            let Durability::Unmet { reason, remedy } = store.durability() else {
                panic!()
            };
            assert_eq!(reason, "NotVerified");
            assert!(remedy.contains("CONFIG"));
        }
    }

    #[test]
    fn stores_that_cannot_keep_a_queue_are_refused_by_name() {
        assert_eq!(store(&[]).unsupported(), None);
        assert_eq!(store(&[("redis_version", "8.1.0")]).unsupported(), None);
        let keydb = store(&[("redis_version", "6.3.4"), ("mvcc_depth", "0")]).unsupported();
        assert!(keydb.unwrap().contains("KeyDB"));
        let dragonfly = store(&[("dragonfly_version", "df-v1.30.0")]).unsupported();
        assert!(dragonfly.unwrap().contains("Dragonfly"));
    }
}
