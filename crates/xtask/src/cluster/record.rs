//! What a cluster writes down about itself, for whoever comes after it.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::{Cluster, daemon::Daemon};

/// Also the mark that a folder is a cluster's and may be emptied.
const FILE: &str = "cluster.json";

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) nodes: u8,
    /// Set last, when everything is.
    pub(super) ready: bool,
    pub(super) daemons: Vec<Daemon>,
    /// Settings of the machine that a kubelet changes, as they were before.
    pub(super) sysctls: BTreeMap<PathBuf, String>,
}

impl Cluster {
    /// `None` when there is no cluster.
    pub(super) fn record(&self) -> Result<Option<Record>> {
        let path = self.dir().join(FILE);
        let Ok(text) = fs::read_to_string(&path) else {
            return Ok(None);
        };
        // A crash while it was written leaves the mark, and nothing that could be used.
        Ok(Some(serde_json::from_str(&text).unwrap_or_default()))
    }

    pub(super) fn write(&self, record: &Record) -> Result<()> {
        let path = self.dir().join(FILE);
        let text = serde_json::to_string_pretty(record)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Refuses a folder that holds something else: `down` empties it.
    pub(super) fn claim(&self) -> Result<()> {
        let dir = self.dir();
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let empty = fs::read_dir(dir)?.next().is_none();
        if !empty && !dir.join(FILE).is_file() {
            bail!("{} is not empty and not a cluster's folder", dir.display());
        }
        self.write(&Record::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_something_else_in_it_is_not_taken() {
        let base = tempfile::tempdir().unwrap();
        let cluster = Cluster::at(Some(base.path().join("c"))).unwrap();
        assert!(cluster.record().unwrap().is_none());
        cluster.claim().unwrap();
        cluster.claim().unwrap();
        assert!(!cluster.record().unwrap().unwrap().ready);
        fs::write(cluster.dir().join("cluster.json"), "{ half").unwrap();
        assert!(!cluster.record().unwrap().unwrap().ready);

        fs::write(base.path().join("file"), "mine").unwrap();
        let other = Cluster::at(Some(base.path().into())).unwrap();
        assert!(other.claim().is_err());
    }
}
