//! Messages that come to no good: their sender is told, and one trace tells why.

use anyhow::{Result, ensure};
use kurier_test::receive::Arrival;

use super::accounts::{Load, run_named};
use super::fleet::{MINUTE, RELAY_OBJECT, installed, relay_pods, set_mode};
use super::kubernetes::{MAIL, apply, condition, kubectl, lines, logs, patch};
use super::log_lines;
use super::operations::route_programmed;
use super::trace;
use super::traffic::{arrivals, completed};
use crate::eventually::{eventually, holds};

/// Where the senders have their mail.
const SENDERS: &str = "apiVersion: kurier.dev/v1alpha1
kind: MailRoute
metadata: {name: senders}
spec:
  parentRefs: [{name: outbound}]
  rules:
  - name: second
    match: {recipientDomains: [\"example.com\"]}
    action: {type: Smarthost, smarthost: {host: receiver-second, port: 25}}
";

#[test]
fn a_refused_message_is_one_trace_until_its_sender_is_told() -> Result<()> {
    installed()?;
    come_to_no_good("refused", r#"{"refuse": true}"#, "550 5.1.1")
}

#[test]
fn an_expired_message_is_one_trace_until_its_sender_is_told() -> Result<()> {
    installed()?;
    let lifetime = |value: &str| {
        patch(
            RELAY_OBJECT,
            &format!(r#"{{"spec": {{"queue": {{"lifetime": {value}}}}}}}"#),
        )?;
        condition(RELAY_OBJECT, "Programmed", "True", MINUTE)
    };
    // Longer than the first pause, so that there is more than one attempt.
    lifetime(r#""8s""#)?;
    let outcome = come_to_no_good("expired", r#"{"defer": true}"#, "450 4.2.1");
    // Also when that failed: other tests' mail is to live longer.
    lifetime("null")?;
    outcome
}

/// Some messages are answered so by their next hop, and never otherwise.
fn come_to_no_good(what: &str, mode: &str, answer: &str) -> Result<()> {
    relay_pods(3)?;
    apply(MAIL, SENDERS)?;
    route_programmed("mailroute/senders", MINUTE)?;
    set_mode("receiver-first", mode)?;
    let outcome = told(&run_named(what), answer);
    set_mode("receiver-first", "{}")?;
    kubectl(&["delete", "--namespace", MAIL, "mailroute/senders"])?;
    outcome
}

fn told(run: &str, answer: &str) -> Result<()> {
    let sender = format!("{run}@example.com");
    let load = Load::start(run, &["--messages", "4", "--from", &sender])?;
    let accepted = completed(&load.finish(MINUTE)?, 4)?;
    let notified = eventually("the sender is told of each", MINUTE, || {
        let log = logs("deployment/receiver-second")?;
        let mut all = lines::<Arrival>(&log);
        all.retain(|arrival| arrival.forward_paths == [sender.as_str()]);
        holds(all.len() >= accepted.len(), format_args!("{all:#?}"))?;
        Ok(all)
    })?;
    ensure!(notified.len() == accepted.len(), "too often: {notified:#?}");
    // RFC 5321 §4.5.5
    ensure!(
        notified
            .iter()
            .all(|arrival| arrival.reverse_path.is_empty()),
        "a notification that could be answered: {notified:#?}"
    );
    let arrived = arrivals("receiver-first", run)?;
    ensure!(arrived.is_empty(), "delivered all the same: {arrived:#?}");

    trace::each_bounce_is_one_trace(&accepted, answer.split(' ').next().unwrap_or_default())?;
    log_lines::name_each_trace(&accepted, answer)
}
