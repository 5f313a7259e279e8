//! Who may submit.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::pattern::SenderPattern;

/// One application that authenticates by name and password.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credential {
    /// The authentication identity.
    pub username: String,
    /// Whose mail it is.
    pub tenant: String,
    /// What the reverse-path may be; empty is any the tenant may use.
    #[serde(default)]
    pub allowed_senders: Vec<SenderPattern>,
    pub scram_sha256: ScramVerifier,
}

impl Credential {
    /// Whether the reverse-path may be `local_part@domain`.
    pub fn may_send_as(&self, local_part: &str, domain: &str) -> bool {
        self.allowed_senders.is_empty()
            || self
                .allowed_senders
                .iter()
                .any(|p| p.matches(local_part, domain))
    }
}

/// RFC 5802 §3, RFC 7677: enough to check a password, not enough to use it elsewhere.
///
/// `SaltedPassword = PBKDF2-HMAC-SHA-256(password, salt, iterations)`,
/// `StoredKey = SHA-256(HMAC(SaltedPassword, "Client Key"))`,
/// `ServerKey = HMAC(SaltedPassword, "Server Key")`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScramVerifier {
    #[serde(serialize_with = "write_octets", deserialize_with = "read_salt")]
    pub salt: Vec<u8>,
    pub iterations: NonZeroU32,
    #[serde(serialize_with = "write_octets", deserialize_with = "read_key")]
    pub stored_key: [u8; 32],
    #[serde(serialize_with = "write_octets", deserialize_with = "read_key")]
    pub server_key: [u8; 32],
}

impl std::fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScramVerifier(..)")
    }
}

fn write_octets<S: Serializer>(octets: impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(octets))
}

fn read_salt<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let salt = read_octets(deserializer)?;
    if (8..=64).contains(&salt.len()) {
        Ok(salt)
    } else {
        Err(de::Error::custom("a salt has 8 to 64 octets"))
    }
}

fn read_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    read_octets(deserializer)?
        .try_into()
        .map_err(|_| de::Error::custom("a key has 32 octets"))
}

fn read_octets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    // The text itself is left out of the error: it is a verifier.
    STANDARD
        .decode(String::deserialize(deserializer)?)
        .map_err(|_| de::Error::custom("not base64"))
}
