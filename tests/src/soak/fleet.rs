//! The relays: real processes of one queue, each with a configuration document of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::fate::{DESTINATIONS, SENDERS, destination};
use super::sink::Sink;
use crate::eventually::{eventually, holds};
use crate::http;
use crate::process::{Running, Signal, answers, free_port};
use crate::redis::Redis;

pub(crate) struct Fleet {
    kurier: PathBuf,
    folder: PathBuf,
    /// Where each slot has Redis.
    redis: Vec<u16>,
    sinks: Vec<u16>,
    lease: Duration,
    slots: Vec<Slot>,
}

/// Where one process after the other lives.
pub(crate) struct Slot {
    port: u16,
    admin: u16,
    incarnation: u32,
    name: String,
    pub(crate) process: Option<Running>,
}

/// `GET /v1/queue`, of which this is looked at.
#[derive(Deserialize)]
pub(crate) struct OwnQueue {
    pub(crate) worker: Option<String>,
    pub(crate) claims: usize,
}

/// A message's part for one domain.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Task {
    /// Of the message, as the relay calls it.
    pub(crate) queue_id: String,
    pub(crate) ordinal: usize,
}

impl Task {
    /// Of a handle, `<message>.<ordinal>|<queue>`.
    fn of(handle: &str) -> Option<Self> {
        let (queue_id, ordinal) = handle.split('|').next()?.split_once('.')?;
        Some(Self {
            queue_id: queue_id.to_owned(),
            ordinal: ordinal.parse().ok()?,
        })
    }
}

impl Fleet {
    pub(crate) fn new(
        kurier: PathBuf,
        folder: &Path,
        redis: Vec<u16>,
        sink: &Sink,
        lease: Duration,
    ) -> Result<Self> {
        let slot = |_| -> Result<Slot> {
            Ok(Slot {
                port: free_port()?,
                admin: free_port()?,
                incarnation: 0,
                name: String::new(),
                process: None,
            })
        };
        Ok(Self {
            kurier,
            folder: folder.to_owned(),
            slots: redis.iter().map(slot).collect::<Result<_>>()?,
            redis,
            sinks: sink.ports().to_vec(),
            lease,
        })
    }

    pub(crate) fn ports(&self) -> Vec<u16> {
        self.slots.iter().map(|slot| slot.port).collect()
    }

    /// The name of the process that is in `slot` now.
    pub(crate) fn name(&self, slot: usize) -> &str {
        &self.slots[slot].name
    }

    /// Starts a process in `slot`, and waits until it listens.
    pub(crate) fn start(&mut self, slot: usize) -> Result<()> {
        let Slot { port, admin, .. } = self.slots[slot];
        let incarnation = self.slots[slot].incarnation + 1;
        let label = format!("r{slot}-{incarnation}");
        let name = format!("{label}.example");
        let file = self.folder.join(format!("{label}.yaml"));
        fs::write(&file, self.document(&name, port, admin, self.redis[slot]))?;
        let mut command = Command::new(&self.kurier);
        command.args(["relay", "--config"]).arg(&file);
        command.stderr(File::create(self.folder.join(format!("{label}.log")))?);
        self.slots[slot] = Slot {
            port,
            admin,
            incarnation,
            name,
            process: Some(Running::start(&mut command)?),
        };
        let process = self.process(slot)?;
        eventually("the relay listens", START, || {
            match process.is_running()? {
                true => answers(port),
                false => bail!("it has ended, see its log"),
            }
        })
    }

    /// The process in `slot`, which is running.
    pub(crate) fn process(&mut self, slot: usize) -> Result<&mut Running> {
        let process = self.slots[slot].process.as_mut();
        process.context("no process in this slot")
    }

    pub(crate) fn queue(&self, slot: usize) -> Result<OwnQueue> {
        let answer = http::request("GET", &self.admin(slot), "/v1/queue", "")?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// How many clients are in the middle of their DATA.
    pub(crate) fn open_data(&self, slot: usize) -> Result<f64> {
        let name = "kurier_smtp_open_transactions";
        http::metric(&self.admin(slot), name, r#"phase="data""#)
    }

    /// Whether it claims, or only accepts.
    pub(crate) fn set_claiming(&self, slot: usize, enabled: bool) -> Result<()> {
        let body = format!(r#"{{"enabled": {enabled}}}"#);
        http::request("PUT", &self.admin(slot), "/v1/claiming", &body)?;
        Ok(())
    }

    /// # Errors
    /// When it is not ready.
    pub(crate) fn is_ready(&self, slot: usize) -> Result<()> {
        http::request("GET", &self.admin(slot), "/readyz", "").map(drop)
    }

    /// What the process in `slot` has logged.
    pub(crate) fn log(&self, slot: usize) -> Result<String> {
        let label = self.name(slot).trim_end_matches(".example");
        let octets = fs::read(self.folder.join(format!("{label}.log")))?;
        Ok(String::from_utf8_lossy(&octets).into_owned())
    }

    fn admin(&self, slot: usize) -> String {
        format!("127.0.0.1:{}", self.slots[slot].admin)
    }

    /// The tasks that `worker` has claimed.
    pub(crate) fn claimed(&self, redis: &Redis, worker: &str) -> Result<Vec<Task>> {
        let key = format!("{PREFIX}c:{worker}");
        let handles = redis.ask(&["ZRANGE", &key, "0", "-1"])?.texts();
        let tasks = handles.iter().map(|handle| Task::of(handle));
        tasks.collect::<Option<_>>().context("not a handle")
    }

    /// Messages that are not done with.
    pub(crate) fn queued(&self, redis: &Redis) -> Result<Vec<String>> {
        Ok(redis
            .ask(&["ZRANGE", &format!("{PREFIX}exp"), "0", "-1"])?
            .texts())
    }

    /// Keys that are there although nothing is queued and whose owners are not alive.
    pub(crate) fn left_over(&self, redis: &Redis) -> Result<Vec<String>> {
        let mut left = Vec::new();
        let workers: Vec<String> = (0..self.slots.len())
            .map(|slot| Ok(self.queue(slot)?.worker.unwrap_or_default()))
            .collect::<Result<_>>()?;
        for key in redis.ask(&["KEYS", &format!("{PREFIX}*")])?.texts() {
            let name = key.strip_prefix(PREFIX).unwrap_or(&key);
            let (kind, rest) = name.split_once(':').unwrap_or((name, ""));
            let may_stay = match kind {
                // Schema and owner; limits; virtual times; the outcome journal.
                "meta" | "lim" | "st" | "ev" | "sm" | "sus" | "g" => true,
                // Of those who live.
                "wk" | "wks" | "ws" => true,
                "ln" | "cw" => workers.iter().any(|worker| worker == rest),
                // Of a message that was never completed: gone soon.
                "b" => redis.ask(&["PTTL", &key])?.integer() > Some(0),
                "ct" => {
                    let slots = redis.ask(&["HVALS", &key])?.texts();
                    slots.iter().all(|slots| slots == "0")
                }
                _ => false,
            };
            if !may_stay {
                left.push(key);
            }
        }
        Ok(left)
    }

    /// Ends the relays in order.
    ///
    /// # Errors
    /// When one is not there any more, or does not end well.
    pub(crate) fn end(&mut self) -> Result<()> {
        for slot in 0..self.slots.len() {
            let name = self.name(slot).to_owned();
            let process = self.process(slot)?;
            ensure!(process.is_running()?, "{name} has ended by itself");
            process.signal(Signal::TERM)?;
        }
        for slot in 0..self.slots.len() {
            let name = self.name(slot).to_owned();
            let status = self.process(slot)?.wait(START)?;
            ensure!(status.success(), "{name} ended with {status}");
        }
        Ok(())
    }

    /// Waits until every relay reaches the queue and is a member.
    pub(crate) fn are_members(&self) -> Result<()> {
        eventually("the relays are members of the queue", START, || {
            for slot in 0..self.slots.len() {
                let queue = self.queue(slot)?;
                holds(queue.worker.is_some(), self.name(slot))?;
            }
            Ok(())
        })
    }

    fn document(&self, name: &str, port: u16, admin: u16, redis: u16) -> String {
        let lease = duration(self.lease);
        let beat = duration(self.lease / 6);
        let (claim, begun) = (duration(self.lease * 4), duration(self.lease * 60));
        let mut domains: Vec<_> = (0..DESTINATIONS).map(destination).collect();
        domains.push(SENDERS.to_owned());
        let rules: String = domains
            .iter()
            .zip(&self.sinks)
            .map(|(domain, sink)| {
                format!(
                    "  - name: {}
    match: {{recipientDomains: [{domain}]}}
    action: {{type: Smarthost, smarthost: {{host: 127.0.0.1, port: {sink}}}}}
",
                    domain.trim_end_matches(".example")
                )
            })
            .collect();
        format!(
            "schema: 1
hostname: {name}
listeners:
- name: relay
  address: 127.0.0.1:{port}
  role: Relay
  allowedNetworks: [127.0.0.0/8]
queue:
  id: soak
  source: {{type: Redis, redis: {{url: 'redis://127.0.0.1:{redis}'}}}}
  retry: {{initial: 500ms, max: 2s}}
delivery: {{concurrencyPerDestination: 50}}
limits: {{connectionsPerClient: 500}}
telemetry: {{log: {{format: Json, filter: info}}}}
admin: {{health: '127.0.0.1:{admin}', management: '127.0.0.1:{admin}'}}
timing: {{lease: {lease}, beat: {beat}, claim: {claim}, begun: {begun}, safetyWake: {lease}}}
drain: {{acceptFor: 0s, deadline: 20s}}
routes:
- name: soak
  rules:
{rules}"
        )
    }
}

/// As a configuration says it.
fn duration(of: Duration) -> String {
    format!("{}s{}ms", of.as_secs(), of.subsec_millis())
}

/// Of every key of this queue.
pub(crate) const PREFIX: &str = "mr:{soak:0}:";
const START: Duration = Duration::from_secs(30);
