//! What the relay counts. Every label is a closed enum: nothing a peer says makes a new series.

use std::fmt;
use std::sync::atomic::AtomicI64;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric, LabelSetEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use telemetry::metrics::{Counter, Family, Gauge, Histogram, Registry, exponential_buckets};

/// Handles to the counters of reception. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) connections_accepted: Counter,
    pub(crate) connections_refused: ByLabel<ConnectionRefusal>,
    pub(crate) handshakes: ByLabel<Handshake>,
    pub(crate) authentications: ByLabel<Authentication>,
    pub(crate) open_transactions: Family<Label<Phase>, Gauge<i64, AtomicI64>>,
    /// Content is arriving or waiting for the queue; one of `open_transactions`.
    pub(crate) open_data: Gauge<i64, AtomicI64>,
    pub(crate) messages_accepted: Counter,
    pub(crate) octets_accepted: Counter,
    pub(crate) refusals: ByLabel<Refusal>,
    pub(crate) enqueue_seconds: Histogram,
    pub(crate) config_loads: ByLabel<ConfigLoad>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let open_transactions = Family::<Label<Phase>, Gauge<i64, AtomicI64>>::default();
        let open_data = open_transactions.get_or_create_owned(&Label::from(Phase::Data));
        let metrics = Self {
            connections_accepted: Counter::default(),
            connections_refused: ByLabel::default(),
            handshakes: ByLabel::default(),
            authentications: ByLabel::default(),
            open_transactions,
            open_data,
            messages_accepted: Counter::default(),
            octets_accepted: Counter::default(),
            refusals: ByLabel::default(),
            enqueue_seconds: Histogram::new(exponential_buckets(0.000_5, 2.0, 16)),
            config_loads: ByLabel::default(),
        };
        let m = &metrics;
        registry.register(
            "smtp_connections_accepted",
            "Connections that were greeted",
            &m.connections_accepted,
        );
        registry.register(
            "smtp_connections_refused",
            "Connections that were turned away, by the limit that was reached",
            &m.connections_refused.0,
        );
        registry.register(
            "smtp_handshakes",
            "TLS handshakes of clients",
            &m.handshakes.0,
        );
        registry.register(
            "smtp_authentications",
            "AUTH exchanges",
            &m.authentications.0,
        );
        registry.register(
            "smtp_open_transactions",
            "Mail transactions that are open, by what is awaited",
            &m.open_transactions,
        );
        registry.register(
            "messages_accepted",
            "Messages answered with 250, each confirmed by the queue",
            &m.messages_accepted,
        );
        registry.register(
            "message_octets_accepted",
            "Octets of the messages answered with 250",
            &m.octets_accepted,
        );
        registry.register(
            "smtp_refusals",
            "Senders, recipients and messages that were refused, by the reason",
            &m.refusals.0,
        );
        registry.register(
            "enqueue_seconds",
            "Time from the end of a message to the queue's confirmation",
            &m.enqueue_seconds,
        );
        registry.register(
            "config_loads",
            "Configurations that were read, by what became of them",
            &m.config_loads.0,
        );
        metrics
    }
}

/// A counter for each value of a closed enum.
#[derive(Clone, Debug)]
pub(crate) struct ByLabel<L: LabelValue>(Family<Label<L>, Counter>);

impl<L: LabelValue> ByLabel<L> {
    pub(crate) fn inc(&self, label: L) {
        self.0.get_or_create(&Label::from(label)).inc();
    }
}

impl<L: LabelValue> Default for ByLabel<L> {
    fn default() -> Self {
        Self(Family::default())
    }
}

pub(crate) trait LabelValue:
    Copy + Eq + std::hash::Hash + fmt::Debug + Send + Sync + 'static
{
    const NAME: &'static str;

    fn text(self) -> &'static str;
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Label<L>(L);

impl<L> From<L> for Label<L> {
    fn from(label: L) -> Self {
        Self(label)
    }
}

impl<L: LabelValue> EncodeLabelSet for Label<L> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        [(L::NAME, self.0.text())].encode(encoder)
    }
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $key:literal, { $($variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub(crate) enum $name { $($variant,)+ }

        impl LabelValue for $name {
            const NAME: &'static str = $key;

            fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

label!(Authentication, "result", { Accepted = "accepted", Refused = "refused", });
label!(ConfigLoad, "result", { Rejected = "rejected", Switched = "switched", });
label!(ConnectionRefusal, "reason", { Client = "client_limit", Relay = "relay_limit", });
label!(Handshake, "result", { Failed = "failed", Established = "established", });
label!(Phase, "phase", { Data = "data", });
label!(
    /// Why a command or a message was answered with 4yz or 5yz by the relay (not by the protocol).
    Refusal, "reason", {
        AuthenticationRequired = "authentication_required",
        Hops = "hops",
        QueueFull = "queue_full",
        QueueUnavailable = "queue_unavailable",
        Recipient = "recipient",
        Relaying = "relaying",
        Sender = "sender",
    }
);

/// Gauges that are read when they are asked for.
pub(crate) struct Observed<F>(pub(crate) F);

/// One reading of [`Observed`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Observation {
    pub(crate) connections: u32,
    pub(crate) claims: usize,
    pub(crate) queue_reachable: bool,
    /// The level in force, while the declared one is.
    pub(crate) durability: Option<queue::durability::Level>,
    pub(crate) config_rejected: bool,
    pub(crate) draining: bool,
    /// As of a few seconds ago; none while the queue does not answer: no number is no zero.
    pub(crate) counts: Option<queue::operation::Counts>,
}

impl<F: Fn() -> Observation + Send + Sync + 'static> Collector for Observed<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let seen = (self.0)();
        let mut gauge = |name: &str, help: &str, value: i64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge(
            "smtp_connections_open",
            "Connections that are open",
            seen.connections.into(),
        )?;
        gauge(
            "queue_claims",
            "Tasks that this process has claimed",
            saturated(seen.claims),
        )?;
        gauge(
            "queue_reachable",
            "Whether the queue answers",
            seen.queue_reachable.into(),
        )?;
        gauge(
            "queue_durable",
            "Whether the declared durability is verified to be in force",
            seen.durability.is_some().into(),
        )?;
        gauge(
            "config_rejected",
            "Whether the newest configuration is not the one in use",
            seen.config_rejected.into(),
        )?;
        gauge(
            "draining",
            "Whether this process is on its way out",
            seen.draining.into(),
        )?;
        if let Some(oldest) = seen.counts.and_then(|counts| counts.oldest_ready) {
            gauge(
                "queue_oldest_ready_seconds",
                "How long the task that waits longest has been due",
                saturated(oldest.as_secs()),
            )?;
        }
        if let Some(level) = seen.durability {
            let mut levels = encoder.encode_descriptor(
                "queue_durability",
                "The level of durability that is verified to be in force",
                None,
                MetricType::Gauge,
            )?;
            ConstGauge::new(1_i64).encode(levels.encode_family(&[("level", level.name())])?)?;
        }
        let Some(counts) = seen.counts else {
            return Ok(());
        };
        let mut states = encoder.encode_descriptor(
            "queue_tasks",
            "Tasks in the shared queue, by state",
            None,
            MetricType::Gauge,
        )?;
        for (state, count) in [
            ("ready", counts.ready),
            ("deferred", counts.deferred),
            ("in_flight", counts.in_flight),
            ("held", counts.held),
        ] {
            ConstGauge::new(saturated(count)).encode(states.encode_family(&[("state", state)])?)?;
        }
        Ok(())
    }
}

impl<F> fmt::Debug for Observed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observed")
    }
}

fn saturated(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
