//! Pods killed, deleted and stopped under load, counted exactly: lost is what was answered 250 and
//! did not arrive, and every duplicate belongs to one kill. They run in the cluster, too.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use kurier_test::submit::Connection;

use crate::cluster::accounts::{Load, account_at, queue_id, run_named};
use crate::cluster::fleet::{MINUTE, RELAY, installed, relay_pods, set_mode};
use crate::cluster::kubernetes::{
    MAIL, Pod, kubectl, metric, process_of, ready_pods, redis, signal,
};
use crate::cluster::trace;
use crate::cluster::traffic::{Forward, all_arrived, completed};
use crate::eventually::{eventually, holds};
use crate::http;

/// What a worker holds in Redis: the queue ids of its claims.
fn claims_in_redis(worker: &str) -> Result<BTreeSet<String>> {
    let key = format!("mr:{{{MAIL}.outbound:0}}:c:{worker}");
    let handles = redis(&["zrange", &key, "0", "-1"])?;
    Ok(handles
        .lines()
        .filter_map(|handle| Some(handle.split('.').next()?.to_owned()))
        .collect())
}

fn unix_milliseconds() -> u64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

#[test]
fn a_deleted_and_a_killed_pod_lose_nothing() -> Result<()> {
    installed()?;
    let pods = relay_pods(3)?;
    let (victim, leaver) = (&pods[0], &pods[1]);
    // Long enough for the victim to hold what it claims until it is killed.
    set_mode("receiver-first", r#"{"delayMilliseconds": 30000}"#)?;
    let run = run_named("kill");
    let load = Load::start(&run, &["--messages", "1000", "--connections", "20"])?;
    let runtime = tokio::runtime::Runtime::new()?;
    let account = account_at(victim)?;
    let mut open = runtime.block_on(async {
        let mut connection = Connection::open(&account).await?;
        connection
            .open_data("load@example.com", "sink@receiver.example")
            .await?;
        anyhow::Ok(connection)
    })?;
    kubectl(&[
        "delete",
        "pod",
        "--namespace",
        MAIL,
        "--wait=false",
        &leaver.name,
    ])?;
    let forward = Forward::open(victim)?;
    let (process, worker) = (process_of(victim, "kurier")?, worker_id(&forward)?);
    eventually("the victim is worth killing", 2 * MINUTE, || {
        worth_killing(victim)
    })?;
    // What it has told the Collector outlives it: a take-over is to be seen in one trace.
    let told = eventually(
        "the Collector has seen what the victim accepted and holds",
        MINUTE,
        || {
            let (held, seen) = (claims_in_redis(&worker)?, trace::received_by(&victim.name)?);
            let known = held.intersection(&seen).count();
            holds(known >= 5, format_args!("{known} of {}", held.len()))?;
            Ok(seen)
        },
    )?;
    worth_killing(victim)?;
    // Stopped first, so that what it holds can be read before it is gone.
    signal(process, "STOP")?;
    let in_flight = claims_in_redis(&worker)?;
    ensure!(
        runtime.block_on(open.is_silent()),
        "the open DATA ended before the kill"
    );
    let killed_at = unix_milliseconds();
    signal(process, "KILL")?;
    runtime.block_on(open.closed());
    println!("killed {} with {} claims", victim.name, in_flight.len());
    ensure!(
        in_flight.len() >= CLAIMS,
        "killed with {} claims: it proves little",
        in_flight.len()
    );
    let told: BTreeSet<_> = in_flight.intersection(&told).cloned().collect();
    ensure!(told.len() >= 5, "of {told:?} only, the trace began before");
    set_mode("receiver-first", "{}")?;

    let done = load.finish(4 * MINUTE)?;
    let accepted = completed(&done, 1000)?;
    let arrived = all_arrived("receiver-first", &run, &accepted, 2 * MINUTE)?;
    let mut doubled = 0;
    let mut taken_over = 0;
    for (id, attempt) in &accepted {
        let (own, copies) = (queue_id(attempt)?, &arrived[id]);
        // A client that heard no reply sends again: that is another message (RFC 1047).
        let resubmitted = done
            .attempts
            .iter()
            .filter(|other| other.id == *id && other.reply.starts_with("connection:"));
        let ids: BTreeSet<_> = copies.iter().map(|copy| copy.queue_id.as_str()).collect();
        ensure!(
            ids.contains(own.as_str()) && ids.len() <= 1 + resubmitted.count(),
            "{id} was accepted as {own}, and there are: {copies:#?}"
        );
        for queue_id in &ids {
            let times = copies
                .iter()
                .filter(|copy| copy.queue_id == *queue_id)
                .count();
            let held = in_flight.contains(*queue_id);
            ensure!(
                times == 1 || held,
                "{id} was doubled and not in flight: {copies:#?}"
            );
            doubled += times - 1;
        }
        if in_flight.contains(&own) {
            let last = copies
                .iter()
                .map(|copy| copy.unix_milliseconds)
                .max()
                .unwrap_or_default();
            let late = last.saturating_sub(killed_at);
            ensure!(late <= 60_000, "{id} was taken over only after {late} ms");
            taken_over += 1;
        }
    }
    println!("lost 0, doubled {doubled}, taken over {taken_over}");
    ensure!(taken_over > 0, "nothing of this load was in flight");
    trace::taken_over(&told, &victim.name)?;
    println!("{} of them seen as one trace through both pods", told.len());
    relay_pods(3)?;
    Ok(())
}

/// How much a victim must hold.
const CLAIMS: usize = 20;

/// Whether a pod holds claims and is in the middle of somebody's DATA.
fn worth_killing(pod: &Pod) -> Result<()> {
    let claims = metric(pod, "kurier_queue_claims", "")?;
    let data = metric(pod, "kurier_smtp_open_transactions", r#"phase="data""#)?;
    holds(
        claims >= CLAIMS as f64 && data >= 1.0,
        format_args!("{claims} claims, {data} in DATA"),
    )
}

fn worker_id(forward: &Forward) -> Result<String> {
    let queue: serde_json::Value =
        serde_json::from_str(&http::request("GET", &forward.address, "/v1/queue", "")?)?;
    Ok(queue["worker"]
        .as_str()
        .with_context(|| format!("no worker in {queue}"))?
        .to_owned())
}

/// A process that goes on when this is dropped.
struct Stopped(u32);

impl Stopped {
    fn now(process: u32) -> Result<Self> {
        signal(process, "STOP")?;
        Ok(Self(process))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = signal(self.0, "CONT");
    }
}

/// Spans of all relay pods, as they count them.
struct Spans {
    recorded: f64,
    exported: f64,
    dropped: f64,
}

fn spans(pods: &[Pod]) -> Result<Spans> {
    let all = |what: &str| -> Result<f64> {
        let name = format!("kurier_trace_spans_{what}_total");
        pods.iter().map(|pod| metric(pod, &name, "")).sum()
    };
    Ok(Spans {
        recorded: all("recorded")?,
        exported: all("exported")?,
        dropped: all("dropped")?,
    })
}

/// Messages a second, over a load as fast as it goes, of which everything has arrived in the end.
fn rate(what: &str) -> Result<f64> {
    let run = run_named(what);
    let messages = MEASURED.to_string();
    let done = Load::start(&run, &["--messages", &messages])?.finish(2 * MINUTE)?;
    let accepted = completed(&done, MEASURED)?;
    all_arrived("receiver-first", &run, &accepted, MINUTE)?;
    Ok(f64::from(done.summary.accepted) / done.summary.seconds)
}

/// Enough for some seconds.
const MEASURED: usize = 1500;
/// An odd number, so that one is the median.
const PAIRS: usize = 7;

#[test]
fn a_stopped_collector_does_not_slow_mail() -> Result<()> {
    installed()?;
    let pods = relay_pods(3)?;
    let collector = ready_pods("app=otel-collector")?
        .pop()
        .context("no Collector")?;
    let process = process_of(&collector, "otelcol")?;
    let free = || -> Result<f64> {
        // Nor is it to be slowed by what the Collector missed before.
        eventually("no span waits", MINUTE, || {
            let spans = spans(&pods)?;
            let waiting = spans.recorded - spans.exported - spans.dropped;
            holds(waiting <= 0.0, format_args!("{waiting} wait"))
        })?;
        let before = spans(&pods)?.exported;
        let rate = rate("free")?;
        eventually("the Collector takes spans", MINUTE, || {
            let exported = spans(&pods)?.exported - before;
            holds(exported >= MEASURED as f64, format_args!("{exported}"))
        })?;
        Ok(rate)
    };
    let stopped = || -> Result<f64> {
        let before = spans(&pods)?.dropped;
        let _stopped = Stopped::now(process)?;
        let rate = rate("stopped")?;
        eventually("dropped spans are counted", MINUTE, || {
            holds(spans(&pods)?.dropped > before, "none was counted")
        })?;
        Ok(rate)
    };
    rate("warm")?;
    let mut ratios = Vec::new();
    for pair in 0..PAIRS {
        // The order alternates, so that neither is always the one that comes later.
        let (free, stopped) = if pair % 2 == 0 {
            let free = free()?;
            (free, stopped()?)
        } else {
            let stopped = stopped()?;
            (free()?, stopped)
        };
        println!("{free:.0}/s with the Collector, {stopped:.0}/s with it stopped");
        ratios.push(stopped / free);
    }
    ratios.sort_by(f64::total_cmp);
    ensure!(
        ratios[PAIRS / 2] >= 0.9,
        "the ratios of {PAIRS} pairs: {ratios:?}"
    );
    ensure!(ready_pods(RELAY)?.len() == 3, "a relay pod is not ready");
    Ok(())
}
