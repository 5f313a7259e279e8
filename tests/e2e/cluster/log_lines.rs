//! What the relay's pods write of a message: JSON lines that name it and its trace.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use kurier_test::load::Attempt;
use serde::Deserialize;

use super::accounts::queue_id;
use super::fleet::{MINUTE, RELAY};
use super::kubernetes::{lines, logs, ready_pods};
use super::trace;
use crate::eventually::eventually;

/// A line about a message.
#[derive(Deserialize, Debug)]
struct Line {
    message: String,
    queue_id: String,
    trace_id: Option<String>,
    span_id: Option<String>,
    /// Of the next hop, or whatever else is the reason of an outcome.
    #[serde(default)]
    reply: String,
}

/// Waits until the pods have logged of each message that it was accepted and what its next hop
/// answered, and until every line about it names the trace, and a span of it, that the Collector knows
/// it by.
pub(crate) fn name_each_trace(accepted: &BTreeMap<String, Attempt>, answer: &str) -> Result<()> {
    eventually("the log lines of every message", MINUTE, || {
        let (mut written, spans) = (by_queue_id()?, trace::by_queue_id()?);
        for attempt in accepted.values() {
            let queue_id = queue_id(attempt)?;
            let own = written.remove(&queue_id).unwrap_or_default();
            let spans = spans.get(&queue_id).map_or(&[][..], Vec::as_slice);
            let traces: BTreeSet<_> = spans.iter().map(|span| span.trace.as_str()).collect();
            let is_named = |line: &Line| {
                let trace = line.trace_id.as_deref();
                let span = line.span_id.as_deref();
                trace.is_some_and(|trace| traces == BTreeSet::from([trace]))
                    && span.is_some_and(|id| spans.iter().any(|span| span.span == id))
            };
            ensure!(
                own.iter().any(|line| line.message == "accepted"),
                "no line says that {queue_id} was accepted: {own:#?}"
            );
            ensure!(
                own.iter().any(|line| line.reply.contains(answer)),
                "no line says {answer} of {queue_id}: {own:#?}"
            );
            ensure!(
                own.iter().all(is_named),
                "a line about {queue_id} names another trace than {spans:#?}: {own:#?}"
            );
            // Whether it was sent with one is known without the Collector.
            let sent = attempt.traceparent.as_deref();
            let sent = sent.and_then(|text| text.split('-').nth(1));
            ensure!(
                sent.is_none_or(|sent| own[0].trace_id.as_deref() == Some(sent)),
                "{queue_id} was sent in trace {sent:?}: {own:#?}"
            );
        }
        Ok(())
    })
}

fn by_queue_id() -> Result<BTreeMap<String, Vec<Line>>> {
    let mut found = BTreeMap::<String, Vec<Line>>::new();
    for pod in ready_pods(RELAY)? {
        let log = logs(&format!("pod/{}", pod.name)).context("a pod's log")?;
        for line in lines::<Line>(&log) {
            found.entry(line.queue_id.clone()).or_default().push(line);
        }
    }
    Ok(found)
}
