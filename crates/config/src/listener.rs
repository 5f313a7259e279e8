//! Where clients connect, and how much they may ask.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::network::Network;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    pub name: String,
    /// `[::]:PORT` means every address of both families, or IPv4 alone on a host without IPv6.
    pub address: SocketAddr,
    pub role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,
    #[serde(default)]
    pub auth: Auth,
    /// Clients that may relay without AUTH. Nobody by default.
    #[serde(default)]
    pub allowed_networks: Vec<Network>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Role {
    /// RFC 6409: message submission; missing `Date` and `Message-ID` are added.
    Submission,
    /// RFC 5321: relay between servers; content is not completed.
    Relay,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerTls {
    pub mode: TlsMode,
    /// PEM certificate chain, leaf first.
    pub certificate_file: PathBuf,
    /// PEM private key.
    pub key_file: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum TlsMode {
    /// RFC 3207.
    StartTLS,
    /// RFC 8314 §3.3.
    Implicit,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Auth {
    /// Refuse MAIL of clients that did not authenticate, `allowedNetworks` included.
    #[serde(default)]
    pub required: bool,
    /// Offered in this order, and only under TLS. Empty: AUTH is not offered.
    #[serde(default = "all_mechanisms")]
    pub mechanisms: Vec<Mechanism>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            required: false,
            mechanisms: all_mechanisms(),
        }
    }
}

fn all_mechanisms() -> Vec<Mechanism> {
    vec![Mechanism::Plain, Mechanism::Login]
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Mechanism {
    /// RFC 4616.
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "LOGIN")]
    Login,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Octets of one message, 64Ki to 50Mi.
    #[serde(with = "crate::quantity")]
    pub message_size: u64,
    /// Recipients of one mail transaction (RFC 5321 §4.5.3.1.8 asks for at least 100).
    pub recipients: u32,
    /// Open connections of this process.
    pub connections: u32,
    /// Open connections from one client address.
    pub connections_per_client: u32,
}

/// What [`Limits::message_size`] may be. RFC 5321 §4.5.3.1.7: at least 64 KiB.
pub const MESSAGE_SIZE: std::ops::RangeInclusive<u64> = 64 << 10..=50 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_size: 25 << 20,
            recipients: 1000,
            connections: 1000,
            connections_per_client: 50,
        }
    }
}
