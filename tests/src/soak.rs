//! The soak: three relay processes of one queue on a real Redis, under load, while one thing after
//! the other breaks; and the verdict on what became of every message.
//!
//! 1. the `fleet` is started: Redis, the `sink`, the relays, each of them the real program;
//! 2. the `load` begins, each message with a `fate` that the sink reads in its recipients;
//! 3. the `faults` come, in an order that is a function of the seed;
//! 4. the load ends when there are enough messages and no faults left, and the queue drains;
//! 5. the `verdict` compares what was answered with what arrived, and the `report` tells.
//!
//! Nothing of this knows more of the relay than its ports, its management API and, for claim sets
//! and what is left over in the end, the names of its keys in Redis.

pub(crate) mod fate;
mod faults;
pub(crate) mod fleet;
pub(crate) mod load;
mod report;
pub(crate) mod sink;
mod verdict;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use self::faults::{Counts, Driver};
use self::fleet::Fleet;
use self::load::Load;
use self::sink::Sink;
use crate::eventually::{eventually, holds};
use crate::process::kurier;
use crate::receive::now;
use crate::redis::Redis;

pub use self::report::Report;

#[derive(clap::Args, Clone, Debug)]
pub struct Settings {
    /// How long load and faults go on, at most; draining and the verdict come on top.
    #[arg(long, default_value_t = 5)]
    pub minutes: u32,
    /// How many messages are accepted at least.
    #[arg(long, default_value_t = 20_000)]
    pub messages: u32,
    /// How many relay processes are killed.
    #[arg(long, default_value_t = 10)]
    pub kills: u32,
    /// How many are stopped for longer than the lease [default: a fifth of the kills].
    #[arg(long)]
    pub stops: Option<u32>,
    /// How often each thing happens to Redis [default: a tenth of the kills].
    #[arg(long)]
    pub outages: Option<u32>,
    /// Of everything that is left to chance.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The lease; the other times are in proportion.
    #[arg(long, default_value_t = 3_000)]
    pub lease_milliseconds: u32,
    /// Where configurations, logs and Redis' files go, and stay [default: a folder that goes].
    #[arg(long)]
    pub keep: Option<PathBuf>,
    /// Write the report here, too.
    #[arg(long)]
    pub report: Option<PathBuf>,
}

impl Settings {
    fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_milliseconds.into())
    }

    fn counts(&self) -> Counts {
        let outages = self.outages.unwrap_or_else(|| (self.kills / 10).max(1));
        Counts {
            kills: self.kills,
            stops: self.stops.unwrap_or_else(|| (self.kills / 5).max(2)),
            outages,
        }
    }
}

/// Runs the whole of it; `progress` hears of every step.
///
/// # Errors
/// When it cannot be run to its end. What the relays did wrong is in the report.
pub fn run(settings: &Settings, progress: impl Fn(&str)) -> Result<Report> {
    let temporary = tempfile::tempdir()?;
    let folder = settings
        .keep
        .clone()
        .unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let began = now();
    let mut redis = Redis::start(&folder)?;
    let sink = Arc::new(Sink::start(&runtime)?);
    let mut fleet = Fleet::new(
        kurier()?,
        &folder,
        vec![redis.port(); RELAYS],
        &sink,
        settings.lease(),
    )?;
    for slot in 0..RELAYS {
        fleet.start(slot)?;
    }
    let load = Arc::new(Load::new(settings, fleet.ports()));
    load.start(&runtime);
    let driver = Driver {
        settings,
        fleet: &mut fleet,
        redis: &mut redis,
        sink: &sink,
        load: &load,
        began,
        progress: &progress,
    };
    let faults = driver.run();
    load.faults_are_over();
    let faults = faults?;
    progress("no more faults; the load ends");
    let given = Duration::from_secs(60 * u64::from(settings.minutes) + 60);
    let left = given.saturating_sub(Duration::from_millis(now() - began));
    eventually("everything is accepted", left.max(MINUTE), || {
        let waiting = load.waiting();
        holds(waiting == 0, format_args!("{waiting} are not accepted"))
    })?;
    progress("everything is accepted; the queue drains");
    let drained = eventually("the queue drains", 2 * MINUTE, || {
        let queued = fleet.queued(&redis)?;
        holds(
            queued.is_empty(),
            format_args!("{} are queued", queued.len()),
        )
    });
    let queued = fleet.queued(&redis)?;
    // Claim sets of the dead are gone a lease after the last of them died.
    let left_over = eventually(
        "nothing is left over",
        2 * settings.lease() + MINUTE / 6,
        || {
            let keys = fleet.left_over(&redis)?;
            holds(keys.is_empty(), format_args!("left in Redis: {keys:?}"))
        },
    );
    let ended = fleet.end();
    let evidence = verdict::Evidence {
        seed: settings.seed,
        lease: settings.lease(),
        submissions: load.submissions(),
        sunk: sink.seen(),
        events: faults,
        queued,
    };
    let mut report = Report::of(settings, &evidence, verdict::judge(&evidence));
    report.took = Duration::from_millis(now() - began);
    for step in [drained, left_over, ended] {
        if let Err(error) = step {
            report.failures.push(format!("{error:#}"));
        }
    }
    ensure!(!evidence.events.is_empty(), "nothing happened");
    if let Some(path) = &settings.report {
        std::fs::write(path, report.to_string()).with_context(|| path.display().to_string())?;
    }
    Ok(report)
}

const RELAYS: usize = 3;
const MINUTE: Duration = Duration::from_secs(60);
