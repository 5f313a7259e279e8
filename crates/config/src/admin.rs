//! What the relay shows of itself, and how it goes away.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Admin {
    /// `/healthz`, `/readyz`, `/metrics` in clear; `None`: served by nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<SocketAddr>,
    /// `GET /v1/status` over mutual TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusListener>,
    /// The management API; a loopback address, since it asks nobody who they are. It may equal
    /// `health`: both are then served by one listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management: Option<SocketAddr>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            health: Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8080)),
            status: None,
            management: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8025)),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatusListener {
    pub address: SocketAddr,
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    /// Clients must hold a certificate of this authority.
    pub client_ca_file: PathBuf,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Telemetry {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<Otlp>,
    /// Of messages that come without a sampling decision of their own.
    pub sampling_percent: Percent,
    pub log: Log,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Otlp {
    /// `http://HOST:PORT`.
    pub endpoint: String,
    #[serde(default)]
    pub protocol: OtlpProtocol,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum OtlpProtocol {
    #[default]
    Grpc,
}

/// A whole number from 0 to 100.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Percent(u8);

impl Percent {
    pub fn value(self) -> u8 {
        self.0
    }
}

impl Default for Percent {
    fn default() -> Self {
        Self(100)
    }
}

impl TryFrom<u8> for Percent {
    type Error = &'static str;

    fn try_from(value: u8) -> Result<Self, &'static str> {
        if value <= 100 {
            Ok(Self(value))
        } else {
            Err("a percentage is a number from 0 to 100")
        }
    }
}

impl From<Percent> for u8 {
    fn from(percent: Percent) -> Self {
        percent.0
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Log {
    pub format: LogFormat,
    /// Directives as `info` or `info,relay::delivery=debug`.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            filter: "info".to_owned(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum LogFormat {
    Json,
    Text,
}

/// Going away, in this order: not ready, accept for `acceptFor` more, 421 to idle sessions, finish
/// what is open, give claims back; all of it before `deadline`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Drain {
    #[serde(with = "crate::duration")]
    pub accept_for: Duration,
    #[serde(with = "crate::duration")]
    pub deadline: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            accept_for: Duration::from_secs(5),
            deadline: Duration::from_secs(75),
        }
    }
}
