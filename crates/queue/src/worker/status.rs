use jiff::Timestamp;

use crate::durability::Durability;
use crate::id::WorkerId;

/// How the worker and its back end are doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// The last beat or registration was answered.
    pub reachable: bool,
    /// Since when that is so.
    pub since: Timestamp,
    /// What the back end last failed with, while it is not reachable.
    pub error: Option<String>,
    /// What a confirmed write is worth.
    pub durability: Durability,
    /// How full the store is, in percent, where it has a bound of its own.
    pub fill: Option<u8>,
    /// The id this process is a member under.
    pub worker: Option<WorkerId>,
}

impl Status {
    pub(super) fn unknown() -> Self {
        Self {
            reachable: false,
            since: Timestamp::now(),
            error: None,
            durability: Durability::Unknown,
            fill: None,
            worker: None,
        }
    }

    /// Notes an answer or a failure. Returns whether anything changed.
    pub(super) fn note(&mut self, failure: Option<String>, worker: Option<WorkerId>) -> bool {
        let before = (self.reachable, self.error.clone(), self.worker);
        if self.reachable != failure.is_none() {
            self.reachable = failure.is_none();
            self.since = Timestamp::now();
        }
        self.error = failure;
        self.worker = worker;
        before != (self.reachable, self.error.clone(), self.worker)
    }
}
