//! Mail through the relay: byte for byte, from the record, and past the death of pods.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kurier_test::load::{self, Attempt};
use kurier_test::receive::Arrival;

use super::accounts::{Done, Load, account_at, run_named};
use super::fleet::{MINUTE, installed, relay_pods};
use super::kubernetes::{MAIL, Pod, lines, logs, metric};
use crate::eventually::{eventually, holds};
use crate::http;

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

pub(crate) fn completed(done: &Done, messages: usize) -> Result<BTreeMap<String, Attempt>> {
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
    let run = run_named("exact");
    let load = Load::start(&run, &["--messages", "1000"])?;
    let done = load.finish(3 * MINUTE)?;
    println!(
        "{} messages in {:.1} s",
        done.summary.accepted, done.summary.seconds
    );
    let accepted = completed(&done, 1000)?;
    let arrived = all_arrived("receiver-first", &run, &accepted, MINUTE)?;
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
pub(crate) struct Forward {
    process: Child,
    pub(crate) address: String,
    /// kubectl reports each connection there, and ends when it cannot.
    _output: std::io::BufReader<std::process::ChildStdout>,
}

impl Forward {
    pub(crate) fn open(pod: &Pod) -> Result<Self> {
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
        let mut output = std::io::BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let address = line
            .split_whitespace()
            .nth(2)
            .context("an odd port-forward")?
            .to_owned();
        Ok(Self {
            process,
            address,
            _output: output,
        })
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
        pace_milliseconds: 0,
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
    http::request(
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
    let run = run_named("record");
    let accepted = submit_at(acceptor, &run, 100)?;
    all_arrived("receiver-first", &run, &accepted, MINUTE)?;
    let after = delivered(acceptor)?;
    ensure!(
        after.total_cmp(&before).is_eq(),
        "the acceptor delivered {}",
        after - before
    );
    http::request(
        "PUT",
        &forward.address,
        "/v1/claiming",
        r#"{"enabled": true}"#,
    )?;
    super::trace::delivered_elsewhere(&accepted, &acceptor.name)
}
