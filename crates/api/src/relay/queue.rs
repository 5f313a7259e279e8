//! The queue.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::queue()))]
pub struct Queue {
    /// Names the queue in its store; NAMESPACE.NAME of the relay where nothing is said, so a relay
    /// that is deleted and made again finds its mail. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = crate::pattern::QUEUE_ID), length(min = 1, max = 128))]
    pub id: Option<String>,

    #[serde(default)]
    pub r#type: QueueType,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,

    /// What must be true before a client hears 250. It is verified, not trusted.
    #[serde(default)]
    pub durability: Durability,

    /// How long a message is tried before it is returned to its sender.
    #[serde(default = "default_lifetime")]
    #[schemars(regex(pattern = crate::pattern::DURATION), length(max = 24))]
    pub lifetime: String,

    #[serde(default)]
    pub retry: Retry,

    /// How late a message may be before its sender is told that it is: with the first deferral after that,
    /// once for each recipient domain. Without it nobody is told before the message is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = crate::pattern::DURATION), length(max = 24))]
    pub delay_notice: Option<String>,
}

fn default_lifetime() -> String {
    "120h".to_owned()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum QueueType {
    #[default]
    Redis,
}

/// A Redis or Valkey server, version 7 or newer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Redis {
    /// Holds the URL: redis://HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/NAME for the primary that
    /// Sentinels call NAME, or redis+cluster://HOST:PORT,HOST:PORT; rediss for TLS, with USER:PASSWORD@
    /// before the hosts where asked.
    pub url_secret_ref: SecretKeyRef,

    /// Holds the certificates, in PEM, of the authorities that vouch for a server with TLS (rediss://).
    /// Without it the public authorities do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<CaSecretRef>,
}

/// One key of a Secret in the same namespace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    #[schemars(regex(pattern = crate::pattern::OBJECT_NAME), length(min = 1, max = 253))]
    pub name: String,

    #[serde(default = "default_key")]
    #[schemars(regex(pattern = crate::pattern::SECRET_KEY), length(min = 1, max = 253))]
    pub key: String,
}

fn default_key() -> String {
    "url".to_owned()
}

/// One key of a Secret in the same namespace that holds certificates.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaSecretRef {
    #[schemars(regex(pattern = crate::pattern::OBJECT_NAME), length(min = 1, max = 253))]
    pub name: String,

    #[serde(default = "default_ca_key")]
    #[schemars(regex(pattern = crate::pattern::SECRET_KEY), length(min = 1, max = 253))]
    pub key: String,
}

fn default_ca_key() -> String {
    "ca.crt".to_owned()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::durability()))]
pub struct Durability {
    #[serde(default)]
    pub r#type: DurabilityType,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicated: Option<Replicas>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fsync_replicated: Option<Replicas>,
}

/// The replicas of a primary.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Replicas {
    /// How many confirm each write: all that may be promoted.
    #[schemars(range(min = 1, max = 10))]
    pub acks: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum DurabilityType {
    /// In the memory of one server: accepted mail is lost with it.
    Memory,
    /// Synced to the disk of a server without replicas.
    #[default]
    Fsync,
    /// In the memory of a primary and of all replicas that may be promoted.
    Replicated,
    /// Synced to the disks of a primary and of all replicas that may be promoted; version 7.2 or newer.
    FsyncReplicated,
}

/// Waits between attempts: they double from `initial` to `max`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::retry()))]
pub struct Retry {
    #[serde(default = "default_initial")]
    #[schemars(regex(pattern = crate::pattern::DURATION), length(max = 24))]
    pub initial: String,

    #[serde(default = "default_max")]
    #[schemars(regex(pattern = crate::pattern::DURATION), length(max = 24))]
    pub max: String,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial: default_initial(),
            max: default_max(),
        }
    }
}

fn default_initial() -> String {
    "5m".to_owned()
}

fn default_max() -> String {
    "4h".to_owned()
}
