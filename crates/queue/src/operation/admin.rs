//! What administrators see of tasks, and do to them.

mod cursor;

use std::time::Duration;

pub(crate) use self::cursor::Part;
pub use self::cursor::{Cursor, NoCursor};
use crate::id::{Handle, WorkerId};
use crate::record::{NewMessage, TaskState};

/// One action on one task.
#[derive(Clone, Debug)]
pub struct Act {
    pub handle: Handle,
    pub action: Action,
}

#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there are few at a time, and none is kept"
)]
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

/// Which tasks to list. They come by place: those that wait queue by queue, then those that are held,
/// then those that are claimed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct List {
    /// Only those in this place.
    pub place: Option<PlaceName>,
    pub tenant: Option<String>,
    pub route: Option<String>,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// How many tasks and queues are looked at for one page, at most 1000: a page may have no task,
    /// and there are more.
    pub looks: u16,
}

/// Tasks that come or go meanwhile may be on no page, or on two.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    pub tasks: Vec<Seen>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<Cursor>,
}

/// A task as it was when it was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub handle: Handle,
    pub place: Place,
    pub state: TaskState,
}

/// Where a task is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// It waits for a later attempt.
    Deferred { due_in: Duration },
    /// It waits for somebody to release it.
    Held { since: Duration },
    /// Somebody has claimed it.
    InFlight { by: WorkerId, begun: bool },
    /// It waits, and has been due for so long.
    Ready { since: Duration },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PlaceName {
    Deferred,
    Held,
    InFlight,
    Ready,
}

impl Place {
    pub fn name(&self) -> PlaceName {
        match self {
            Self::Deferred { .. } => PlaceName::Deferred,
            Self::Held { .. } => PlaceName::Held,
            Self::InFlight { .. } => PlaceName::InFlight,
            Self::Ready { .. } => PlaceName::Ready,
        }
    }
}

impl PlaceName {
    pub const ALL: [Self; 4] = [Self::Deferred, Self::Held, Self::InFlight, Self::Ready];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deferred => "deferred",
            Self::Held => "held",
            Self::InFlight => "in-flight",
            Self::Ready => "ready",
        }
    }
}
