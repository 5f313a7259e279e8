//! The Prometheus registry of a process.
//!
//! Crates define their own metrics with `prometheus-client` and register them here. A label set is
//! a struct of closed enums: a label whose values a peer can choose is memory a peer can take.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::MetricConstructor;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Metric;

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::export::SpanCounts;
use crate::init::span_counts;

/// The `Content-Type` of what [`Registry::encode`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of a process, every name beginning with `kurier_`.
#[derive(Debug)]
pub struct Registry(prometheus_client::registry::Registry);

impl Registry {
    /// Holds at first what every process has: `kurier_build_info` and the counters of its spans,
    /// `kurier_trace_spans_recorded_total`, `kurier_trace_spans_exported_total` and
    /// `kurier_trace_spans_dropped_total` by reason.
    pub fn new(version: &'static str, revision: &'static str) -> Self {
        let mut registry = prometheus_client::registry::Registry::with_prefix("kurier");
        registry.register(
            "build",
            "What is running",
            Info::new(vec![("version", version), ("revision", revision)]),
        );
        registry.register_collector(Box::new(Spans));
        Self(registry)
    }

    /// Registers a metric under `kurier_<name>`, a counter under `kurier_<name>_total`. Help
    /// texts go without a final stop, one is appended.
    pub fn register<M>(&mut self, name: &str, help: &str, metric: &M)
    where
        M: Metric + Clone,
    {
        self.0.register(name, help, metric.clone());
    }

    /// Registers a source of metrics that are read on each scrape.
    pub fn register_collector(&mut self, collector: impl Collector) {
        self.0.register_collector(Box::new(collector));
    }

    /// The OpenMetrics text of all metrics.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.0)
            .expect("a String takes any text");
        text
    }
}

/// Makes the histograms of a [`Family`], all with the same buckets.
#[derive(Clone, Copy, Debug)]
pub struct Buckets(pub &'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// Seconds, from a group commit to a slow next hop.
pub const SECONDS: Buckets = Buckets(&[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
]);

#[derive(Debug)]
struct Spans;

impl Collector for Spans {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        encode_spans(span_counts(), encoder)
    }
}

fn encode_spans(counts: SpanCounts, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
    for (name, help, count) in [
        (
            "trace_spans_recorded",
            "Spans that ended and were sampled",
            counts.recorded,
        ),
        (
            "trace_spans_exported",
            "Spans that the collector took",
            counts.exported,
        ),
    ] {
        let counter = ConstCounter::new(count);
        counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
    }
    let mut family = encoder.encode_descriptor(
        "trace_spans_dropped",
        "Spans that were lost, by reason",
        None,
        ConstCounter::new(0_u64).metric_type(),
    )?;
    for (reason, count) in [
        ("buffer_full", counts.dropped_buffer_full),
        ("export_failed", counts.dropped_export_failed),
        ("shutdown", counts.dropped_shutdown),
    ] {
        ConstCounter::new(count).encode(family.encode_family(&[("reason", reason)])?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_what_is_registered() {
        let mut registry = Registry::new("1.2.3", "abc");
        let counter: Counter = Counter::default();
        registry.register("messages_accepted", "Messages answered with 250", &counter);
        counter.inc_by(3);
        let text = registry.encode();
        for line in [
            "kurier_build_info{version=\"1.2.3\",revision=\"abc\"} 1",
            "kurier_messages_accepted_total 3",
            "kurier_trace_spans_recorded_total 0",
            "kurier_trace_spans_exported_total 0",
            "kurier_trace_spans_dropped_total{reason=\"buffer_full\"} 0",
            "kurier_trace_spans_dropped_total{reason=\"export_failed\"} 0",
            "kurier_trace_spans_dropped_total{reason=\"shutdown\"} 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
        }
    }
}
