use std::sync::Arc;

use jiff::Timestamp;
use queue::id::{MessageId, TaskId};
use telemetry::TraceContext;
use telemetry::metrics::{Counter, Family, Registry};
use tokio::sync::broadcast;

use crate::metrics::{Label, LabelValue};

/// One step of a recipient's way, as it happens: for those who watch a relay, not for those who
/// must know (they ask the queue).
#[derive(Clone, Debug)]
pub struct Outcome {
    pub message: MessageId,
    pub task: TaskId,
    pub recipient: String,
    /// Which attempt at the task this was, from 1; 0 where there was none.
    pub attempt: u32,
    pub kind: OutcomeKind,
    pub at: Timestamp,
    pub trace: Option<TraceContext>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutcomeKind {
    /// The message is in the queue, and the client has been told so.
    Accepted,
    Deferred {
        reply: String,
        due_in: std::time::Duration,
    },
    Delivered {
        host: String,
        reply: String,
    },
    Failed {
        reply: String,
    },
    /// Its lifetime ended; `reply` is the last it got.
    Expired {
        reply: String,
    },
    /// The sender has been told that it failed, by the message with this id.
    Notified {
        notification: MessageId,
    },
}

/// Where outcomes are announced. Nobody need listen, and who does not keep up misses some.
#[derive(Clone, Debug)]
pub struct Outcomes(broadcast::Sender<Arc<Outcome>>);

impl Outcomes {
    pub fn new() -> Self {
        Self(broadcast::Sender::new(CAPACITY))
    }

    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Outcome>> {
        self.0.subscribe()
    }

    /// Whether anybody listens now.
    pub fn has_listeners(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Announces what `outcome` makes, if anybody listens.
    pub fn announce(&self, outcome: impl FnOnce() -> Outcome) {
        if self.0.receiver_count() > 0 {
            // The last listener may just have gone.
            let _ = self.0.send(Arc::new(outcome()));
        }
    }
}

impl Default for Outcomes {
    fn default() -> Self {
        Self::new()
    }
}

/// The counters of delivery. Cloning shares them.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    delivered: Counter,
    deferred: Counter,
    failed: Counter,
    expired: Counter,
    pub(super) notifications: Counter,
    pub(super) transactions: Counter,
    pub(super) connections: Counter,
    pub(super) withheld: Counter,
    pub(super) unreadable: Counter,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let deliveries = Family::<Label<OutcomeLabel>, Counter>::default();
        let of = |outcome: OutcomeLabel| deliveries.get_or_create_owned(&Label::from(outcome));
        let metrics = Self {
            delivered: of(OutcomeLabel::Delivered),
            deferred: of(OutcomeLabel::Deferred),
            failed: of(OutcomeLabel::Failed),
            expired: of(OutcomeLabel::Expired),
            notifications: Counter::default(),
            transactions: Counter::default(),
            connections: Counter::default(),
            withheld: Counter::default(),
            unreadable: Counter::default(),
        };
        registry.register(
            "deliveries",
            "Outcomes of attempts, by recipient",
            &deliveries,
        );
        registry.register(
            "delivery_notifications",
            "Messages made to tell a sender of a failure",
            &metrics.notifications,
        );
        registry.register(
            "delivery_transactions",
            "Mail transactions begun with next hops",
            &metrics.transactions,
        );
        registry.register(
            "delivery_connections",
            "Connections made to next hops",
            &metrics.connections,
        );
        registry.register(
            "delivery_withheld",
            "Messages whose last octet was withheld because the claim was not certain any more",
            &metrics.withheld,
        );
        registry.register(
            "delivery_unreadable",
            "Tasks that are held because this program cannot read them",
            &metrics.unreadable,
        );
        metrics
    }

    pub(super) fn count(&self, outcome: OutcomeLabel) {
        match outcome {
            OutcomeLabel::Deferred => &self.deferred,
            OutcomeLabel::Delivered => &self.delivered,
            OutcomeLabel::Expired => &self.expired,
            OutcomeLabel::Failed => &self.failed,
        }
        .inc();
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum OutcomeLabel {
    Deferred,
    Delivered,
    Expired,
    Failed,
}

impl LabelValue for OutcomeLabel {
    const NAME: &'static str = "outcome";

    fn text(self) -> &'static str {
        match self {
            Self::Deferred => "deferred",
            Self::Delivered => "delivered",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }
}

/// Enough for a listener that looks every second at a relay under load.
const CAPACITY: usize = 8_192;
