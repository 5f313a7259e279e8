//! The protocol of the queue as a value: what every back end does, one step at a time.
//!
//! [`Scheduler`] is a deterministic state machine without I/O, clock or randomness; its methods are
//! the operations of [`Queue`](crate::Queue) with `now` as an argument, each one a whole step. It is
//! to be read as the specification: the Redis scripts do the same on other data structures, and a
//! property test compares them reply by reply. [`ModelQueue`] puts it behind a lock and keeps the
//! records in memory; [`embedded`](crate::embedded) puts it in front of a file.
//!
//! Read it in the order of a message's life:
//! 1. `lease`: who takes part, and until when;
//! 2. `stage`, `enqueue`: a message, after its body if that is large, becomes tasks that wait in
//!    queues (and `abort` takes it back);
//! 3. `turn`: whose turn it is, and what wakes a queue that is not looked at;
//! 4. `claim`: tasks go to a worker, within the slots of each site and its `rate`;
//! 5. `settle`: outcomes per recipient; a task ends or goes back;
//! 6. `reap`: what dead workers had claimed goes back, and what kills workers is held (`hold`);
//! 7. `act`, `list`: what administrators do and see;
//! 8. `expiry`, `limits`, `suspension`, `journal`.
//!
//! Invariants:
//! * A task is in one `Place`: it waits, one worker has claimed it, or it is held.
//! * A claim is taken out of a worker's claim set in the same step that ends the task, holds it or
//!   lets it wait again.
//! * A queue that holds tasks is active or has a wake-up, no matter what happened before.
//! * Slots in use of a site are as many as members of all workers' slot sets name it.
//!
//! What it does not do: store anything. A store reads [`Change`]s, which say what must survive.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::id::{JournalId, MessageId, TaskId, WorkerId};
use crate::operation::Timing;

mod abort;
mod act;
mod change;
mod claim;
mod clock;
mod enqueue;
mod expiry;
mod hasten;
mod hold;
mod journal;
mod lane;
mod lease;
mod limits;
mod list;
mod memory;
mod next;
mod rate;
mod reap;
mod remains;
mod settle;
mod stage;
mod state;
mod suspension;
#[cfg(test)]
mod tests;
mod turn;

pub use change::{Change, Restored};
pub use clock::WallClock;
pub use memory::ModelQueue;
pub use next::Settled;
pub use remains::Remains;

use state::{Message, Ms, Task, WaitingQueue, Worker};
use turn::Turn;

/// Everything the queue knows but the records.
#[derive(Debug)]
pub struct Scheduler {
    lease: u64,
    beat: u64,
    claim: u64,
    begun: u64,
    safety_wake: u64,
    messages: HashMap<MessageId, Message>,
    tasks: HashMap<TaskId, Task>,
    queues: HashMap<crate::id::QueueId, WaitingQueue>,
    /// Messages by when they expire, or are looked at again.
    expiry: BTreeSet<(Ms, MessageId)>,
    /// Held tasks by since when.
    held: BTreeSet<(Ms, TaskId)>,
    turn: Turn,
    limits: limits::InForce,
    suspensions: suspension::Suspensions,
    /// Everybody who may own anything, in the order of their ids.
    workers: BTreeMap<WorkerId, Worker>,
    /// What has come of bodies whose messages are not enqueued yet.
    staged: HashMap<MessageId, stage::Staged>,
    last_journaled: JournalId,
    changes: Vec<Change>,
}

impl Scheduler {
    pub fn new(timing: &Timing) -> Self {
        let ms = |duration: std::time::Duration| duration.as_millis() as u64;
        Self {
            lease: ms(timing.lease),
            beat: ms(timing.beat),
            claim: ms(timing.claim),
            begun: ms(timing.begun),
            safety_wake: ms(timing.safety_wake),
            messages: HashMap::new(),
            tasks: HashMap::new(),
            queues: HashMap::new(),
            expiry: BTreeSet::new(),
            held: BTreeSet::new(),
            turn: Turn::default(),
            limits: limits::InForce::default(),
            suspensions: suspension::Suspensions::default(),
            workers: BTreeMap::new(),
            staged: HashMap::new(),
            last_journaled: JournalId::default(),
            changes: Vec::new(),
        }
    }
}
