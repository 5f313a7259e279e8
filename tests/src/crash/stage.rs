//! What every row of the matrix is played on: two relays of one queue, each with a network of its own
//! to Redis, and a next hop.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::proxy::Proxy;
use crate::corpus::Message;
use crate::eventually::{eventually, holds};
use crate::gate::Gate;
use crate::process::kurier;
use crate::receive::now;
use crate::redis::Redis;
use crate::soak::fleet::Fleet;
use crate::soak::load::account;
use crate::soak::sink::{Content, Sink};
use crate::submit::Connection;

/// Whom it happens to.
pub(crate) const VICTIM: usize = 0;
/// Who takes over.
pub(crate) const SURVIVOR: usize = 1;

pub(crate) struct Stage {
    pub(crate) fleet: Fleet,
    pub(crate) redis: Redis,
    pub(crate) sink: Sink,
    pub(crate) lease: Duration,
    proxies: [Proxy; 2],
    /// What was answered 250, as the relay called it, and for whom it is.
    accepted: Vec<(String, Vec<String>)>,
    /// When a process was lost, by this machine's clock, and its name.
    lost: Option<(u64, String)>,
    survivor_since: u64,
    indices: u32,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

/// What became of everything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) lost: usize,
    pub(crate) duplicated: usize,
    /// From the loss of the victim to the first delivery by the survivor.
    pub(crate) took: Option<Duration>,
}

impl Stage {
    /// Two relays that are members of the queue and claim nothing yet.
    pub(crate) fn set(lease: Duration) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let redis = Redis::start(folder.path())?;
        let sink = Sink::start(&runtime)?;
        let proxies = [
            Proxy::before(redis.port(), &runtime)?,
            Proxy::before(redis.port(), &runtime)?,
        ];
        let ports = proxies.iter().map(Proxy::port).collect();
        let mut fleet = Fleet::new(kurier()?, folder.path(), ports, &sink, lease)?;
        for slot in [SURVIVOR, VICTIM] {
            fleet.start(slot)?;
            fleet.set_claiming(slot, false)?;
        }
        fleet.are_members()?;
        Ok(Self {
            fleet,
            redis,
            sink,
            lease,
            proxies,
            accepted: Vec::new(),
            lost: None,
            survivor_since: now(),
            indices: 0,
            runtime,
            _folder: folder,
        })
    }

    pub(crate) fn gate(&self, slot: usize) -> &Gate {
        self.proxies[slot].gate()
    }

    /// Whether anything gets through between a relay and Redis.
    pub(crate) fn silence(&self, slot: usize, is_silent: bool) {
        self.proxies[slot].silence(is_silent);
    }

    /// Sends a message for recipients with these fates, at one domain, or, where it begins with `@`,
    /// at the next one; the reply, or `connection: …`.
    pub(crate) fn submit(&mut self, slot: usize, fates: &[&str]) -> Result<String> {
        self.indices += 1;
        self.send(slot, self.indices, fates)
    }

    /// The same message once more, by a client that has heard nothing.
    pub(crate) fn submit_again(&mut self, slot: usize, fates: &[&str]) -> Result<String> {
        self.send(slot, self.indices, fates)
    }

    /// Begins to send, and goes on elsewhere.
    pub(crate) fn submitting(&mut self, slot: usize, fates: &[&str]) -> JoinHandle<String> {
        self.indices += 1;
        let to = recipients(self.indices, fates);
        let port = self.fleet.ports()[slot];
        self.runtime.spawn(deliver(port, self.indices, to))
    }

    /// What became of that; it is not to be accepted.
    pub(crate) fn refusal(&self, sending: JoinHandle<String>) -> Result<String> {
        let limit = Duration::from_secs(40);
        let reply = async { tokio::time::timeout(limit, sending).await };
        let reply = self.runtime.block_on(reply)??;
        ensure!(!reply.starts_with("250"), "a false {reply}");
        Ok(reply)
    }

    /// A client in the middle of a DATA of `octets` so far.
    pub(crate) fn open_data(&self, slot: usize, octets: usize) -> Result<Connection> {
        let port = self.fleet.ports()[slot];
        self.runtime.block_on(async {
            let mut connection = Connection::open(&account(port)).await?;
            connection
                .open_data("load-0@sender.example", "take-0-0@d0.example")
                .await?;
            connection.more_data(octets).await?;
            Ok(connection)
        })
    }

    fn send(&mut self, slot: usize, index: u32, fates: &[&str]) -> Result<String> {
        let to = recipients(index, fates);
        let sending = deliver(self.fleet.ports()[slot], index, to.clone());
        let reply = self.runtime.block_on(sending);
        if let Some(words) = reply.strip_prefix("250 2.0.0 ") {
            let id = words.split_whitespace().next().context("no queue id")?;
            self.accepted.push((id.to_owned(), to));
        }
        Ok(reply)
    }

    /// Accepts a message, and gives its name.
    pub(crate) fn accepted(&mut self, slot: usize, fates: &[&str]) -> Result<String> {
        let reply = self.submit(slot, fates)?;
        ensure!(reply.starts_with("250"), "{reply}");
        let (id, _) = self.accepted.last().context("it was accepted")?;
        Ok(id.clone())
    }

    pub(crate) fn claiming(&self, slot: usize, enabled: bool) -> Result<()> {
        self.fleet.set_claiming(slot, enabled)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, slot: usize) -> Result<()> {
        self.lose(slot);
        self.fleet.process(slot)?.kill()
    }

    /// Another process where one was killed, so that what is left over can be told from what it owns.
    pub(crate) fn revive(&mut self, slot: usize) -> Result<()> {
        self.fleet.start(slot)?;
        self.fleet.are_members()
    }

    /// Waits until the relay has gone from this connection.
    pub(crate) fn closed(&self, connection: &mut Connection) {
        self.runtime.block_on(connection.closed());
    }

    /// SIGSTOP.
    pub(crate) fn stop(&mut self, slot: usize) -> Result<()> {
        self.lose(slot);
        self.fleet.process(slot)?.stop()
    }

    /// Whoever reaps must have held its lease for a whole period: waits until the survivor has.
    pub(crate) fn settle_in(&self) {
        let lease = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        let over = self.survivor_since + lease + lease / 6;
        std::thread::sleep(Duration::from_millis(over.saturating_sub(now())));
    }

    /// From now on others have to do what `slot` was to do.
    pub(crate) fn lose(&mut self, slot: usize) {
        self.lost = Some((now(), self.fleet.name(slot).to_owned()));
    }

    pub(crate) fn worker(&self, slot: usize) -> Result<String> {
        self.fleet
            .queue(slot)?
            .worker
            .context("it is no member of the queue")
    }

    /// Waits until a message has arrived so often.
    pub(crate) fn arrives(&self, queue_id: &str, times: usize) -> Result<()> {
        eventually("it arrives", self.limit(), || {
            let seen = self.sink.seen();
            let arrived = seen.arrivals.iter().filter(|it| it.queue_id == queue_id);
            let arrived = arrived.count();
            holds(arrived >= times, format_args!("{arrived} of {times}"))
        })
    }

    /// Both the relays that are left deliver until nothing is queued; then it is counted.
    pub(crate) fn outcome(&self) -> Result<Measured> {
        eventually("the queue drains", self.limit(), || {
            let queued = self.fleet.queued(&self.redis)?;
            holds(queued.is_empty(), format_args!("{queued:?} are queued"))
        })?;
        self.leaves_nothing()?;
        self.count()
    }

    /// # Errors
    /// When something is left in Redis that nobody alive owns.
    fn leaves_nothing(&self) -> Result<()> {
        eventually("nothing is left over", self.limit(), || {
            let left = self.fleet.left_over(&self.redis)?;
            holds(left.is_empty(), format_args!("left: {left:?}"))
        })
    }

    /// What arrived, against what was accepted.
    pub(crate) fn count(&self) -> Result<Measured> {
        let seen = self.sink.seen();
        let mut times: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut returned: BTreeMap<(&str, &str), HashSet<&str>> = BTreeMap::new();
        for arrival in &seen.arrivals {
            for recipient in &arrival.recipients {
                *times.entry((&arrival.queue_id, recipient)).or_default() += 1;
            }
            if let Content::Notification { original, failed } = &arrival.content {
                for recipient in failed {
                    let all = returned.entry((original, recipient)).or_default();
                    all.insert(&arrival.queue_id);
                }
            }
        }
        let mut measured = Measured {
            // The copy that a client sent because nobody answered it.
            duplicated: self.again_arrived(&times),
            ..Measured::default()
        };
        for (id, recipients) in &self.accepted {
            for recipient in recipients {
                let key = (id.as_str(), recipient.as_str());
                let notifications = returned.get(&key).map_or(0, HashSet::len);
                ensure!(
                    notifications <= 1,
                    "{notifications} notifications of {key:?}"
                );
                let fails = recipient.starts_with("refuse");
                ensure!(
                    fails == (notifications == 1),
                    "{key:?}: {notifications} notifications"
                );
                if !times.contains_key(&key) && notifications == 0 {
                    measured.lost += 1;
                }
            }
        }
        measured.duplicated += times.values().map(|times| times - 1).sum::<usize>();
        if let Some((at, name)) = &self.lost {
            let by_others = seen.arrivals.iter();
            let by_others = by_others.filter(|arrival| arrival.relay != *name && arrival.at >= *at);
            let first = by_others.map(|arrival| arrival.at - at).min();
            measured.took = first.map(Duration::from_millis);
        }
        Ok(measured)
    }

    /// How many messages arrived that no client was told of.
    fn again_arrived(&self, times: &BTreeMap<(&str, &str), usize>) -> usize {
        let known: HashSet<&str> = self.accepted.iter().map(|(id, _)| id.as_str()).collect();
        let of_load = |recipient: &str| !recipient.ends_with("@sender.example");
        let unknown = times.keys().filter(|(id, _)| !known.contains(id));
        unknown.filter(|(_, recipient)| of_load(recipient)).count()
    }

    /// How long anything may take.
    pub(crate) fn limit(&self) -> Duration {
        self.lease * 4 + Duration::from_secs(15)
    }
}

fn recipients(index: u32, fates: &[&str]) -> Vec<String> {
    let mut domain = 0;
    let mut all = Vec::new();
    for (position, fate) in fates.iter().enumerate() {
        let word = match fate.strip_prefix('@') {
            Some(word) => {
                domain += 1;
                word
            }
            None => fate,
        };
        all.push(format!("{word}-{index}-{position}@d{domain}.example"));
    }
    all
}

async fn deliver(port: u16, index: u32, to: Vec<String>) -> String {
    let message = Message::small("crash", 8 + 64 * index);
    let sent = async {
        let mut connection = Connection::open(&account(port)).await?;
        let to: Vec<_> = to.iter().map(String::as_str).collect();
        connection
            .send_to(&format!("load-{index}@sender.example"), &to, &message)
            .await
    };
    let reply = sent.await;
    reply.unwrap_or_else(|error| format!("connection: {error:#}"))
}
