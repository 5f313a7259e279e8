//! Where accepted mail waits.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Queue {
    /// Names the queue in its store; another relay with the same id and owner is the same queue.
    #[serde(default = "default_id")]
    pub id: String,
    /// Written into the store beside the schema: whoever names another owner is refused.
    #[serde(default = "default_owner")]
    pub owner: String,
    pub source: Source,
    #[serde(default)]
    pub durability: Durability,
    /// How long a message may stay before it is returned to its sender (RFC 5321 §4.5.4.1).
    #[serde(with = "crate::duration", default = "default_lifetime")]
    pub lifetime: Duration,
    /// How long a message may be late before its sender is told that it is; told with the first deferral after
    /// that, once for each domain. Nothing said, nobody is told.
    #[serde(
        with = "crate::duration::optional",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub delay_notice: Option<Duration>,
    /// What the end of its lifetime means for mail that is held.
    #[serde(default)]
    pub held_expiry: HeldExpiry,
    #[serde(default)]
    pub retry: Retry,
    /// The schema to put in force (`docs/operations.md`); nothing said, it stays what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<u32>,
    #[serde(default)]
    pub journal: Journal,
}

/// The journal of outcomes, kept in the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Journal {
    /// Entries kept, of up to some thirty outcomes; 0 for no journal.
    pub entries: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum HeldExpiry {
    /// It is returned to its sender as all other mail.
    #[default]
    Expire,
    /// It stays until somebody releases or drops it.
    Keep,
}

fn default_id() -> String {
    "local".to_owned()
}

fn default_owner() -> String {
    "local".to_owned()
}

fn default_lifetime() -> Duration {
    Duration::from_secs(120 * 3600)
}

/// Written as `{type: Redis, redis: {..}}` or `{type: Embedded, embedded: {..}}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "SourceDocument", into = "SourceDocument")]
pub enum Source {
    Redis(Redis),
    Embedded(Embedded),
}

/// A Redis or Valkey server. Exactly one of `url` and `url_file` is set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Redis {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Secret>,
    /// A file that holds nothing but the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_file: Option<PathBuf>,
    /// PEM certificates of the authorities that may vouch for a server with TLS, instead of the
    /// public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// A file of this process alone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Embedded {
    /// Directory of the queue's files; made when absent.
    pub path: PathBuf,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SourceDocument {
    r#type: SourceType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    redis: Option<Redis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    embedded: Option<Embedded>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum SourceType {
    Redis,
    Embedded,
}

impl TryFrom<SourceDocument> for Source {
    type Error = &'static str;

    fn try_from(document: SourceDocument) -> Result<Self, &'static str> {
        match (document.r#type, document.redis, document.embedded) {
            (SourceType::Redis, Some(redis), None) => {
                if redis.url.is_some() == redis.url_file.is_some() {
                    return Err("set exactly one of redis.url and redis.urlFile");
                }
                Ok(Self::Redis(redis))
            }
            (SourceType::Embedded, None, Some(embedded)) => Ok(Self::Embedded(embedded)),
            (SourceType::Redis, ..) => Err("type Redis needs the member `redis` and no other"),
            (SourceType::Embedded, ..) => {
                Err("type Embedded needs the member `embedded` and no other")
            }
        }
    }
}

impl From<Source> for SourceDocument {
    fn from(source: Source) -> Self {
        match source {
            Source::Redis(redis) => Self {
                r#type: SourceType::Redis,
                redis: Some(redis),
                embedded: None,
            },
            Source::Embedded(embedded) => Self {
                r#type: SourceType::Embedded,
                redis: None,
                embedded: Some(embedded),
            },
        }
    }
}

/// What a confirmed write is worth; checked against the store, not trusted. Written as `{type: Fsync}`
/// or `{type: Replicated, replicated: {acks: 1}}`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "DurabilityDocument", into = "DurabilityDocument")]
pub enum Durability {
    /// In the memory of one server.
    Memory,
    /// Synced to stable storage.
    #[default]
    Fsync,
    /// In the memory of a primary and of all that may take its place.
    Replicated(Replicas),
    /// Both.
    FsyncReplicated(Replicas),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Replicas {
    /// How many confirm each write, from 1 to 10.
    pub acks: u8,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DurabilityDocument {
    r#type: DurabilityType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replicated: Option<Replicas>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fsync_replicated: Option<Replicas>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum DurabilityType {
    Memory,
    Fsync,
    Replicated,
    FsyncReplicated,
}

impl TryFrom<DurabilityDocument> for Durability {
    type Error = &'static str;

    fn try_from(document: DurabilityDocument) -> Result<Self, &'static str> {
        use DurabilityType as T;
        let durability = match (
            document.r#type,
            document.replicated,
            document.fsync_replicated,
        ) {
            (T::Memory, None, None) => Self::Memory,
            (T::Fsync, None, None) => Self::Fsync,
            (T::Replicated, Some(replicas), None) => Self::Replicated(replicas),
            (T::FsyncReplicated, None, Some(replicas)) => Self::FsyncReplicated(replicas),
            (T::Memory | T::Fsync, ..) => return Err("types Memory and Fsync have no member"),
            (T::Replicated, ..) => {
                return Err("type Replicated needs the member `replicated` and no other");
            }
            (T::FsyncReplicated, ..) => {
                return Err("type FsyncReplicated needs the member `fsyncReplicated` and no other");
            }
        };
        match durability {
            Self::Replicated(Replicas { acks }) | Self::FsyncReplicated(Replicas { acks })
                if !(1..=10).contains(&acks) =>
            {
                Err("acks must be from 1 to 10")
            }
            durability => Ok(durability),
        }
    }
}

impl From<Durability> for DurabilityDocument {
    fn from(durability: Durability) -> Self {
        let (r#type, replicated, fsync_replicated) = match durability {
            Durability::Memory => (DurabilityType::Memory, None, None),
            Durability::Fsync => (DurabilityType::Fsync, None, None),
            Durability::Replicated(replicas) => (DurabilityType::Replicated, Some(replicas), None),
            Durability::FsyncReplicated(replicas) => {
                (DurabilityType::FsyncReplicated, None, Some(replicas))
            }
        };
        Self {
            r#type,
            replicated,
            fsync_replicated,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retry {
    /// Wait after the first deferral; doubles with each further one.
    #[serde(with = "crate::duration")]
    pub initial: Duration,
    #[serde(with = "crate::duration")]
    pub max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(300),
            max: Duration::from_secs(4 * 3600),
        }
    }
}

/// Timing of leases and claims. All relays of one queue must have the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Timing {
    /// A worker without a beat for this long may be reaped.
    #[serde(with = "crate::duration")]
    pub lease: Duration,
    #[serde(with = "crate::duration")]
    pub beat: Duration,
    /// A claim that is not begun goes back after this.
    #[serde(with = "crate::duration")]
    pub claim: Duration,
    /// A begun claim goes back after this.
    #[serde(with = "crate::duration")]
    pub begun: Duration,
    /// The latest moment a parked queue looks again by itself.
    #[serde(with = "crate::duration")]
    pub safety_wake: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            beat: Duration::from_secs(5),
            claim: Duration::from_secs(120),
            begun: Duration::from_secs(1800),
            safety_wake: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Durability, Replicas};

    #[test]
    fn a_level_is_written_as_it_is_read() {
        let two = Replicas { acks: 2 };
        for (text, level) in [
            (r#"{"type":"Memory"}"#, Durability::Memory),
            (r#"{"type":"Fsync"}"#, Durability::Fsync),
            (
                r#"{"type":"Replicated","replicated":{"acks":2}}"#,
                Durability::Replicated(two),
            ),
            (
                r#"{"type":"FsyncReplicated","fsyncReplicated":{"acks":2}}"#,
                Durability::FsyncReplicated(two),
            ),
        ] {
            assert_eq!(serde_json::from_str::<Durability>(text).unwrap(), level);
            assert_eq!(serde_json::to_string(&level).unwrap(), text);
        }
    }

    #[test]
    fn a_level_has_the_member_of_its_type() {
        for (text, why) in [
            (r#"{"type":"Replicated"}"#, "needs the member `replicated`"),
            (
                r#"{"type":"FsyncReplicated"}"#,
                "needs the member `fsyncReplicated`",
            ),
            (
                r#"{"type":"FsyncReplicated","replicated":{"acks":1}}"#,
                "`fsyncReplicated`",
            ),
            (r#"{"type":"Fsync","replicated":{"acks":1}}"#, "no member"),
            (
                r#"{"type":"Replicated","replicated":{"acks":0}}"#,
                "from 1 to 10",
            ),
            (
                r#"{"type":"Replicated","replicated":{"acks":11}}"#,
                "from 1 to 10",
            ),
        ] {
            let error = serde_json::from_str::<Durability>(text)
                .unwrap_err()
                .to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
