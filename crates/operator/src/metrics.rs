//! What the operator counts.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use telemetry::metrics::{Counter, Family, Gauge, Histogram, Registry, SECONDS};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
#[expect(clippy::enum_variant_names, reason = "the kinds' own names")]
pub(crate) enum Kind {
    MailRelay,
    MailCredential,
    MailRoute,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
pub(crate) enum Outcome {
    Done,
    Failed,
    Unreadable,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct ReconcileLabels {
    pub(crate) kind: Kind,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
pub(crate) enum WriteKind {
    Apply,
    Create,
    Delete,
    Status,
    Bump,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct WriteLabels {
    pub(crate) write: WriteKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct KindLabels {
    pub(crate) kind: Kind,
}

pub(crate) struct Metrics {
    pub(crate) reconciles: Family<ReconcileLabels, Counter>,
    pub(crate) seconds: Family<KindLabels, Histogram, fn() -> Histogram>,
    pub(crate) writes: Family<WriteLabels, Counter>,
    pub(crate) leader: Gauge,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS.0.iter().copied());
        let metrics = Self {
            reconciles: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            writes: Family::default(),
            leader: Gauge::default(),
        };
        registry.register(
            "operator_reconciles",
            "Objects looked after, by kind and outcome",
            &metrics.reconciles,
        );
        registry.register(
            "operator_reconcile_seconds",
            "How long looking after an object took",
            &metrics.seconds,
        );
        registry.register(
            "operator_writes",
            "Writes to the API server",
            &metrics.writes,
        );
        registry.register(
            "operator_leader",
            "1 while this replica holds the Lease",
            &metrics.leader,
        );
        metrics
    }
}
