//! `MailRelay`: a relay.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::delivery::{
    Delivery, Limits, NextHopTls, Otlp, OtlpProtocol, Rate, Telemetry, Tenant, TenantNamespaces,
    TenantsFrom,
};
pub use self::listener::{
    Auth, Listener, ListenerTls, Mechanism, Role, SecretRef, TlsMode, TlsType,
};
pub use self::pods::Pods;
pub use self::queue::{
    CaSecretRef, Durability, DurabilityType, Queue, QueueType, Redis, Replicas, Retry, SecretKeyRef,
};
pub use self::status::{ListenerStatus, MailRelayStatus, QueueStatus};

mod delivery;
mod listener;
mod pods;
mod queue;
mod status;

/// A mail relay: SMTP pods that share a delivery queue. Writing one equals creating pods.
#[derive(CustomResource, Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kurier.dev",
    version = "v1alpha1",
    kind = "MailRelay",
    namespaced,
    derive = "PartialEq",
    shortname = "mr",
    category = "mail",
    status = "MailRelayStatus",
    doc = "A mail relay: SMTP pods that share a delivery queue.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Queued", type_ = "integer", json_path = ".status.queue.ready"),
    printcolumn(
        name = "Deferred",
        type_ = "integer",
        json_path = ".status.queue.deferred"
    ),
    printcolumn(
        name = "Oldest",
        type_ = "date",
        json_path = ".status.queue.oldestReadyTime"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Address",
        type_ = "string",
        json_path = ".status.address",
        priority = 1
    ),
    printcolumn(
        name = "Durability",
        type_ = "string",
        json_path = ".status.durability",
        priority = 1
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.version",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct MailRelaySpec {
    /// The name in SMTP greetings, Received fields and notifications. It should resolve, from
    /// where the mail goes, to the address the mail comes from.
    #[schemars(regex(pattern = crate::pattern::HOSTNAME), length(min = 1, max = 253))]
    pub hostname: String,

    /// Where clients connect. One submission listener on port 587 by default.
    #[serde(default = "listener::default_listeners")]
    #[schemars(
        length(min = 1, max = 8),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["name"],
            "x-kubernetes-validations" = crate::rules::listeners()
        )
    )]
    pub listeners: Vec<Listener>,

    /// What namespaces are granted. Without an entry only the relay's own namespace may attach
    /// credentials, and may send as any domain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 1),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub tenants: Vec<Tenant>,

    /// Where accepted mail waits.
    pub queue: Queue,

    /// How mail leaves.
    #[serde(default)]
    pub delivery: Delivery,

    /// How much clients may ask.
    #[serde(default)]
    pub limits: Limits,

    /// Number of pods; 2 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<i32>,

    /// What the relay tells about each message.
    #[serde(default)]
    pub telemetry: Telemetry,

    /// Additions to the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<Pods>,
}

/// The conditions of a status: a map by type for server-side apply.
pub(crate) fn conditions_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut schema = generator.subschema_for::<Vec<Condition>>();
    schema.insert("maxItems".to_owned(), 16.into());
    schema.insert("x-kubernetes-list-type".to_owned(), "map".into());
    schema.insert(
        "x-kubernetes-list-map-keys".to_owned(),
        serde_json::json!(["type"]),
    );
    schema
}
