//! Mail through the relay: byte for byte, from the record, and past the death of pods.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use kurier_test::load::{self, Attempt};
use kurier_test::receive::Arrival;
use kurier_test::submit::Connection;

use super::accounts::{Done, Load, account_at, queue_id};
use super::fleet::{MINUTE, RELAY, installed, relay_pods, set_mode};
use super::kubernetes::{
    MAIL, Pod, http, kubectl, lines, logs, metric, process_of, ready_pods, signal,
};
use crate::eventually::{eventually, holds};

/// What a receiver logged of one run, by message id.
pub(crate) fn arrivals(receiver: &str, run: &str) -> Result<BTreeMap<String, Vec<Arrival>>> {
    let mut found: BTreeMap<String, Vec<Arrival>> = BTreeMap::new();
    let prefix = format!("{run}-");
    for arrival in lines::<Arrival>(&logs(&format!("deployment/{receiver}"))?) {
        if arrival.id.starts_with(&prefix) {
            found.entry(arrival.id.clone()).or_default().push(arrival);
        }
    }
    Ok(found)
}

/// Waits until everything accepted has arrived, and compares each body.
pub(crate) fn all_arrived(
    receiver: &str,
    run: &str,
    accepted: &BTreeMap<String, Attempt>,
    limit: Duration,
) -> Result<BTreeMap<String, Vec<Arrival>>> {
    let arrived = eventually(&format!("run {run} arrives at {receiver}"), limit, || {
        let arrived = arrivals(receiver, run)?;
        let missing: Vec<_> = accepted
            .keys()
            .filter(|id| !arrived.contains_key(*id))
            .collect();
        holds(
            missing.is_empty(),
            format_args!("{} missing: {missing:?}", missing.len()),
        )?;
        Ok(arrived)
    })?;
    for (id, attempt) in accepted {
        for arrival in &arrived[id] {
            ensure!(
                arrival.sha256 == attempt.sha256,
                "{id} was altered: {arrival:?}"
            );
        }
    }
    Ok(arrived)
}

fn duplicates(arrived: &BTreeMap<String, Vec<Arrival>>) -> Vec<&String> {
    arrived
        .iter()
        .filter(|(_, all)| all.len() > 1)
        .map(|(id, _)| id)
        .collect()
}

fn completed(done: &Done, messages: usize) -> Result<BTreeMap<String, Attempt>> {
    let accepted = done.accepted();
    ensure!(
        accepted.len() == messages,
        "{} of {messages} accepted",
        accepted.len()
    );
    Ok(accepted)
}

#[test]
fn b_a_thousand_messages_arrive_byte_for_byte() -> Result<()> {
    installed()?;
    let pods = relay_pods(3)?;
    let load = Load::start("exact", &["--messages", "1000"])?;
    let done = load.finish(3 * MINUTE)?;
    println!(
        "{} messages in {:.1} s",
        done.summary.accepted, done.summary.seconds
    );
    let accepted = completed(&done, 1000)?;
    let arrived = all_arrived("receiver-first", "exact", &accepted, MINUTE)?;
    ensure!(
        duplicates(&arrived).is_empty(),
        "doubled: {:?}",
        duplicates(&arrived)
    );
    for pod in &pods {
        let count = metric(pod, "kurier_messages_accepted_total", "")?;
        ensure!(
            count > 0.0,
            "{} accepted nothing: the Service does not spread",
            pod.name
        );
    }
    super::trace::each_message_is_one_trace(&accepted)
}

/// A port-forward to a pod's management endpoint, as an operator would open it.
struct Forward {
    process: Child,
    address: String,
}

impl Forward {
    fn open(pod: &Pod) -> Result<Self> {
        use std::io::BufRead as _;
        let mut process = Command::new("kubectl")
            .args([
                "port-forward",
                "--namespace",
                MAIL,
                &format!("pod/{}", pod.name),
                ":8025",
            ])
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().context("standard output is piped")?;
        let line = std::io::BufReader::new(output)
            .lines()
            .next()
            .context("no port-forward")??;
        let address = line
            .split_whitespace()
            .nth(2)
            .context("an odd port-forward")?
            .to_owned();
        Ok(Self { process, address })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Submits to one pod, from this process.
fn submit_at(pod: &Pod, run: &str, messages: u32) -> Result<BTreeMap<String, Attempt>> {
    let attempts: std::sync::Arc<std::sync::Mutex<Vec<Attempt>>> = std::sync::Arc::default();
    let log = attempts.clone();
    let settings = load::Settings {
        run: run.to_owned(),
        messages,
        connections: 4,
        per_connection: 100,
        from: "load@example.com".to_owned(),
        to: "sink@receiver.example".to_owned(),
        traces: true,
        retries: 0,
    };
    let account = account_at(pod)?;
    let report = move |attempt: &Attempt| {
        log.lock().expect("no panic holds it").push(attempt.clone());
    };
    let summary = tokio::runtime::Runtime::new()?.block_on(load::run(account, settings, report))?;
    let attempts = std::mem::take(&mut *attempts.lock().expect("no panic holds it"));
    completed(&Done { attempts, summary }, messages as usize)
}

#[test]
fn c_what_one_pod_accepts_another_delivers_from_the_record() -> Result<()> {
    installed()?;
    let pods = relay_pods(3)?;
    let acceptor = pods.first().context("a pod")?;
    let forward = Forward::open(acceptor)?;
    http(
        "PUT",
        &forward.address,
        "/v1/claiming",
        r#"{"enabled": false}"#,
    )?;
    let delivered = |pod: &Pod| metric(pod, "kurier_deliveries_total", r#"outcome="delivered""#);
    let before = eventually("the acceptor holds no claim", MINUTE, || {
        holds(
            metric(acceptor, "kurier_queue_claims", "")? == 0.0,
            "it still holds claims",
        )?;
        delivered(acceptor)
    })?;
    let accepted = submit_at(acceptor, "record", 100)?;
    all_arrived("receiver-first", "record", &accepted, MINUTE)?;
    let after = delivered(acceptor)?;
    ensure!(
        after.total_cmp(&before).is_eq(),
        "the acceptor delivered {}",
        after - before
    );
    http(
        "PUT",
        &forward.address,
        "/v1/claiming",
        r#"{"enabled": true}"#,
    )?;
    super::trace::delivered_elsewhere(&accepted, &acceptor.name)
}

/// What a worker holds in Redis: the queue ids of its claims.
fn claims_in_redis(worker: &str) -> Result<BTreeSet<String>> {
    let key = format!("mr:{{{MAIL}.outbound:0}}:c:{worker}");
    let handles = kubectl(&[
        "exec",
        "--namespace",
        MAIL,
        "deployment/redis",
        "--",
        "redis-cli",
        "zrange",
        &key,
        "0",
        "-1",
    ])?;
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
fn d_a_deleted_and_a_killed_pod_lose_nothing() -> Result<()> {
    installed()?;
    let pods = relay_pods(3)?;
    let (victim, leaver) = (&pods[0], &pods[1]);
    set_mode("receiver-first", r#"{"delayMilliseconds": 400}"#)?;
    let load = Load::start("kill", &["--messages", "1000", "--connections", "20"])?;
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
    eventually(
        "the victim has 20 claims and an open DATA",
        2 * MINUTE,
        || {
            let claims = metric(victim, "kurier_queue_claims", "")?;
            let data = metric(victim, "kurier_smtp_open_transactions", r#"phase="data""#)?;
            holds(
                claims >= 20.0 && data >= 1.0,
                format_args!("{claims} claims, {data} in DATA"),
            )
        },
    )?;
    // Stopped first, so that what it holds can be read before it is gone.
    signal(process, "STOP")?;
    let in_flight = claims_in_redis(&worker)?;
    let killed_at = unix_milliseconds();
    signal(process, "KILL")?;
    runtime.block_on(open.closed());
    println!("killed {} with {} claims", victim.name, in_flight.len());
    ensure!(
        in_flight.len() >= 20,
        "killed with {} claims: it proves little",
        in_flight.len()
    );
    set_mode("receiver-first", "{}")?;

    let accepted = completed(&load.finish(4 * MINUTE)?, 1000)?;
    let arrived = all_arrived("receiver-first", "kill", &accepted, 2 * MINUTE)?;
    let mut doubled = 0;
    let mut taken_over = BTreeMap::new();
    for (id, attempt) in &accepted {
        let queue_id = queue_id(attempt)?;
        let copies = &arrived[id];
        let held = in_flight.contains(&queue_id);
        ensure!(
            copies.len() == 1 || held,
            "{id} was doubled and not in flight: {copies:?}"
        );
        doubled += copies.len() - 1;
        if held {
            let last = copies
                .iter()
                .map(|copy| copy.unix_milliseconds)
                .max()
                .unwrap_or_default();
            let late = last.saturating_sub(killed_at);
            ensure!(late <= 60_000, "{id} was taken over only after {late} ms");
            taken_over.insert(id.clone(), attempt.clone());
        }
    }
    println!("lost 0, doubled {doubled}, taken over {}", taken_over.len());
    ensure!(!taken_over.is_empty(), "nothing of this load was in flight");
    super::trace::each_message_is_one_trace(&accepted)?;
    super::trace::taken_over_by_another_pod(&taken_over)?;
    relay_pods(3)?;
    Ok(())
}

fn worker_id(forward: &Forward) -> Result<String> {
    let queue: serde_json::Value =
        serde_json::from_str(&http("GET", &forward.address, "/v1/queue", "")?)?;
    Ok(queue["worker"]
        .as_str()
        .with_context(|| format!("no worker in {queue}"))?
        .to_owned())
}

#[test]
fn e_a_stopped_collector_does_not_slow_mail() -> Result<()> {
    installed()?;
    let pods = relay_pods(3)?;
    let dropped = || -> Result<f64> {
        pods.iter()
            .map(|pod| metric(pod, "kurier_trace_spans_dropped_total", ""))
            .sum()
    };
    let collector = ready_pods("app=otel-collector")?
        .pop()
        .context("no Collector")?;
    let process = process_of(&collector, "otelcol")?;
    let mut ratios = Vec::new();
    for pair in 0..3 {
        let rate = |name: String| -> Result<f64> {
            let done = Load::start(&name, &["--messages", "600"])?.finish(3 * MINUTE)?;
            Ok(f64::from(done.summary.accepted) / done.summary.seconds)
        };
        let free = rate(format!("free{pair}"))?;
        let before = dropped()?;
        signal(process, "STOP")?;
        let stopped = rate(format!("stopped{pair}"));
        let counted = eventually("dropped spans are counted", MINUTE, || {
            holds(dropped()? > before, "none was counted")
        });
        signal(process, "CONT")?;
        let stopped = stopped?;
        counted?;
        println!("{free:.0}/s with the Collector, {stopped:.0}/s with it stopped");
        ratios.push(stopped / free);
    }
    ratios.sort_by(f64::total_cmp);
    ensure!(ratios[1] >= 0.9, "the ratios of three pairs: {ratios:?}");
    ensure!(ready_pods(RELAY)?.len() == 3, "a relay pod is not ready");
    Ok(())
}
