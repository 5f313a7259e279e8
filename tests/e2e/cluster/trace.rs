//! What the Collector handed on, asked by message.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use kurier_test::collect::Span;
use kurier_test::load::Attempt;

use super::accounts::queue_id;
use super::fleet::MINUTE;
use super::kubernetes::{lines, logs};
use crate::eventually::eventually;

/// The attribute that names the message, and the one that names the pod.
const QUEUE_ID: &str = "kurier.queue_id";
const POD: &str = "k8s.pod.name";

type Spans = BTreeMap<String, Vec<Span>>;

fn by_queue_id() -> Result<Spans> {
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
    eventually("the spans of every message", MINUTE, || {
        let spans = by_queue_id()?;
        for attempt in accepted.values() {
            let id = queue_id(attempt)?;
            let own = spans.get(&id).map_or(&[][..], Vec::as_slice);
            one(attempt, own).map_err(|error| {
                error.context(format!("message {} ({id}): {own:#?}", attempt.id))
            })?;
        }
        Ok(())
    })
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// One trace id, receive -> enqueue -> deliver, and a child of the application's span where it
/// sent one.
pub(crate) fn each_message_is_one_trace(accepted: &BTreeMap<String, Attempt>) -> Result<()> {
    check(accepted, |attempt, spans| {
        let traces: BTreeSet<_> = spans.iter().map(|span| span.trace.as_str()).collect();
        ensure!(traces.len() == 1, "{} traces", traces.len());
        let [receive] = named(spans, "smtp.receive")[..] else {
            anyhow::bail!("one smtp.receive")
        };
        let [enqueue] = named(spans, "queue.enqueue")[..] else {
            anyhow::bail!("one queue.enqueue")
        };
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
        ensure!(
            deliveries.iter().any(|deliver| {
                deliver
                    .attributes
                    .get("smtp.reply_code")
                    .is_some_and(|code| code == "250")
            }),
            "no smtp.deliver carries the next hop's 250"
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
        Ok(())
    })
}

fn pods<'a>(spans: &'a [Span], name: &str) -> BTreeSet<&'a str> {
    let named = named(spans, name).into_iter();
    named
        .filter_map(|span| span.attributes.get(POD).map(String::as_str))
        .collect()
}

/// Queue ids of what a pod has received, as far as the Collector knows.
pub(crate) fn received_by(pod: &str) -> Result<BTreeSet<String>> {
    let spans = by_queue_id()?;
    let received = spans
        .into_iter()
        .filter(|(_, own)| pods(own, "smtp.receive").contains(pod));
    Ok(received.map(|(id, _)| id).collect())
}

/// No delivery by the pod that accepted.
pub(crate) fn delivered_elsewhere(
    accepted: &BTreeMap<String, Attempt>,
    acceptor: &str,
) -> Result<()> {
    check(accepted, |_, spans| {
        let (received, delivered) = (pods(spans, "smtp.receive"), pods(spans, "smtp.deliver"));
        ensure!(
            received == BTreeSet::from([acceptor]),
            "received by {received:?}"
        );
        ensure!(
            !delivered.is_empty() && !delivered.contains(acceptor),
            "by {delivered:?}"
        );
        Ok(())
    })
}

/// Among what a killed pod held, some traces name two pods.
pub(crate) fn taken_over_by_another_pod(taken_over: &BTreeMap<String, Attempt>) -> Result<()> {
    eventually("a trace with two pods", MINUTE, || {
        let spans = by_queue_id()?;
        for attempt in taken_over.values() {
            let own = spans
                .get(&queue_id(attempt)?)
                .map_or(&[][..], Vec::as_slice);
            let all: BTreeSet<_> = own
                .iter()
                .filter_map(|span| span.attributes.get(POD))
                .collect();
            if all.len() > 1 {
                return Ok(());
            }
        }
        anyhow::bail!(
            "each of {} messages was seen by one pod only",
            taken_over.len()
        )
    })
}
