//! Versions of what is stored, and how a queue gets from one to the next while pods of two releases
//! share it.
//!
//! `meta` names the schema in force: what everybody writes. A program reads it and the one before, so
//! a new release works on what it finds. When no pod of the release before is left, its
//! configuration asks for the new schema ([`Settings::schema`](crate::redis::Settings::schema)),
//! and the first pod that connects flips it. From then on a program that does not read it is
//! refused: its connections are not made, its beats are not taken, so it claims nothing, accepts
//! nothing and is not ready.
//!
//! The schema in force never goes back. A queue that is new begins with the schema asked for, or with the
//! newest that the program writes.

use std::fmt;
use std::ops::RangeInclusive;

/// Of what is stored: keys, records, states of tasks.
pub type Schema = u32;

/// What this release reads; it writes any of them, whichever is in force.
pub const READS: Reads = Reads {
    oldest: 1,
    newest: 1,
};

/// What a program reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reads {
    pub oldest: Schema,
    pub newest: Schema,
}

impl Reads {
    /// Whether a configuration may ask for `schema`.
    ///
    /// # Errors
    /// When this program does not write it.
    pub fn admit(self, schema: Schema) -> Result<(), NotWritten> {
        if self.contains(schema) {
            return Ok(());
        }
        Err(NotWritten {
            asked: schema,
            reads: self,
        })
    }

    pub fn contains(self, schema: Schema) -> bool {
        RangeInclusive::new(self.oldest, self.newest).contains(&schema)
    }
}

impl fmt::Display for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            return write!(f, "schema {}", self.newest);
        }
        write!(f, "schemas {} to {}", self.oldest, self.newest)
    }
}

/// Why a schema cannot be put in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("schema {asked} is not one that this program writes: it knows {reads}")]
pub struct NotWritten {
    asked: Schema,
    reads: Reads,
}

/// Why a program cannot use a queue.
pub(crate) fn refusal(queue: &str, in_force: Schema, reads: Reads) -> String {
    let remedy = if in_force > reads.newest {
        "install the release that wrote it, or a newer one"
    } else {
        "install the release between them first, and let the queue run empty of what is older"
    };
    format!("the queue {queue} has schema {in_force}, this program reads {reads}: {remedy}")
}
