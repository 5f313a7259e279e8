//! Listeners.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::listener()))]
pub struct Listener {
    /// Also the name of the Service's port.
    #[schemars(regex(pattern = crate::pattern::PORT_NAME), length(min = 1, max = 15))]
    pub name: String,

    /// Port of the Service. The pod listens on an unprivileged one.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,

    /// Submission: from applications; missing fields are completed. Relay: from other servers.
    #[serde(default)]
    pub role: Role,

    /// TLS is always there: a password is never taken in clear.
    #[serde(default)]
    pub tls: ListenerTls,

    #[serde(default)]
    pub auth: Auth,

    /// Clients that may relay without AUTH, as address ranges. Nobody by default.
    ///
    /// The address that counts is the one the pod sees: a load balancer, or a node that forwards with
    /// its own address, hides the client's (`externalTrafficPolicy: Local` keeps it).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(regex(pattern = crate::pattern::NETWORK), length(max = 43)),
        extend(
            "x-kubernetes-list-type" = "set",
            "x-kubernetes-validations" = crate::rules::networks()
        )
    )]
    pub allowed_networks: Vec<String>,
}

pub(super) fn default_listeners() -> Vec<Listener> {
    vec![Listener {
        name: "submission".to_owned(),
        port: 587,
        role: Role::default(),
        tls: ListenerTls::default(),
        auth: Auth::default(),
        allowed_networks: Vec::new(),
    }]
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum Role {
    #[default]
    Submission,
    Relay,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::listener_tls()))]
pub struct ListenerTls {
    /// StartTLS: on request (RFC 3207). Implicit: from the first octet on (RFC 8314).
    #[serde(default)]
    pub mode: TlsMode,

    /// SelfIssued: a certificate of an authority made for this relay. SecretRef: yours.
    #[serde(default)]
    pub r#type: TlsType,

    /// A Secret of type kubernetes.io/tls in the relay's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    #[default]
    StartTLS,
    Implicit,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum TlsType {
    SecretRef,
    #[default]
    SelfIssued,
}

/// A Secret in the same namespace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    #[schemars(regex(pattern = crate::pattern::OBJECT_NAME), length(min = 1, max = 253))]
    pub name: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::auth()))]
pub struct Auth {
    /// Refuse mail of clients that did not authenticate.
    #[serde(default = "yes")]
    pub required: bool,

    /// Offered under TLS only.
    #[serde(default = "all_mechanisms")]
    #[schemars(length(max = 4), extend("x-kubernetes-list-type" = "set"))]
    pub mechanisms: Vec<Mechanism>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            required: true,
            mechanisms: all_mechanisms(),
        }
    }
}

fn yes() -> bool {
    true
}

fn all_mechanisms() -> Vec<Mechanism> {
    vec![Mechanism::Plain, Mechanism::Login]
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mechanism {
    Plain,
    Login,
}
