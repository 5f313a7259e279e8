//! The data plane: it accepts messages over SMTP, keeps them in the delivery queue, and delivers
//! them to their next hops.
//!
//! The procedure of one message, in order:
//! 1. a [`listener`] accepts a connection, within limits, and drives its session;
//! 2. [`admission`] decides who may send what to whom: nobody, by default;
//! 3. [`reception`] makes the message what it will be for ever (trace fields, id, hash,
//!    one task for each recipient domain by a [route](routing)) and commits it to the queue; only
//!    then the client hears `250`;
//! 4. [delivery] claims tasks of whichever process accepted them, and settles each recipient:
//!    delivered, deferred, or failed with a notification to the sender.
//!
//! Around it: the configuration [in force](active), [followed](config_watch) without a restart, and
//! the [administrative interface](admin). [`Relay`] starts it all and ends it in order.
//!
//! Invariants:
//! * A process holds no state whose loss loses mail: `250` follows the queue's confirmation.
//! * A queue that cannot be reached gives clients 451, never a refused connection.
//! * Whoever is not known may not relay. A revoked credential is refused from the next transaction
//!   on.
//! * One task per connection, none per command; whatever a peer can make grow has a bound.
//!
//! What it does not do: talk to Kubernetes, know how the queue is stored, speak the protocol itself
//! (that is `smtp`), look for mail exchangers (`nexthop`).
#![allow(rustdoc::private_intra_doc_links)]

mod active;
mod admin;
mod admission;
mod body;
mod check;
mod config_watch;
pub mod delivery;
mod delivery_settings;
mod listener;
mod metrics;
mod reception;
pub mod routing;
mod run;
mod tls;

pub use active::CompileError;
pub use check::check;
pub use run::{Relay, Settings, StartError, run, timing};
pub use tls::TlsError;
