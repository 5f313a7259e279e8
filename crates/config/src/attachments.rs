//! `shard-NN.yaml`: what other people attach to a relay.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::credential::Credential;
use crate::route::Route;

/// Into how many files attachments are spread. Fixed: the pod mounts each of them by name.
pub const SHARDS: u8 = 16;

/// One shard.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attachments {
    /// Must be [`SCHEMA`](crate::SCHEMA).
    pub schema: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Credential>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
}

impl Attachments {
    pub fn is_empty(&self) -> bool {
        self.credentials.is_empty() && self.routes.is_empty()
    }
}

/// Where the shards and their manifest are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AttachmentFiles {
    /// Directory of `shard-NN.yaml`; an absent file is an empty shard.
    pub directory: PathBuf,
    pub manifest: PathBuf,
}

/// The name of a shard in the manifest and in [`Status`](crate::Status): two digits.
pub fn shard_name(shard: u8) -> String {
    format!("{shard:02}")
}

/// The file of a shard.
pub fn shard_file(name: &str) -> String {
    format!("shard-{name}.yaml")
}
