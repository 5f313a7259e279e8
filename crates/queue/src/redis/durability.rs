//! Whether the declared level is in force: read from what the servers say of themselves, when a
//! connection is made and with every beat.
//!
//! | level | requires |
//! |---|---|
//! | all | a primary, version 7.0, `noeviction` |
//! | `Fsync` | an append-only file that is synced always, no replica |
//! | `Replicated` | an append-only file, so that a primary that starts anew empties no replica; as many replicas on line as confirm, `min-replicas-to-write` and `-max-lag`, so that a primary cut off from them takes nothing; and none more that may be promoted |
//! | `FsyncReplicated` | both, the file of each replica too, and version 7.2 |

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::{Pipeline, ServerErrorKind, Value};
use tokio::time::Instant;

use super::connection::{ConnectError, Connection};
use super::reply::{refusal_text, text_of};
use crate::durability::{Durability, Level};

/// What a server says of itself: `INFO`, and the settings it does not tell there.
#[derive(Debug)]
pub(super) struct Store {
    /// When it was asked.
    asked: Instant,
    info: HashMap<String, String>,
    /// `None` where CONFIG is not permitted.
    settings: Option<HashMap<String, String>>,
    pub(super) others: Others,
}

/// What others say of who may take the server's place. Asked where the declared level needs it.
#[derive(Default, Debug)]
pub(super) struct Others {
    /// Replicas that Sentinels or the cluster may promote, on line or not.
    pub(super) promotable: usize,
    /// What those on line say of themselves, where they were asked; `None` for who did not answer.
    pub(super) replicas: Option<Vec<(String, Option<Store>)>>,
}

/// What the server's answers amount to, in the order in which it gave them; shared by all
/// connections.
#[derive(Default)]
pub(super) struct Verified(Mutex<Option<Verdict>>);

struct Verdict {
    /// When the answer was asked for that it was formed from, and when it was formed.
    asked: Instant,
    given: Instant,
    counted: Counted,
    /// Whether a restart would have read the append-only file.
    aof_on: bool,
    durability: Durability,
    fill: Option<u8>,
}

/// What had happened to the server until it answered.
struct Counted {
    /// Another one for each start of the server.
    run_id: String,
    /// Questions it had answered.
    infos: u64,
    /// How often anything was done that could have switched the append-only file off and on.
    switches: [u64; SWITCHES.len()],
}

impl Verified {
    /// Takes an answer into account. One that is overtaken by the answer to a later question is
    /// worth nothing any more.
    pub(super) fn judge(&self, store: &Store, level: Level) -> Durability {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = store.counted();
        let overtaken = |last: &&Verdict| last.has_overtaken(store.asked, &counted);
        if let Some(later) = last.as_ref().filter(overtaken) {
            return later.durability.clone();
        }
        let aof_on = store.aof_on(last.as_ref(), &counted);
        let durability = store.durability(level, aof_on);
        *last = Some(Verdict {
            asked: store.asked,
            given: Instant::now(),
            counted,
            aof_on,
            durability: durability.clone(),
            fill: store.fill(),
        });
        durability
    }

    /// How full the store was at the last answer.
    pub(super) fn fill(&self) -> Option<u8> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().and_then(|last| last.fill)
    }

    /// The last verdict, unless it is older than `age`.
    pub(super) fn recent(&self, age: Duration) -> Option<Durability> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref()
            .filter(|last| last.given.elapsed() <= age)
            .map(|last| last.durability.clone())
    }
}

impl Verdict {
    /// Two connections ask at the same time: the server's own count tells which it answered later,
    /// and for two starts of it, which was asked later.
    fn has_overtaken(&self, asked: Instant, counted: &Counted) -> bool {
        let at_the_same_time = self.given > asked;
        if at_the_same_time && self.counted.run_id == counted.run_id {
            self.counted.infos >= counted.infos
        } else {
            self.asked > asked
        }
    }
}

pub(super) async fn ask(
    connection: &mut Connection,
    deadline: Instant,
) -> Result<Store, ConnectError> {
    let asked = Instant::now();
    let mut request = Pipeline::with_capacity(1 + SETTINGS.len());
    // One command, so that the state and the counters in it are of one moment.
    request.cmd("INFO").arg("all");
    for setting in SETTINGS {
        request.cmd("CONFIG").arg("GET").arg(setting);
    }
    let mut replies = connection.exchange(&request, deadline).await?.into_iter();
    let info = match replies.next() {
        Some(Value::BulkString(text)) => info_of(&String::from_utf8_lossy(&text)),
        // Without INFO nothing is verified, but nothing is wrong with the connection.
        Some(Value::ServerError(error)) if error.kind() == Some(ServerErrorKind::NoPerm) => {
            HashMap::new()
        }
        Some(Value::ServerError(error)) => {
            return Err(ConnectError::Unreachable(refusal_text(&error)));
        }
        other => return Err(ConnectError::Unreachable(format!("INFO: {other:?}"))),
    };
    Ok(Store {
        asked,
        info,
        settings: replies.map(setting_of).collect(),
        others: Others::default(),
    })
}

impl Store {
    /// Why mail cannot be taken here, whatever the settings.
    pub(super) fn unsupported(&self) -> Option<String> {
        if self.info.contains_key("dragonfly_version") {
            return Some("Dragonfly has no append-only file; use Redis or Valkey >= 7.0".into());
        }
        if self.is_replica() {
            return Some("this is a replica: name the primary in the address".into());
        }
        let version = self.info.get("redis_version")?;
        if self.version().is_some_and(|version| version < (7, 0)) {
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

    /// Of the protocol: what Valkey is compatible with.
    fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.info("redis_version").split('.').map(str::parse);
        let major = numbers.next()?.ok()?;
        Some((major, numbers.next()?.ok()?))
    }

    /// The command that waits for `level`'s replicas behind a commit; `None` where there is none to
    /// wait for, or the server has no such command.
    pub(super) fn confirmation(&self, level: Level) -> Option<&'static str> {
        match level {
            Level::Memory | Level::Fsync => None,
            Level::Replicated { .. } => Some("WAIT"),
            Level::FsyncReplicated { .. } => self.has_waitaof().then_some("WAITAOF"),
        }
    }

    fn has_waitaof(&self) -> bool {
        self.version().is_none_or(|version| version >= (7, 2))
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.mode().contains(&"cluster")
    }

    /// Valkey 8 and newer have another name for it.
    fn mode(&self) -> [&str; 2] {
        ["redis_mode", "server_mode"].map(|name| self.info(name))
    }

    /// Connected replicas, on line or not.
    pub(super) fn replicas(&self) -> Vec<ReplicaSeen<'_>> {
        let count = self.info("connected_slaves").parse().unwrap_or(0_usize);
        (0..count)
            .map(|index| ReplicaSeen::parse(self.info(&format!("slave{index}"))))
            .collect()
    }

    pub(super) fn is_replica(&self) -> bool {
        self.info("role") == "slave"
    }

    /// Another one for each start of a server; empty where INFO is not permitted.
    pub(super) fn run_id(&self) -> &str {
        self.info("run_id")
    }

    fn durability(&self, level: Level, aof_on: bool) -> Durability {
        match self.unmet(level, aof_on) {
            Ok(()) => Durability::Verified(level),
            Err((reason, remedy)) => Durability::Unmet { reason, remedy },
        }
    }

    fn unmet(&self, level: Level, aof_on: bool) -> Result<(), Unmet> {
        if let Some(reason) = self.unsupported() {
            return unmet("NotVerified", reason);
        }
        if self.info.is_empty() {
            return unmet(
                "NotVerified",
                "permit the commands INFO and CONFIG GET to this user",
            );
        }
        if self.mode().contains(&"sentinel") {
            return unmet(
                "NotVerified",
                "this is a Sentinel: name it in an address that begins with redis+sentinel://",
            );
        }
        if level == Level::Fsync && self.promotable() > 0 {
            return unmet(
                "FailoverCanLose",
                "detach the replicas, or declare FsyncReplicated: a replica that is promoted lacks \
                 what was not replicated, and this level does not wait for replicas",
            );
        }
        if level != Level::Memory {
            self.kept_in_file(aof_on)?;
        }
        self.kept_as_set(level)?;
        match level {
            Level::Memory | Level::Fsync => Ok(()),
            Level::Replicated { acks } => self.kept_by_replicas(acks.into()),
            Level::FsyncReplicated { acks } => {
                self.kept_by_replicas(acks.into())?;
                self.synced_by_replicas()
            }
        }
    }

    fn kept_in_file(&self, aof_on: bool) -> Result<(), Unmet> {
        if self.info("aof_enabled") != "1" {
            return unmet(
                "AofOff",
                "set `appendonly yes` in the server's configuration",
            );
        }
        if !aof_on {
            return unmet(
                "AofOff",
                "wait until the append-only file has been written for the first time since it was \
                 switched on (`aof_rewrite_in_progress:0`, `aof_last_bgrewrite_status:ok`): before, \
                 a restart does not read it",
            );
        }
        if self.info("aof_last_write_status") != "ok" {
            return unmet(
                "NotVerified",
                "the last write to the append-only file failed: look at the server's disk and log",
            );
        }
        Ok(())
    }

    fn kept_as_set(&self, level: Level) -> Result<(), Unmet> {
        if self.settings.is_none() {
            return unmet("NotVerified", "permit the command CONFIG GET to this user");
        }
        if level.is_synced() {
            if self.setting("appendfsync") != "always" {
                return unmet(
                    "NotFsyncAlways",
                    "set `appendfsync always` in the server's configuration",
                );
            }
            if self.setting("no-appendfsync-on-rewrite") != "no" {
                return unmet(
                    "FsyncPausedOnRewrite",
                    "set `no-appendfsync-on-rewrite no` in the server's configuration",
                );
            }
        }
        if self.setting("maxmemory-policy") != "noeviction" {
            return unmet(
                "Evicting",
                "set `maxmemory-policy noeviction` in the server's configuration",
            );
        }
        Ok(())
    }

    fn kept_by_replicas(&self, acks: usize) -> Result<(), Unmet> {
        let number = |name| self.setting(name).parse().unwrap_or(0_usize);
        let max_lag = number("min-replicas-max-lag").clamp(1, MAX_LAG);
        let replicas = self.replicas();
        let good = replicas.iter().filter(|replica| replica.is_good(max_lag));
        let good = good.count();
        if good < acks {
            return unmet(
                "TooFewReplicas",
                format!(
                    "{good} replicas are on line and up to date, and {acks} are to confirm each \
                     write: bring replicas up"
                ),
            );
        }
        if number("min-replicas-to-write") < acks {
            return unmet(
                "FailoverCanLose",
                format!(
                    "set `min-replicas-to-write {acks}` in the servers' configuration: without it a \
                     primary that is cut off goes on taking writes"
                ),
            );
        }
        if !(1..=MAX_LAG).contains(&number("min-replicas-max-lag")) {
            return unmet(
                "FailoverCanLose",
                format!(
                    "set `min-replicas-max-lag {MAX_LAG}`, or less but not 0, in the servers' \
                     configuration: without it a primary that is cut off goes on taking writes"
                ),
            );
        }
        let promotable = self.promotable();
        if promotable > acks {
            return unmet(
                "FailoverCanLose",
                format!(
                    "{promotable} replicas may be promoted and {acks} confirm each write: declare \
                     `acks: {promotable}`, or give the others `replica-priority 0`"
                ),
            );
        }
        Ok(())
    }

    fn synced_by_replicas(&self) -> Result<(), Unmet> {
        if !self.has_waitaof() {
            let version = self.info("redis_version");
            return unmet(
                "NotVerified",
                format!(
                    "this is Redis {version}, whose replicas do not say what they have synced: use \
                     Redis or Valkey >= 7.2"
                ),
            );
        }
        let replicas = self.others.replicas.as_deref().unwrap_or_default();
        if replicas.is_empty() {
            return unmet("NotVerified", "no replica was asked yet");
        }
        for (endpoint, store) in replicas {
            let Some(store) = store else {
                return unmet(
                    "NotVerified",
                    format!(
                        "let the relay connect to the replica {endpoint} as the same user, so that it \
                         can be asked"
                    ),
                );
            };
            if store.priority() == Some(0) {
                continue;
            }
            // Nothing that was switched off and on since is known of it.
            let aof_on = store.aof_on(None, &store.counted());
            let kept = store
                .kept_in_file(aof_on)
                .and_then(|()| store.kept_as_set(Level::Fsync));
            kept.map_err(|(reason, remedy)| (reason, format!("replica {endpoint}: {remedy}")))?;
        }
        Ok(())
    }

    /// How many replicas may be promoted, as far as anybody knows.
    fn promotable(&self) -> usize {
        let connected = match &self.others.replicas {
            None => self.replicas().len(),
            Some(replicas) => replicas
                .iter()
                .filter(|(_, store)| store.as_ref().and_then(Self::priority) != Some(0))
                .count(),
        };
        connected.max(self.others.promotable)
    }

    /// Of a replica: 0 when it is never promoted.
    fn priority(&self) -> Option<u32> {
        self.info("slave_priority").parse().ok()
    }

    fn setting(&self, name: &str) -> &str {
        let settings = self.settings.as_ref();
        settings
            .and_then(|settings| settings.get(name))
            .map_or("", String::as_str)
    }

    /// A first rewrite that fails is scheduled again by the server.
    fn is_rewriting(&self) -> bool {
        ["aof_rewrite_in_progress", "aof_rewrite_scheduled"]
            .iter()
            .any(|field| self.info(field) != "0")
    }

    /// Whether a restart would read the append-only file, given what was known of it at the answer
    /// before.
    ///
    /// Switched on while the server runs, it is written to a file that a restart ignores until the
    /// first rewrite has ended well. Nothing in INFO tells that rewrite from any other, but it needs
    /// a command that switches: while none was given, a rewrite is one of a file that counts.
    fn aof_on(&self, last: Option<&Verdict>, now: &Counted) -> bool {
        if self.info("aof_enabled") != "1" {
            return false;
        }
        let before = last
            .filter(|last| last.aof_on)
            .map(|last| &last.counted)
            .filter(|before| before.run_id == now.run_id);
        // The counters have been reset when one that grows with every question has not.
        let unswitched = match before {
            Some(before) => before.switches == now.switches && before.infos < now.infos,
            None => now.switches == [0; SWITCHES.len()] && now.infos > 0,
        };
        let is_written = !self.is_rewriting()
            && (before.is_some() || self.info("aof_last_bgrewrite_status") == "ok");
        unswitched || is_written
    }

    fn counted(&self) -> Counted {
        Counted {
            run_id: self.run_id().to_owned(),
            infos: self.calls("info"),
            switches: SWITCHES.map(|command| self.calls(command)),
        }
    }

    /// Memory in use in percent of `maxmemory`, as the server counts it when it refuses writes.
    fn fill(&self) -> Option<u8> {
        let octets = |field: &str| self.info(field).parse::<u64>().ok();
        let max = octets("maxmemory").filter(|max| *max > 0)?;
        let used = octets("used_memory")?;
        let not_counted = octets("mem_not_counted_for_evict").unwrap_or(0);
        let percent = used.saturating_sub(not_counted) * 100 / max;
        Some(u8::try_from(percent).unwrap_or(u8::MAX))
    }

    /// How often a command was executed since the server started or its statistics were reset.
    fn calls(&self, command: &str) -> u64 {
        let statistics = self.info(&format!("cmdstat_{command}"));
        let calls = statistics
            .split(',')
            .find_map(|field| field.strip_prefix("calls="));
        calls.and_then(|calls| calls.parse().ok()).unwrap_or(0)
    }

    fn is_keydb(&self) -> bool {
        self.info("executable").ends_with("keydb-server") || self.info.contains_key("mvcc_depth")
    }

    fn info(&self, field: &str) -> &str {
        self.info.get(field).map_or("", String::as_str)
    }
}

type Unmet = (&'static str, String);

fn unmet(reason: &'static str, remedy: impl Into<String>) -> Result<(), Unmet> {
    Err((reason, remedy.into()))
}

/// A replica as its primary sees it.
pub(super) struct ReplicaSeen<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    is_online: bool,
    lag: usize,
}

impl<'a> ReplicaSeen<'a> {
    /// `ip=..,port=..,state=..,offset=..,lag=..`
    fn parse(text: &'a str) -> Self {
        let field = |name| {
            let mut fields = text.split(',').filter_map(|field| field.split_once('='));
            fields
                .find(|(found, _)| *found == name)
                .map_or("", |(_, value)| value)
        };
        Self {
            host: field("ip"),
            port: field("port").parse().unwrap_or(0),
            is_online: field("state") == "online",
            lag: field("lag").parse().unwrap_or(usize::MAX),
        }
    }

    fn is_good(&self, max_lag: usize) -> bool {
        self.is_online && self.lag <= max_lag
    }
}

fn info_of(text: &str) -> HashMap<String, String> {
    text.lines()
        .filter_map(|line| line.trim_end().split_once(':'))
        .map(|(field, value)| (field.to_owned(), value.to_owned()))
        .collect()
}

fn setting_of(reply: Value) -> Option<(String, String)> {
    let pair = reply.as_sequence()?;
    Some((text_of(pair.first()?)?, text_of(pair.get(1)?)?))
}

/// Asked one by one: a name that a server does not know must not hide the others.
const SETTINGS: [&str; 5] = [
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "maxmemory-policy",
    "min-replicas-to-write",
    "min-replicas-max-lag",
];

/// Seconds after which a replica that says nothing does not count.
const MAX_LAG: usize = 10;

/// Commands after which the append-only file may be another one: a replica stops it while it loads
/// what its primary has.
const SWITCHES: [&str; 4] = ["config|set", "config|resetstat", "replicaof", "slaveof"];

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD_INFO: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n\
        executable:/usr/bin/redis-server\r\nrun_id:a\r\nrole:master\r\nconnected_slaves:0\r\n\
        aof_enabled:1\r\naof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0\r\n\
        aof_last_bgrewrite_status:ok\r\naof_last_write_status:ok\r\n\
        cmdstat_info:calls=1,usec=90,usec_per_call=90.00,rejected_calls=0,failed_calls=0\r\n";
    const GOOD_SETTINGS: &str = "appendfsync:always\nno-appendfsync-on-rewrite:no\n\
        maxmemory-policy:noeviction\nmin-replicas-to-write:1\nmin-replicas-max-lag:10";

    /// Fields that differ from the good ones.
    type Changes<'a> = &'a [(&'a str, &'a str)];

    fn store(changes: Changes<'_>) -> Store {
        let mut store = Store {
            asked: Instant::now(),
            info: info_of(GOOD_INFO),
            settings: Some(info_of(GOOD_SETTINGS)),
            others: Others::default(),
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

    fn judge(store: &Store) -> Durability {
        Verified::default().judge(store, Level::Fsync)
    }

    const REWRITING: (&str, &str) = ("aof_rewrite_in_progress", "1");
    const SCHEDULED: (&str, &str) = ("aof_rewrite_scheduled", "1");

    #[test]
    fn each_requirement_is_named_when_unmet() {
        let cases: [(Changes<'_>, &str); 13] = [
            (&[("aof_enabled", "0")], "AofOff"),
            (
                &[REWRITING, ("cmdstat_config|set", "calls=1,usec=1")],
                "AofOff",
            ),
            (&[("appendfsync", "everysec")], "NotFsyncAlways"),
            (
                &[("no-appendfsync-on-rewrite", "yes")],
                "FsyncPausedOnRewrite",
            ),
            (&[("maxmemory-policy", "allkeys-lru")], "Evicting"),
            (&[("connected_slaves", "1")], "FailoverCanLose"),
            (
                &[("redis_mode", "cluster"), ("connected_slaves", "1")],
                "FailoverCanLose",
            ),
            (&[("redis_mode", "sentinel")], "NotVerified"),
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
        assert_eq!(judge(&store(&[])), Durability::Verified(Level::Fsync));
        for (changes, expected) in cases {
            match judge(&store(changes)) {
                Durability::Unmet { reason, remedy } => {
                    assert_eq!(reason, expected, "{changes:?}");
                    assert!(remedy.len() > 20, "{remedy}");
                }
                other => panic!("{changes:?} gave {other:?}"),
            }
        }
    }

    /// Answers in a row: what differs from a good one, the number of INFO calls, and whether the
    /// file counts.
    fn check_row(answers: &[(Changes<'_>, u32, bool)]) {
        let verified = Verified::default();
        for (position, (changes, infos, counts)) in answers.iter().enumerate() {
            let infos = format!("calls={infos},usec=1");
            let changes = [*changes, &[("cmdstat_info", infos.as_str())]].concat();
            let durability = verified.judge(&store(&changes), Level::Fsync);
            assert_eq!(
                durability == Durability::Verified(Level::Fsync),
                *counts,
                "answer {position} of {answers:?}"
            );
        }
    }

    const SET_2: (&str, &str) = ("cmdstat_config|set", "calls=2,usec=1");
    const SET_4: (&str, &str) = ("cmdstat_config|set", "calls=4,usec=1");
    const RESET: (&str, &str) = ("cmdstat_config|resetstat", "calls=1,usec=1");
    const FAILED: (&str, &str) = ("aof_last_bgrewrite_status", "err");

    #[test]
    fn a_file_that_was_not_switched_may_be_rewritten() {
        check_row(&[(&[REWRITING], 1, true), (&[], 2, true)]);
        check_row(&[(&[SET_2], 1, true), (&[SET_2, REWRITING], 2, true)]);
        check_row(&[(&[SET_2], 1, true), (&[SET_2, SCHEDULED], 2, true)]);
        check_row(&[(&[FAILED], 1, true), (&[FAILED, REWRITING], 2, true)]);
        check_row(&[(&[], 1, true), (&[FAILED, SET_2], 2, true)]);
    }

    #[test]
    fn a_file_that_was_switched_on_counts_after_its_first_rewrite() {
        // It was seen off.
        check_row(&[
            (&[("aof_enabled", "0"), SET_2], 1, false),
            (&[SET_2, SCHEDULED], 2, false),
            (&[SET_2, REWRITING], 3, false),
            (&[SET_2, SCHEDULED, FAILED], 4, false),
            (&[SET_2, REWRITING, FAILED], 5, false),
            (&[SET_2], 6, true),
            (&[SET_2, REWRITING], 7, true),
        ]);
        // It was not.
        check_row(&[
            (&[SET_2], 1, true),
            (&[SET_4, REWRITING], 2, false),
            (&[SET_4, REWRITING], 3, false),
            (&[SET_4, FAILED], 4, false),
            (&[SET_4], 5, true),
        ]);
        // Nobody knows.
        check_row(&[(&[SET_2, REWRITING], 1, false), (&[SET_2], 2, true)]);
        check_row(&[(&[("cmdstat_slaveof", "calls=1"), REWRITING], 1, false)]);
    }

    #[test]
    fn counters_that_were_reset_tell_nothing() {
        check_row(&[(&[], 9, true), (&[RESET, REWRITING], 1, false)]);
        check_row(&[(&[RESET], 9, true), (&[RESET, REWRITING], 1, false)]);
        check_row(&[(&[RESET], 9, true), (&[RESET, REWRITING], 10, true)]);
        check_row(&[(&[REWRITING], 0, false)]);
    }

    #[test]
    fn another_start_of_the_server_is_not_known_yet() {
        let another = ("run_id", "b");
        check_row(&[
            (&[SET_2], 1, true),
            (&[SET_2, REWRITING, another], 2, false),
            (&[SET_2, another], 3, true),
        ]);
    }

    #[test]
    fn answers_count_in_the_order_of_the_server() {
        let verified = Verified::default();
        let numbered = |changes: Changes<'_>, infos: &str| {
            store(&[changes, &[("cmdstat_info", infos), SET_2]].concat())
        };
        verified.judge(&numbered(&[], "calls=4"), Level::Fsync);
        // Asked at the same time, answered the other way round.
        let (late, early) = (
            numbered(&[REWRITING], "calls=6"),
            numbered(&[REWRITING], "calls=5"),
        );
        assert_eq!(
            verified.judge(&late, Level::Fsync),
            Durability::Verified(Level::Fsync)
        );
        assert_eq!(
            verified.judge(&early, Level::Fsync),
            Durability::Verified(Level::Fsync)
        );

        let (late, early) = (
            numbered(&[("aof_enabled", "0")], "calls=8"),
            numbered(&[], "calls=7"),
        );
        let off = verified.judge(&late, Level::Fsync);
        assert_ne!(off, Durability::Verified(Level::Fsync));
        assert_eq!(verified.judge(&early, Level::Fsync), off);
    }

    #[test]
    fn an_overtaken_answer_changes_nothing() {
        let verified = Verified::default();
        let early = store(&[]);
        let off = store(&[("aof_enabled", "0")]);
        let unmet = verified.judge(&off, Level::Fsync);
        assert_ne!(unmet, Durability::Verified(Level::Fsync));
        assert!(early.asked < off.asked, "the clock stands");
        assert_eq!(verified.judge(&early, Level::Fsync), unmet);
        assert_eq!(verified.recent(Duration::from_secs(60)), Some(unmet));
    }

    const ONLINE: &str = "ip=10.0.0.2,port=6379,state=online,offset=9,lag=1";

    /// What a good primary with one replica lacks of a level, with `changes`.
    fn lacking(
        level: Level,
        changes: Changes<'_>,
        others: Others,
    ) -> Option<(&'static str, String)> {
        let with_replica = [
            ("redis_version", "7.2.4"),
            ("connected_slaves", "1"),
            ("slave0", ONLINE),
        ];
        let mut store = store(&[&with_replica, changes].concat());
        store.others = others;
        match Verified::default().judge(&store, level) {
            Durability::Unmet { reason, remedy } => Some((reason, remedy)),
            durability => {
                assert_eq!(durability, Durability::Verified(level));
                None
            }
        }
    }

    #[test]
    fn a_replicated_level_needs_all_that_may_be_promoted() {
        let level = Level::Replicated { acks: 1 };
        let check = |changes: Changes<'_>, promotable: usize, expected: Option<&str>| {
            let others = Others {
                promotable,
                replicas: None,
            };
            let got = lacking(level, changes, others);
            assert_eq!(
                got.as_ref().map(|(reason, _)| *reason),
                expected,
                "{changes:?}"
            );
        };
        check(&[], 0, None);
        check(&[], 1, None);
        check(&[("appendfsync", "everysec")], 1, None);
        check(&[], 2, Some("FailoverCanLose"));
        check(&[("connected_slaves", "0")], 0, Some("TooFewReplicas"));
        let waiting = ONLINE.replace("online", "wait_bgsave");
        check(&[("slave0", &waiting)], 1, Some("TooFewReplicas"));
        let behind = ONLINE.replace("lag=1", "lag=11");
        check(&[("slave0", &behind)], 1, Some("TooFewReplicas"));
        check(
            &[("min-replicas-to-write", "0")],
            1,
            Some("FailoverCanLose"),
        );
        check(&[("min-replicas-max-lag", "0")], 1, Some("FailoverCanLose"));
        check(
            &[("min-replicas-max-lag", "11")],
            1,
            Some("FailoverCanLose"),
        );
        check(&[("aof_enabled", "0")], 1, Some("AofOff"));
        check(&[("maxmemory-policy", "allkeys-lru")], 1, Some("Evicting"));
        check(
            &[("connected_slaves", "2"), ("slave1", ONLINE)],
            0,
            Some("FailoverCanLose"),
        );
    }

    #[test]
    fn a_replica_that_is_never_promoted_need_not_confirm() {
        let replica = |priority| {
            let replica = store(&[("role", "slave"), ("slave_priority", priority)]);
            ("10.0.0.2:6379".to_owned(), Some(replica))
        };
        let with = |first, second| Others {
            promotable: 1,
            replicas: Some(vec![replica(first), replica(second)]),
        };
        let level = Level::Replicated { acks: 1 };
        let two = [("connected_slaves", "2"), ("slave1", ONLINE)];
        assert_eq!(lacking(level, &two, with("100", "0")), None);
        let (reason, _) = lacking(level, &two, with("100", "100")).unwrap();
        assert_eq!(reason, "FailoverCanLose");
    }

    #[test]
    fn each_replica_must_sync() {
        let level = Level::FsyncReplicated { acks: 1 };
        let with = |replica| Others {
            promotable: 1,
            replicas: Some(vec![("10.0.0.2:6379".to_owned(), replica)]),
        };
        let replica = |changes: Changes<'_>| {
            let usual = [("role", "slave"), ("slave_priority", "100")];
            with(Some(store(&[&usual, changes].concat())))
        };
        assert_eq!(lacking(level, &[], replica(&[])), None);
        let named = |others, expected, part: &str| {
            let (reason, remedy) = lacking(level, &[], others).unwrap();
            assert_eq!(reason, expected);
            assert!(remedy.contains(part), "{remedy}");
        };
        named(replica(&[("aof_enabled", "0")]), "AofOff", "10.0.0.2");
        named(
            replica(&[("appendfsync", "everysec")]),
            "NotFsyncAlways",
            "10.0.0.2",
        );
        named(
            replica(&[("no-appendfsync-on-rewrite", "yes")]),
            "FsyncPausedOnRewrite",
            "10.0.0.2",
        );
        named(with(None), "NotVerified", "connect to the replica");
        let (reason, _) = lacking(level, &[("appendfsync", "no")], replica(&[])).unwrap();
        assert_eq!(reason, "NotFsyncAlways");
        let (reason, remedy) =
            lacking(level, &[("redis_version", "7.0.15")], replica(&[])).unwrap();
        assert_eq!(reason, "NotVerified");
        assert!(
            remedy.contains("7.2") && remedy.contains("7.0.15"),
            "{remedy}"
        );
    }

    #[test]
    fn memory_promises_nothing_but_not_to_evict() {
        let judge =
            |changes: Changes<'_>| Verified::default().judge(&store(changes), Level::Memory);
        let off = [
            ("aof_enabled", "0"),
            ("appendfsync", "no"),
            ("connected_slaves", "3"),
        ];
        assert_eq!(judge(&off), Durability::Verified(Level::Memory));
        assert_ne!(
            judge(&[("maxmemory-policy", "allkeys-lru")]),
            Durability::Verified(Level::Memory)
        );
        assert_ne!(
            judge(&[("role", "slave")]),
            Durability::Verified(Level::Memory)
        );
    }

    #[test]
    fn the_store_is_as_full_as_the_server_counts() {
        let fill = |max: &str, used: &str| {
            let not_counted = ("mem_not_counted_for_evict", "100");
            store(&[("maxmemory", max), ("used_memory", used), not_counted]).fill()
        };
        assert_eq!(fill("0", "900"), None);
        assert_eq!(fill("1000", "960"), Some(86));
        assert_eq!(fill("1000", "50"), Some(0));
        assert_eq!(fill("1", "99999"), Some(255));
        assert_eq!(store(&[]).fill(), None);
    }

    #[test]
    fn valkey_calls_its_mode_otherwise() {
        let valkey = |mode| {
            let mut store = store(&[("valkey_version", "9.0.0"), ("server_mode", mode)]);
            store.info.remove("redis_mode");
            judge(&store)
        };
        assert_eq!(valkey("standalone"), Durability::Verified(Level::Fsync));
        assert_ne!(valkey("sentinel"), Durability::Verified(Level::Fsync));
        assert!(store(&[("server_mode", "cluster")]).is_cluster());
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
            let Durability::Unmet { reason, remedy } = judge(&store) else {
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
