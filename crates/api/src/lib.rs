//! The custom resources of Kurier: what people write, and what the operator answers.
//!
//! | kind | who writes it | what it says |
//! |---|---|---|
//! | [`MailRelay`] | platform team | a relay: listeners, who may use it, queue, delivery |
//! | [`MailCredential`] | application team | who may submit, as whom |
//! | [`MailRoute`] | platform team | where mail goes |
//!
//! In order: the kinds and their schemas; [`rules`], what the API server checks over several fields;
//! [`condition`], the closed vocabulary of status; [`crds`], the definitions as they are installed.
//!
//! Invariants, each a test over the generated definitions:
//! * Every list states its type and its greatest length; every string that can reach a protocol line
//!   has a pattern that excludes CR, LF and NUL.
//! * No floats; durations are GEP-2257 strings, so that rules can compare them.
//! * Every union has a `type` and a rule that exactly the named member is set.
//! * What is not built yet is not in the schema: a field that is there does something.
//!
//! What it does not do: talk to a cluster, decide anything that needs a second object.

#![expect(
    clippy::duplicated_attributes,
    reason = "every printer column is described with the same attributes"
)]

pub mod condition;
pub mod credential;
pub mod names;
pub mod pattern;
pub mod relay;
pub mod route;
pub mod rules;

mod definitions;

pub use crate::credential::MailCredential;
pub use crate::definitions::crds;
pub use crate::relay::MailRelay;
pub use crate::route::MailRoute;
