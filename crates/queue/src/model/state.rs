//! What there is: messages, tasks, queues of waiting tasks, workers.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::id::{QueueId, SlotId, TaskId, WorkerId};
use crate::operation::NextReply;
use crate::record::TaskState;

/// Milliseconds of the queue's clock.
pub(super) type Ms = u64;

#[derive(Debug)]
pub(super) struct Message {
    /// Tasks without a final outcome.
    pub(super) open: u16,
    pub(super) expires: Ms,
    /// Found expired before; `expires` is when it is looked at again.
    pub(super) expired: bool,
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) queue: QueueRef,
    pub(super) place: Place,
    /// Absent until the first deferral, mark or take-over.
    pub(super) state: Option<Box<TaskState>>,
    /// How often it was taken back after it was begun, since its last outcome.
    pub(super) reclaims: u32,
    /// While it is claimed: the site whose rate it was charged to.
    pub(super) charged: Option<Box<str>>,
}

/// Where a task is: always in exactly one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Waiting {
        due: Ms,
    },
    Claimed {
        by: WorkerId,
        deadline: Ms,
        begun: bool,
    },
    Held {
        since: Ms,
    },
}

/// Tasks that wait, by when they are due, and where the queue itself is looked for.
#[derive(Debug)]
pub(super) struct WaitingQueue {
    pub(super) name: QueueRef,
    pub(super) tasks: BTreeSet<(Ms, TaskId)>,
    /// When to look at it next.
    pub(super) wake: Option<Ms>,
    /// Its place among its tenant's active queues.
    pub(super) active: Option<u64>,
    /// Its place among those that wait for a slot of their site.
    pub(super) blocked: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Worker {
    /// When its lease runs out; `None` once it is being reaped.
    pub(super) expires: Option<Ms>,
    /// Since when it has held its lease without a gap.
    pub(super) since: Ms,
    /// Its claim set, by deadline.
    pub(super) claims: BTreeSet<(Ms, bool, TaskId)>,
    pub(super) slots: BTreeMap<SlotId, String>,
    pub(super) lanes: HashMap<u16, Lane>,
}

/// The last call of a lane.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) n: u64,
    /// Of [`next`](crate::Queue::next) only, and not when the call was barred.
    pub(super) reply: Option<NextReply>,
}

/// A queue's name, cheap to copy, ordered by its written form.
#[derive(Clone, Debug)]
pub(super) struct QueueRef(Arc<(String, QueueId)>);

impl QueueRef {
    pub(super) fn new(id: &QueueId) -> Self {
        Self(Arc::new((id.to_string(), id.clone())))
    }

    pub(super) fn text(&self) -> &str {
        &self.0.0
    }

    pub(super) fn id(&self) -> &QueueId {
        &self.0.1
    }

    pub(super) fn written(&self) -> &str {
        &self.0.0
    }

    /// What slots are counted by.
    pub(super) fn site(&self) -> &str {
        &self.0.1.route
    }

    pub(super) fn tenant(&self) -> &str {
        &self.0.1.tenant
    }
}

impl PartialEq for QueueRef {
    fn eq(&self, other: &Self) -> bool {
        self.0.0 == other.0.0
    }
}

impl Eq for QueueRef {}

impl PartialOrd for QueueRef {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for QueueRef {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.0.cmp(&other.0.0)
    }
}
