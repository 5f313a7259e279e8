//! The delivery queue: every accepted message is here, in exactly one place, until each of its
//! recipients has an outcome.
//!
//! One trait, [`Queue`], and three back ends behind it that one conformance suite holds to the same
//! behaviour: [`redis`] (shared by all relay pods), [`embedded`] (one
//! process, one redb file) and [`model`] (memory only, the reference).
//!
//! The procedure of one message, in order:
//! 1. a [`Worker`](crate::worker) commits it with [`Queue::enqueue`], together with whoever waits;
//! 2. some worker claims its tasks with [`Queue::next`]: fenced (membership in the worker's claim
//!    set) and leased (the worker's heartbeat);
//! 3. [`Queue::begin`] marks the task before the first octet that could be the last one matters;
//! 4. the dot check, local or [`Queue::check`], stands before the last octet of the message;
//! 5. the settlement rides on the next [`Queue::next`]: outcome per recipient, deferral, DSN.
//!
//! Invariants:
//! * A message is waiting, claimed by one live worker, or settled. No transition passes through
//!   nowhere or through two places.
//! * A claim belongs to whoever's claim set holds the handle. A reaped worker owns nothing.
//! * Time is the back end's; callers pass relative milliseconds.
//! * Every operation except enqueue may be repeated and any reply may be lost without harm.
//! * What parks, wakes: by its cause, and by a safety wake at the latest.
//!
//! What it does not do: choose next hops, talk SMTP, write DSN text.
#![allow(
    clippy::cast_possible_truncation,
    reason = "lengths and ordinals are checked where a record is made and where it is read, and no \
              number of milliseconds comes near 64 bits"
)]

pub mod durability;
pub mod embedded;
pub mod id;
pub mod model;
pub mod operation;
pub mod record;
pub mod redis;
pub mod schema;
pub mod worker;

mod queue;

pub use crate::queue::{Queue, QueueError, RecordError};
