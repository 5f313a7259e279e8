//! The control plane: makes relays out of `MailRelay`s, and tells in their status how it stands.
//!
//! Every replica serves health and metrics; the one that holds the Lease writes. Per kind one folder
//! with a short driver and one file per step, in this order:
//! 1. *dereference*: fetch everything the spec refers to (needs the cluster);
//! 2. *validate*: pure; gives the only type the next step takes, or the reason why not;
//! 3. *build*: pure; one file per kind of child;
//! 4. *apply*: server-side apply, then remove what is no longer built;
//! 5. *observe*: ask each relay pod over mutual TLS what it serves, and make the kubelet hurry;
//! 6. *status*: pure; from what was applied and observed; written only when it changes.
//!
//! Invariants:
//! * Only the holder of the Lease writes; every write checks a monotonic deadline first.
//! * Children are pure functions of validated input. What is not ours is never overwritten.
//! * An object that cannot be read stops nobody else's.
//! * A relay pod is believed nothing but its report, bounded; a report from another pod is dropped.
//! * No secret reaches a log line, an event, a condition or a `Debug` output.
//!
//! What it does not do: touch Redis, carry mail, run while nobody has installed the definitions
//! (it waits for them).

mod apply;
mod backoff;
mod certificate;
mod cluster;
mod context;
mod credential;
mod http;
mod leader;
mod metrics;
mod password;
mod relay;
mod route;
mod run;
mod settings;
mod status_client;
mod watch;

pub use crate::run::{RunError, run};
pub use crate::settings::{LeaseTiming, LeaseTimingError, Settings};
