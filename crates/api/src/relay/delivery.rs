//! Tenants, delivery, limits and telemetry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    #[schemars(regex(pattern = crate::pattern::LABEL), length(min = 1, max = 63))]
    pub name: String,

    #[serde(default)]
    pub namespaces: TenantNamespaces,

    /// Domains the tenant may send as; any where nothing is said. A credential may only narrow this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 256),
        inner(regex(pattern = crate::pattern::DOMAIN_PATTERN), length(max = 253)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub sender_domains: Vec<String>,

    /// Credentials over this number are not accepted, the youngest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub max_credentials: Option<i32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantNamespaces {
    #[serde(default)]
    pub from: TenantsFrom,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum TenantsFrom {
    #[default]
    Same,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Delivery {
    /// Connections to one destination at a time, over all pods.
    #[schemars(range(min = 1, max = 1000))]
    pub concurrency_per_destination: i32,

    #[schemars(range(min = 1, max = 10000))]
    pub messages_per_connection: i32,

    /// Messages to one destination, over all pods. As many as connections allow where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,

    /// Opportunistic: where it is offered. Require: TLS with a certificate for the host that one of the
    /// public authorities vouches for, or no delivery; an authority of one's own is not known.
    pub tls: NextHopTls,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            concurrency_per_destination: 20,
            messages_per_connection: 100,
            rate: None,
            tls: NextHopTls::default(),
        }
    }
}

/// At most `burst` messages at once, and over any time `burst` more than `messages` in every `per`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::rate()))]
pub struct Rate {
    #[schemars(range(min = 1, max = 1_000_000))]
    pub messages: i32,

    /// 1s, 500ms, 1h; at most 24h.
    #[schemars(regex(pattern = crate::pattern::DURATION), length(max = 32))]
    pub per: String,

    /// 1 spreads the messages evenly.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: i32,
}

fn one() -> i32 {
    1
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum NextHopTls {
    #[default]
    Opportunistic,
    Require,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Of one message, 64Ki to 50Mi.
    #[schemars(
        regex(pattern = crate::pattern::SIZE),
        length(max = 16),
        extend("x-kubernetes-validations" = crate::rules::message_size())
    )]
    pub message_size: String,

    /// Of one message.
    #[schemars(range(min = 1, max = 50000))]
    pub recipients: i32,

    /// Of one pod.
    #[schemars(range(min = 1, max = 100000))]
    pub connections: i32,

    /// Of one client address at one pod.
    #[schemars(range(min = 1, max = 100000))]
    pub connections_per_client: i32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_size: "25Mi".to_owned(),
            recipients: 1000,
            connections: 1000,
            connections_per_client: 50,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Telemetry {
    /// An OpenTelemetry collector that takes the traces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp: Option<Otlp>,

    /// Of messages whose sender has not decided.
    #[serde(default = "everything")]
    #[schemars(range(min = 0, max = 100))]
    pub sampling_percent: i32,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            otlp: None,
            sampling_percent: everything(),
        }
    }
}

fn everything() -> i32 {
    100
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Otlp {
    /// http://HOST:PORT.
    #[schemars(regex(pattern = crate::pattern::OTLP_ENDPOINT), length(max = 255))]
    pub endpoint: String,

    #[serde(default)]
    pub protocol: OtlpProtocol,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum OtlpProtocol {
    #[default]
    Grpc,
}
