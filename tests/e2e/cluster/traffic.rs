//! Mail through the relay: byte for byte, from the record, and past the death of pods.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kurier_test::load::Attempt;
use kurier_test::receive::Arrival;

use super::accounts::{Done, Load, run_named};
use super::fleet::{MINUTE, RELAY, RELAY_OBJECT, installed, relay_pods};
use super::kubernetes::{MAIL, Pod, lines, logs, metric, patch, wait_until_gone};
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
    // One that leaves may deliver some of the mail, and takes its log along.
    wait_until_gone(RELAY, 2 * MINUTE)?;
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
    super::trace::each_message_is_one_trace(&accepted)?;
    super::log_lines::name_each_trace(&accepted, "250 2.0.0 taken")
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

/// A pod that accepts and may not claim, until this is dropped.
struct Acceptor<'a> {
    pod: &'a Pod,
    forward: Forward,
}

impl<'a> Acceptor<'a> {
    fn new(pod: &'a Pod) -> Result<Self> {
        let acceptor = Self {
            pod,
            forward: Forward::open(pod)?,
        };
        acceptor.set_claiming(false)?;
        eventually("the acceptor holds no claim", MINUTE, || {
            let claims = metric(pod, "kurier_queue_claims", "")?;
            holds(claims == 0.0, format_args!("{} has {claims}", pod.name))
        })?;
        Ok(acceptor)
    }

    fn set_claiming(&self, enabled: bool) -> Result<()> {
        let body = format!(r#"{{"enabled": {enabled}}}"#);
        http::request("PUT", &self.forward.address, "/v1/claiming", &body)?;
        Ok(())
    }

    fn delivered(&self) -> Result<f64> {
        metric(
            self.pod,
            "kurier_deliveries_total",
            r#"outcome="delivered""#,
        )
    }
}

impl Drop for Acceptor<'_> {
    fn drop(&mut self) {
        // The tests that come need it; they say so themselves where this fails.
        let _ = self.set_claiming(true);
    }
}

#[test]
fn c_what_some_pods_accept_another_delivers_from_the_record() -> Result<()> {
    installed()?;
    let pods = relay_pods(3)?;
    let acceptors: Vec<_> = pods.iter().map(Acceptor::new).collect::<Result<_>>()?;
    let delivered = || -> Result<Vec<f64>> { acceptors.iter().map(Acceptor::delivered).collect() };
    let before = delivered()?;
    let run = run_named("record");
    let load = Load::start(&run, &["--messages", "1000"])?;
    let accepted = completed(&load.finish(3 * MINUTE)?, 1000)?;
    let early = arrivals("receiver-first", &run)?.len();
    ensure!(early == 0, "{early} were delivered by those who may not");
    // Whoever has seen the messages may not claim them; who may has never seen them.
    let outcome = (|| {
        patch(RELAY_OBJECT, r#"{"spec": {"replicas": 4}}"#)?;
        all_arrived("receiver-first", &run, &accepted, 2 * MINUTE)?;
        let after = delivered()?;
        ensure!(
            after == before,
            "the acceptors had delivered {before:?}, and then {after:?}"
        );
        super::trace::delivered_elsewhere(&accepted, &pods)
    })();
    // Also when that failed: other tests count on three pods that claim.
    drop(acceptors);
    patch(RELAY_OBJECT, r#"{"spec": {"replicas": 3}}"#)?;
    relay_pods(3)?;
    outcome
}
