//! How mail leaves.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Delivery {
    /// Connections to one destination at a time, over all relays of the queue.
    pub concurrency_per_destination: u32,
    pub messages_per_connection: u32,
    pub tls: NextHopTls,
    pub dns: Dns,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            concurrency_per_destination: 20,
            messages_per_connection: 100,
            tls: NextHopTls::Opportunistic,
            dns: Dns::default(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum NextHopTls {
    /// RFC 7435: TLS where it is offered, unverified; in clear where it is not.
    Opportunistic,
    /// Verified TLS or no delivery.
    Require,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Dns {
    /// Resolvers to ask; empty: those of the system.
    pub servers: Vec<SocketAddr>,
}
