//! Calls and replies of [`Queue`](crate::Queue): plain data, the same for every back end.

use std::time::Duration;

use bytes::Bytes;

use crate::id::{Call, Handle, JournalId, MessageId, QueueId, Scope, SlotId, TaskId};
use crate::record::{NewMessage, TaskState};

mod admin;

pub(crate) use self::admin::Part;
pub use self::admin::{
    Act, Acted, Action, Cursor, List, NoCursor, Notice, Page, Place, PlaceName, Seen,
};

/// Timing of leases, in one place, given at construction of a back end.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// A worker without a beat for this long may be reaped (30 s).
    pub lease: Duration,
    /// How often a worker beats (5 s).
    pub beat: Duration,
    /// A claim that is not begun goes back after this (2 min).
    pub claim: Duration,
    /// A begun claim goes back after this (30 min).
    pub begun: Duration,
    /// The latest moment a parked queue looks again by itself (30 s).
    pub safety_wake: Duration,
}

/// How long chunks are kept whose message is not enqueued, counted from the last of them: twice the
/// time a client has for its content.
pub const STAGED_FOR: Duration = Duration::from_secs(20 * 60);

/// How a lane call was taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken<T> {
    Ran(T),
    /// The worker's lease has run out but nobody has reaped it: beat, then repeat the same call.
    Expired,
    /// The worker owns nothing any more: register anew under another id.
    Reaped,
    /// `n` is not greater than the lane's last: it ran before or was barred by resolve.
    Refused,
}

/// One settlement, one release list and one claim, in this order, in one step.
#[derive(Clone, Debug)]
pub struct Next {
    pub call: Call,
    pub settlements: Vec<Settlement>,
    /// Slots given up. Repeating a release changes nothing.
    pub releases: Vec<SlotId>,
    pub claim: Option<Claim>,
}

#[derive(Clone, Debug)]
pub struct Settlement {
    pub handle: Handle,
    /// Recipient indexes whose next hop answered 2yz to the final dot. Accepted from any
    /// registered worker, wherever the task is now; everything else only from the fence holder.
    pub delivered: Vec<u16>,
    /// Recipient indexes that failed for good (5yz, expiry).
    pub failed: Vec<u16>,
    /// Recipients of the task, to know when none is left.
    pub recipients: u16,
    pub rest: Rest,
    /// Notification about `failed`, enqueued in the same step and only if this call held the fence.
    pub notification: Option<NewMessage>,
    /// What the journal says of it, opaque here; nothing where it is empty. It comes into the journal when
    /// the call held the fence or delivered something.
    pub journal: Bytes,
}

impl Settlement {
    /// Whether the journal has it, should the call turn out to be stale.
    pub(crate) fn is_journaled(&self, stale: bool) -> bool {
        !self.journal.is_empty() && (!stale || !self.delivered.is_empty())
    }
}

/// The outcomes of one call of `next`, in the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Journaled {
    pub id: JournalId,
    pub outcomes: Vec<Bytes>,
}

/// What becomes of the recipients that are neither delivered nor failed nor resolved before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rest {
    /// There are none: the task ends.
    None,
    /// Back to the queue, due after `due_in`; `attempts` grows by one.
    Deferred { due_in: Duration, notes: Bytes },
    /// Back to the queue, due now, no attempt counted; marked when it was begun.
    GivenBack,
    /// Held until somebody releases it, for this reason; no attempt counted, marked as given back.
    Held { reason: String },
    /// The caller goes on with them: the claim stays as it is.
    Kept,
}

#[derive(Clone, Debug)]
pub struct Claim {
    /// At most this many grants (each takes one slot of its site).
    pub grants: u16,
    /// At most this many tasks in one grant.
    pub tasks_per_grant: u16,
    /// Open in this process and begun before, or claimed under an earlier worker id of it: not to be handed out.
    pub withheld: Vec<TaskId>,
    /// Tasks to claim by name without slot, token or turn, for expiry: only where they wait.
    pub by_name: Vec<Handle>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NextReply {
    /// Positions in `settlements` that this worker no longer held; of those only `delivered` counted.
    pub stale: Vec<u32>,
    pub grants: Vec<Grant>,
    /// Tasks claimed by name (no slot).
    pub named: Vec<Claimed>,
    pub then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Then {
    /// More may be claimable right now.
    More,
    /// Nothing before this time passes, unless something is enqueued or released.
    Sleep(Duration),
    #[default]
    Empty,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    pub slot: SlotId,
    /// What slots are counted by; today the route itself.
    pub site: String,
    pub queue: QueueId,
    pub tasks: Vec<Claimed>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claimed {
    pub handle: Handle,
    pub state: TaskState,
    /// Until the message expires; zero when it has.
    pub expires_in: Duration,
}

/// Reply of resolve.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resolved {
    Ran(NextReply),
    /// It had not run and never will.
    Barred,
    Reaped,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begun {
    Begun,
    /// Not in this worker's claim set any more.
    NotHeld,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aborted {
    /// It was there and is gone, or never arrived and never will (the lane call is barred).
    Gone,
    /// Somebody else holds it or it was begun: a duplicate is possible.
    Held,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Beat {
    Renewed {
        /// It came after the lease had run out, but before anybody reaped.
        late: bool,
        /// Claims taken back from reaped workers and overdue claims in this step.
        reaped: u32,
        /// Those of them that are held from now on: too many owners began them and did not settle.
        held: Vec<TaskId>,
        /// The reap is not drained: beat again at once.
        more: bool,
        /// When the earliest foreign lease runs out.
        next_foreign_expiry: Option<Duration>,
    },
    Reaped,
}

/// Messages to be looked at for expiry; each has been put off by 30 s for everybody else.
pub type Expiring = Vec<MessageId>;

/// Limits that live as data in the queue, written from configuration with its generation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    pub generation: u64,
    /// Connection slots of a site that is not named.
    pub concurrency_default: u32,
    /// By site.
    pub concurrency: Vec<(String, u32)>,
    /// Of a site that is not named; `None` lets as much go as slots allow.
    pub rate_default: Option<Rate>,
    /// By site.
    pub rates: Vec<(String, Rate)>,
    /// Shares by tenant, from 1; a tenant that is not named has 1.
    pub weights: Vec<(String, u32)>,
    pub held: HeldExpiry,
}

/// What the end of a message's lifetime means for those of its tasks that are held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HeldExpiry {
    /// They expire as all others.
    #[default]
    Expire,
    /// They are left alone until somebody releases or drops them.
    Keep,
}

/// Nothing of these queues is granted. Their mail still expires.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suspension {
    pub scope: Scope,
    /// How long from now; `None`: until somebody resumes it.
    pub lasts: Option<Duration>,
    /// For whoever looks at it later.
    pub reason: String,
}

/// How many tasks may be granted for one site: at most `burst` at once, and over any time `burst` more
/// than `messages` in every `per`. Kept exactly, whatever the numbers: 7 in 3 s are 7,000 in 3,000 s.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// From 1 to [`Rate::MOST`]; what is outside counts as the bound.
    pub messages: u32,
    /// From 1 ms to [`Rate::LONGEST`].
    pub per: Duration,
    /// From 1 to [`Rate::MOST`].
    pub burst: u32,
}

impl Rate {
    pub const MOST: u32 = 1_000_000;
    pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

    /// Messages, ms and burst within their bounds, where every product of them stays below 2^53.
    pub(crate) fn bounded(&self) -> (u32, u64, u32) {
        (
            self.messages.clamp(1, Self::MOST),
            self.per.min(Self::LONGEST).as_millis().max(1) as u64,
            self.burst.clamp(1, Self::MOST),
        )
    }
}

/// What a task of a tenant of weight 1 adds to the tenant's virtual time.
pub(crate) const COST: u64 = 10_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Tasks due now, waiting.
    pub ready: u64,
    /// Tasks due later.
    pub deferred: u64,
    /// Tasks in claim sets.
    pub in_flight: u64,
    /// Tasks that wait for somebody to release them.
    pub held: u64,
    /// How long the oldest ready task has been due.
    pub oldest_ready: Option<Duration>,
}
