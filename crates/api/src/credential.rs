//! `MailCredential`: who may submit, and as whom.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::relay::conditions_schema;

/// Lets an application submit mail to a relay, never more than the relay granted.
#[derive(CustomResource, Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kurier.dev",
    version = "v1alpha1",
    kind = "MailCredential",
    namespaced,
    derive = "PartialEq",
    shortname = "mc",
    category = "mail",
    status = "MailCredentialStatus",
    doc = "Lets an application submit mail to a relay.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Relay", type_ = "string", json_path = ".spec.relayRef.name"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secretName"),
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
    )
)]
#[serde(rename_all = "camelCase")]
pub struct MailCredentialSpec {
    pub relay_ref: RelayRef,

    /// What the reverse-path may be: noreply@example.com, *@example.com, *@*.example.com. Whatever the
    /// relay grants where nothing is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(regex(pattern = crate::pattern::SENDER_PATTERN), length(max = 320)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allowed_senders: Vec<String>,

    /// How the application proves who it is.
    #[schemars(
        length(min = 1, max = 1),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub authentication: Vec<Authentication>,
}

/// A relay; in the credential's own namespace where none is named.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RelayRef {
    #[schemars(regex(pattern = crate::pattern::LABEL), length(min = 1, max = 63))]
    pub name: String,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = crate::pattern::LABEL), length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::authentication()))]
pub struct Authentication {
    #[schemars(regex(pattern = crate::pattern::LABEL), length(min = 1, max = 63))]
    pub name: String,

    pub r#type: AuthenticationType,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub enum AuthenticationType {
    /// A generated password, handed over in a Secret.
    Password,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Password {
    /// The Secret to make, in the credential's namespace. One that is there already is never
    /// overwritten. Delete it to get a new password.
    #[schemars(regex(pattern = crate::pattern::OBJECT_NAME), length(min = 1, max = 253))]
    pub secret_name: String,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MailCredentialStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,

    /// The Secret to use, once every ready pod takes what is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}
