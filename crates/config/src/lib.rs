//! The contract between the operator and the relay: what a relay is told and what it reports.
//!
//! A relay knows nothing but these documents. The operator writes them, a person may write the
//! first one by hand for `--config`; it is the same format.
//!
//! In order:
//! 1. [`RelayConfig`] (`relay.yaml`) describes one relay: listeners, queue, delivery, limits.
//! 2. [`Attachments`] (`shard-NN.yaml`, at most [`SHARDS`]) carry what other people attach to it:
//!    credentials and routes. A document without `attachments` has them inline.
//! 3. [`Manifest`] (`manifest.json`) names the digests that belong together. Files arrive one by
//!    one, so [`load`] accepts only a complete match and the relay keeps what it has until then.
//! 4. [`Status`] is what a relay answers to the operator on its status listener.
//!
//! Invariants:
//! * Unknown fields are refused, and `schema` must be [`SCHEMA`]: an old relay never half-understands
//!   a new document.
//! * Every error names the file, the line, the field, and what to write instead.
//! * A value that was loaded is usable as it is: ranges, patterns and cross-field rules are checked here.
//! * Secrets are never shown by `Debug` and never quoted in an error.
//!
//! What it does not do: watch files, open sockets, know Kubernetes.

pub mod admin;
pub mod attachments;
pub mod credential;
pub mod delivery;
pub mod duration;
pub mod hostname;
pub mod listener;
pub mod manifest;
pub mod network;
pub mod pattern;
pub mod quantity;
pub mod queue;
pub mod redis_url;
pub mod relay;
pub mod route;
pub mod secret;
pub mod status;

mod load;
mod locate;
mod validate;

pub use crate::attachments::{Attachments, SHARDS};
pub use crate::credential::{Credential, ScramVerifier};
pub use crate::hostname::Hostname;
pub use crate::load::{ConfigError, Diagnostic, Loaded, load, parse};
pub use crate::manifest::{Digest, Manifest};
pub use crate::network::Network;
pub use crate::pattern::{DomainPattern, SenderPattern};
pub use crate::redis_url::{RedisUrl, RedisUrlError};
pub use crate::relay::{RelayConfig, SCHEMA};
pub use crate::route::{Action, Route, Rule, Smarthost};
pub use crate::secret::Secret;
pub use crate::status::Status;
pub use crate::validate::Violation;
