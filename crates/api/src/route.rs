//! `MailRoute`: where mail goes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::relay::conditions_schema;
pub use crate::relay::{NextHopTls, Rate};

/// Says where mail of some relays goes. Precedence over all routes of a relay: exact domain, longest
/// wildcard, any; then priority; then name. Mail that no rule matches goes to its domain's mail
/// exchangers.
///
/// A rule that leads somewhere else takes the mail that was queued by it along at once. Mail that was
/// queued for mail exchangers stays with them when a rule comes later.
#[derive(CustomResource, Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kurier.dev",
    version = "v1alpha1",
    kind = "MailRoute",
    namespaced,
    derive = "PartialEq",
    shortname = "mroute",
    category = "mail",
    status = "MailRouteStatus",
    doc = "Says where mail of some relays goes.",
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority"),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.parents[*].conditions[?(@.type==\"Programmed\")].status"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct MailRouteSpec {
    /// Relays in the same namespace.
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub parent_refs: Vec<ParentRef>,

    /// Between rules that match alike the higher one decides.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,

    #[schemars(
        length(min = 1, max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub rules: Vec<Rule>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    #[schemars(regex(pattern = crate::pattern::LABEL), length(min = 1, max = 63))]
    pub name: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::rule()))]
pub struct Rule {
    #[schemars(regex(pattern = crate::pattern::LABEL), length(min = 1, max = 63))]
    pub name: String,

    #[serde(default)]
    pub r#match: Match,

    pub action: Action,

    /// What holds for the smarthost instead of what the relay says for every destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<RuleLimits>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleLimits {
    /// Connections at a time, over all pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub concurrency: Option<i32>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// What is left out matches everything.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    /// example.com, *.example.com (every domain below it) or *.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(regex(pattern = crate::pattern::DOMAIN_PATTERN), length(max = 253)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub recipient_domains: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::action()))]
pub struct Action {
    pub r#type: ActionType,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smarthost: Option<Smarthost>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub enum ActionType {
    /// To the mail exchangers of the recipient's domain.
    #[serde(rename = "MX")]
    Mx,
    /// To one host that takes all mail.
    Smarthost,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Smarthost {
    /// A host name, whose addresses are used (not its mail exchangers), or an address.
    #[schemars(regex(pattern = crate::pattern::HOST), length(min = 1, max = 253))]
    pub host: String,

    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,

    /// Opportunistic: where it is offered. Require: TLS with a certificate for the host that one of the
    /// public authorities vouches for, or no delivery; an authority of one's own is not known.
    #[serde(default)]
    pub tls: NextHopTls,
}

fn default_port() -> i32 {
    25
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MailRouteStatus {
    /// One entry for each relay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub parents: Vec<ParentStatus>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    pub parent_ref: ParentRef,

    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}
