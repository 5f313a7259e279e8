//! What the Collector handed on, asked by message.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use kurier_test::collect::Span;
use kurier_test::load::Attempt;

use super::accounts::queue_id;
use super::fleet::MINUTE;
use super::kubernetes::{Pod, lines, logs};
use crate::eventually::eventually;

/// The attribute that names the message, and the one that names the pod.
const QUEUE_ID: &str = "kurier.queue_id";
const POD: &str = "k8s.pod.name";

pub(crate) type Spans = BTreeMap<String, Vec<Span>>;

pub(crate) fn by_queue_id() -> Result<Spans> {
    let mut found = Spans::new();
    for span in lines::<Span>(&logs("deployment/spans")?) {
        if let Some(id) = span.attributes.get(QUEUE_ID) {
            found.entry(id.clone()).or_default().push(span);
        }
    }
    Ok(found)
}

/// Waits until every message satisfies the check; spans come in batches.
fn check(
    accepted: &BTreeMap<String, Attempt>,
    one: impl Fn(&Attempt, &[Span]) -> Result<()>,
) -> Result<()> {
    check_among(accepted, |attempt, own, _| one(attempt, own))
}

/// As [`check`], beside the spans of all other messages.
fn check_among(
    accepted: &BTreeMap<String, Attempt>,
    one: impl Fn(&Attempt, &[Span], &Spans) -> Result<()>,
) -> Result<()> {
    let mut attempts = BTreeMap::new();
    for attempt in accepted.values() {
        attempts.insert(queue_id(attempt)?, attempt);
    }
    each(attempts.keys(), |id, own, all| {
        one(attempts[id], own, all).with_context(|| format!("message {}", attempts[id].id))
    })
}

/// As [`check_among`], by queue id.
fn each<'a>(
    ids: impl Iterator<Item = &'a String> + Clone,
    one: impl Fn(&str, &[Span], &Spans) -> Result<()>,
) -> Result<()> {
    eventually("the spans of every message", MINUTE, || {
        let spans = by_queue_id()?;
        for id in ids.clone() {
            let own = spans.get(id).map_or(&[][..], Vec::as_slice);
            one(id, own, &spans).with_context(|| format!("{id}: {own:#?}"))?;
        }
        Ok(())
    })
}

fn in_one_trace(spans: &[Span]) -> Result<()> {
    let traces: BTreeSet<_> = spans.iter().map(|span| span.trace.as_str()).collect();
    ensure!(traces.len() == 1, "{} traces", traces.len());
    Ok(())
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// One trace id, receive -> enqueue -> deliver -> outcome, and a child of the application's span
/// where it sent one.
pub(crate) fn each_message_is_one_trace(accepted: &BTreeMap<String, Attempt>) -> Result<()> {
    check(accepted, |attempt, spans| {
        let way = way(attempt, spans)?;
        let outcome = only(spans, "message.outcome")?;
        let done = way.deliveries.iter().find(|deliver| is_done(deliver));
        let done = done.context("no smtp.deliver carries the next hop's 250")?;
        ensure!(
            outcome.parent == done.span && disposition(outcome) == "delivered",
            "the outcome is not the delivery's: {outcome:#?}"
        );
        Ok(())
    })
}

/// The same for messages that came to no good, which ends in their sender's being told: what was
/// answered to the last attempt, the bounce, and the notification's own delivery.
pub(crate) fn each_bounce_is_one_trace(
    accepted: &BTreeMap<String, Attempt>,
    answer: &str,
) -> Result<()> {
    check_among(accepted, |attempt, spans, all| {
        let way = way(attempt, spans)?;
        ensure!(
            way.deliveries
                .iter()
                .all(|deliver| reply_code(deliver) == Some(answer)),
            "an smtp.deliver was not answered {answer}"
        );
        let bounce = only(spans, "message.bounce")?;
        ensure!(disposition(bounce) == "failed", "{bounce:#?}");
        let ends_an_attempt = way.deliveries.iter().any(|span| span.span == bounce.parent);
        // One that expires between two attempts ends by none of them.
        let has_expired = answer == EXPIRING && way.enqueue.span == bounce.parent;
        ensure!(
            ends_an_attempt || has_expired,
            "the bounce is neither the last attempt's nor the queue's"
        );
        ensure!(named(spans, "message.outcome").is_empty(), "two outcomes");
        let told = all
            .values()
            .flatten()
            .any(|span| span.parent == bounce.span && span.trace == bounce.trace && is_done(span));
        ensure!(told, "no delivery of the notification in this trace");
        Ok(())
    })
}

/// What is answered to a message until it expires.
const EXPIRING: &str = "450";

/// A message's way from its application to the attempts at its next hop.
struct Way<'a> {
    enqueue: &'a Span,
    deliveries: Vec<&'a Span>,
}

fn way<'a>(attempt: &Attempt, spans: &'a [Span]) -> Result<Way<'a>> {
    in_one_trace(spans)?;
    let receive = only(spans, "smtp.receive")?;
    let enqueue = only(spans, "queue.enqueue")?;
    let deliveries = named(spans, "smtp.deliver");
    ensure!(
        enqueue.parent == receive.span,
        "queue.enqueue is not a child of smtp.receive"
    );
    ensure!(!deliveries.is_empty(), "no smtp.deliver");
    ensure!(
        deliveries
            .iter()
            .all(|deliver| deliver.parent == enqueue.span),
        "an smtp.deliver is not a child of queue.enqueue"
    );
    let sent = attempt
        .traceparent
        .as_deref()
        .map(|text| text.split('-').collect::<Vec<_>>());
    match sent.as_deref() {
        Some([_, trace, parent, _]) => {
            ensure!(receive.trace == *trace, "not in the application's trace");
            ensure!(
                receive.parent == *parent,
                "not a child of the application's span"
            );
        }
        _ => ensure!(receive.parent.is_empty(), "a root with a parent"),
    }
    Ok(Way {
        enqueue,
        deliveries,
    })
}

fn only<'a>(spans: &'a [Span], name: &str) -> Result<&'a Span> {
    let [span] = named(spans, name)[..] else {
        anyhow::bail!("not one {name}")
    };
    Ok(span)
}

fn disposition(span: &Span) -> &str {
    let found = span.attributes.get("kurier.disposition");
    found.map_or("", String::as_str)
}

fn reply_code(deliver: &Span) -> Option<&str> {
    let code = deliver.attributes.get("smtp.reply_code");
    code.map(String::as_str)
}

/// Whether an attempt ended with the next hop's `250`.
fn is_done(deliver: &Span) -> bool {
    deliver.name == "smtp.deliver" && reply_code(deliver) == Some("250")
}

fn pods<'a>(spans: &'a [Span], name: &str) -> BTreeSet<&'a str> {
    pods_of(named(spans, name).into_iter())
}

/// The pods that delivered, which failed attempts do not make them.
fn deliverers(spans: &[Span]) -> BTreeSet<&str> {
    let deliveries = named(spans, "smtp.deliver").into_iter();
    pods_of(deliveries.filter(|span| is_done(span)))
}

fn pods_of<'a>(spans: impl Iterator<Item = &'a Span>) -> BTreeSet<&'a str> {
    spans
        .filter_map(|span| span.attributes.get(POD).map(String::as_str))
        .collect()
}

/// From which pod to which the messages went: the one that received each, and the one that delivered.
pub(crate) fn legs(accepted: &BTreeMap<String, Attempt>) -> Result<BTreeSet<(String, String)>> {
    let found = RefCell::new(BTreeSet::new());
    check(accepted, |_, spans| {
        let (from, to) = (pods(spans, "smtp.receive"), deliverers(spans));
        ensure!(from.len() == 1 && !to.is_empty(), "{from:?} to {to:?}");
        for leg in from
            .iter()
            .flat_map(|from| to.iter().map(move |to| (from, to)))
        {
            found
                .borrow_mut()
                .insert((leg.0.to_string(), leg.1.to_string()));
        }
        Ok(())
    })?;
    Ok(found.into_inner())
}

/// Queue ids of what a pod has received, as far as the Collector knows.
pub(crate) fn received_by(pod: &str) -> Result<BTreeSet<String>> {
    let spans = by_queue_id()?;
    let received = spans
        .into_iter()
        .filter(|(_, own)| pods(own, "smtp.receive").contains(pod));
    Ok(received.map(|(id, _)| id).collect())
}

/// Each accepted by one of these pods, and delivered by none of them.
pub(crate) fn delivered_elsewhere(
    accepted: &BTreeMap<String, Attempt>,
    acceptors: &[Pod],
) -> Result<()> {
    let acceptors: BTreeSet<_> = acceptors.iter().map(|pod| pod.name.as_str()).collect();
    check(accepted, |_, spans| {
        let (received, delivered) = (pods(spans, "smtp.receive"), pods(spans, "smtp.deliver"));
        ensure!(
            received.len() == 1 && received.is_subset(&acceptors),
            "received by {received:?}"
        );
        ensure!(
            !delivered.is_empty() && delivered.is_disjoint(&acceptors),
            "delivered by {delivered:?}"
        );
        Ok(())
    })
}

/// Each of these messages is one trace that begins in the pod that was killed and ends in another.
pub(crate) fn taken_over(ids: &BTreeSet<String>, victim: &str) -> Result<()> {
    each(ids.iter(), |_, spans, _| {
        in_one_trace(spans)?;
        let received = pods(spans, "smtp.receive");
        ensure!(
            received == BTreeSet::from([victim]),
            "received by {received:?}"
        );
        let delivered = deliverers(spans);
        ensure!(
            delivered.iter().any(|pod| *pod != victim),
            "delivered by {delivered:?}"
        );
        Ok(())
    })
}
