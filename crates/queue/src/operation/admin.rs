//! What administrators do to single tasks.

use crate::id::Handle;
use crate::record::NewMessage;

/// One action on one task.
#[derive(Clone, Debug)]
pub struct Act {
    pub handle: Handle,
    pub action: Action,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// Ends the task. Without a notice nobody hears of it.
    Drop { notice: Option<Notice> },
    /// Keeps the task from being attempted until it is released. A claimed one is held when its
    /// claim ends without a final outcome.
    Hold { reason: String },
    /// Makes a held task due; of a claimed one that was to be held it takes that back.
    Release,
    /// Makes a task due that waits for a later attempt. No attempt is counted.
    Retry,
}

/// Tells the sender of a dropped task whom it was for. Enqueued in the step that drops it.
#[derive(Clone, Debug)]
pub struct Notice {
    pub message: NewMessage,
    /// How many recipients had an outcome when it was written: with another number it is outdated.
    pub resolved: u16,
}

/// What became of an [`Act`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acted {
    Done,
    /// There is no such task (any more).
    Missing,
    /// The task is claimed: it happens when the claim ends without a final outcome.
    Pending,
    /// A drop with a notice, while the task is claimed or after it has changed: nothing was done.
    Refused,
    /// It was so already, or there is nothing to do to it where it is.
    Unchanged,
}
