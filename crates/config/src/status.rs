//! What a relay reports on its status listener (`GET /v1/status`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::manifest::Digest;

/// A relay's report of itself. Unknown fields are ignored here: a newer relay may say more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// UID of the pod, so that an answer from a reused address is noticed.
    pub pod_uid: String,
    /// Document format the relay reads.
    pub schema: u32,
    /// The program's version.
    pub version: String,
    /// Digest of the `relay.yaml` in force; `None` while there is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<Digest>,
    /// Why a newer configuration is not in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_rejected: Option<Rejection>,
    /// Digests of the shards in force.
    #[serde(default)]
    pub attachments: BTreeMap<String, Digest>,
    /// Digest of the certificate file in force at each listener with TLS, by the listener's name;
    /// `None` from a relay that is too old to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<BTreeMap<String, Digest>>,
    pub durability: Durability,
    pub redis: Reachability,
    /// `None` while the queue does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// When the oldest message that could be delivered now became deliverable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_ready_time: Option<Timestamp>,
}

impl Status {
    /// The longest document [`Status::decode`] looks at.
    pub const MAX_OCTETS: usize = 64 << 10;

    /// Reads a report from a relay that may lie: bounded in size, in number and length of its parts.
    ///
    /// # Errors
    /// [`StatusError`] says which bound was broken or what is not a report at all.
    pub fn decode(octets: &[u8]) -> Result<Self, StatusError> {
        if octets.len() > Self::MAX_OCTETS {
            return Err(StatusError::TooLong);
        }
        let mut status: Self = serde_json::from_slice(octets)?;
        if status.attachments.len() > usize::from(crate::SHARDS) {
            return Err(StatusError::TooManyShards(status.attachments.len()));
        }
        for text in [
            Some(&mut status.pod_uid),
            Some(&mut status.version),
            status.config_rejected.as_mut().map(|r| &mut r.message),
            status.redis.error.as_mut(),
            match &mut status.durability {
                Durability::Unmet { remedy, .. } => Some(remedy),
                _ => None,
            },
        ]
        .into_iter()
        .flatten()
        {
            tame(text);
        }
        Ok(status)
    }
}

/// A configuration that was refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    /// Digest of the refused `relay.yaml`, where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<Digest>,
    pub message: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum Durability {
    /// Verified, as the next three.
    Memory,
    Fsync,
    Replicated {
        acks: u8,
    },
    FsyncReplicated {
        acks: u8,
    },
    Unmet {
        reason: DurabilityReason,
        remedy: String,
    },
    /// Not asked yet, or the store does not answer.
    Unknown,
}

impl Durability {
    /// The level in force.
    pub fn level(&self) -> Option<&'static str> {
        match self {
            Self::Memory => Some("Memory"),
            Self::Fsync => Some("Fsync"),
            Self::Replicated { .. } => Some("Replicated"),
            Self::FsyncReplicated { .. } => Some("FsyncReplicated"),
            Self::Unmet { .. } | Self::Unknown => None,
        }
    }
}

/// Why the declared level is not in force.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum DurabilityReason {
    AofOff,
    Evicting,
    FailoverCanLose,
    FsyncPausedOnRewrite,
    NotFsyncAlways,
    TooFewReplicas,
    /// Also what a relay newer than this program says in a word unknown here.
    #[serde(other)]
    NotVerified,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reachability {
    pub reachable: bool,
    pub since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Messages in the queue as a whole, the same from every pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    pub ready: u64,
    pub deferred: u64,
    pub in_flight: u64,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    #[error("the report is longer than {} octets", Status::MAX_OCTETS)]
    TooLong,
    #[error("the report names {0} shards")]
    TooManyShards(usize),
    #[error("the report cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Cuts text to what may go into a condition, without control characters.
fn tame(text: &mut String) {
    *text = text.chars().filter(|c| !c.is_control()).take(512).collect();
}

#[cfg(test)]
mod tests {
    use super::{Durability, DurabilityReason, Status, StatusError};

    fn report(extra: &str) -> String {
        format!(
            r#"{{"podUid":"u","schema":1,"version":"0.0.0","durability":{{"type":"Unmet","reason":"AofOff","remedy":"a\nb"}},
            "redis":{{"reachable":false,"since":"2026-01-01T00:00:00Z","error":"{}"}},"future":1{extra}}}"#,
            "x".repeat(2000)
        )
    }

    #[test]
    fn distrusts() {
        let status = Status::decode(report("").as_bytes()).unwrap();
        assert_eq!(status.redis.error.unwrap().len(), 512);
        assert_eq!(
            status.durability,
            Durability::Unmet {
                reason: DurabilityReason::AofOff,
                remedy: "ab".to_owned()
            }
        );
        let digest = "0".repeat(64);
        let shards: Vec<_> = (0..17).map(|n| format!(r#""{n}":"{digest}""#)).collect();
        let many = report(&format!(r#","attachments":{{{}}}"#, shards.join(",")));
        assert!(matches!(
            Status::decode(many.as_bytes()),
            Err(StatusError::TooManyShards(17))
        ));
        assert!(matches!(
            Status::decode(&vec![b' '; 65537]),
            Err(StatusError::TooLong)
        ));
        assert!(matches!(
            Status::decode(b"[]"),
            Err(StatusError::Malformed(_))
        ));
    }

    #[test]
    fn unknown_reason_is_not_verified() {
        let text = report("").replace("AofOff", "SomethingNew");
        let status = Status::decode(text.as_bytes()).unwrap();
        assert!(matches!(
            status.durability,
            Durability::Unmet {
                reason: DurabilityReason::NotVerified,
                ..
            }
        ));
    }
}
