//! The Internet Message Format (RFC 5322), as far as a relay reads and writes it.
//!
//! The procedure of a message on its way in, in order:
//!
//! 1. [`HeaderSection::scan`] reads the header section of the [`Content`](smtp::Content), once,
//!    where it lies.
//! 2. [`HeaderSection::check_hops`] refuses what has been relayed too often.
//! 3. [`trace_fields`] makes what the relay puts in front: `Received`, and what a submission
//!    lacks.
//!
//! And on its way out, when there is something to tell its sender: [`dsn::Notification`] makes a
//! delivery status notification of RFC 3464, ready to be enqueued.
//!
//! Invariants:
//!
//! * The octets of a message are never altered, only put behind others.
//! * Whatever a client or a next hop says, each line written here ends in CRLF, has at most 998
//!   octets, and begins no field but the one that was meant.
//! * A notification is addressed to a [`Mailbox`](smtp::Mailbox), which the null reverse-path is
//!   not: nothing bounces a bounce.
//!
//! What it does not do: it parses no address fields and no MIME, adds no `Return-Path` (that is for
//! the final delivery), and signs nothing. Notifications do not carry what the sender asked for
//! with RFC 3461 (ORCPT, ENVID), and internationalised ones (RFC 6533) are not made.

#![warn(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

pub mod dsn;
mod header;
mod text;
mod trace;

pub use header::{HeaderSection, MAX_HOPS, TooManyHops};
pub use trace::{Received, Role, Tls, trace_fields};
