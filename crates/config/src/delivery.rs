//! How mail leaves.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Delivery {
    /// Connections to one destination at a time, over all relays of the queue.
    pub concurrency_per_destination: u32,
    pub messages_per_connection: u32,
    /// To one destination, over all relays of the queue. As fast as connections allow where it is
    /// left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    pub tls: NextHopTls,
    pub dns: Dns,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            concurrency_per_destination: 20,
            messages_per_connection: 100,
            rate: None,
            tls: NextHopTls::Opportunistic,
            dns: Dns::default(),
        }
    }
}

/// At most `burst` messages at once, and over any time `burst` more than `messages` in every `per`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// From 1 to 1,000,000.
    pub messages: u32,
    /// From 1 ms to a day.
    #[serde(with = "crate::duration")]
    pub per: Duration,
    /// From 1, which spreads the messages evenly, to 1,000,000.
    #[serde(default = "one")]
    pub burst: u32,
}

impl Rate {
    /// What is wrong with it.
    pub fn problem(&self) -> Option<&'static str> {
        let most = 1_000_000;
        let day = Duration::from_secs(24 * 60 * 60);
        if !(1..=most).contains(&self.messages) {
            Some("messages must be from 1 to 1000000")
        } else if !(Duration::from_millis(1)..=day).contains(&self.per) {
            Some("per must be from 1ms to 24h")
        } else if !(1..=most).contains(&self.burst) {
            Some("burst must be from 1 to 1000000")
        } else {
            None
        }
    }
}

fn one() -> u32 {
    1
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
