//! Where a cluster keeps what, and what its things are called.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::{paths, tools::go};

/// Service addresses; the first is the API server's, the tenth the name server's.
pub(super) const SERVICES: &str = "10.96.0.0/16";
pub(super) const API_SERVICE: &str = "10.96.0.1";
pub(super) const DNS_SERVICE: &str = "10.96.0.10";
/// Pod addresses of all nodes.
pub(super) const PODS: &str = "10.244.0.0/16";

/// A cluster, running or not: a folder, and the id that follows from it.
pub(crate) struct Cluster {
    dir: PathBuf,
    id: String,
}

/// One node of a cluster.
pub(super) struct Node {
    pub(super) name: String,
    /// From 1; the first has the control plane.
    pub(super) index: u8,
    /// Its network namespace and its cgroup are called this.
    pub(super) unique_name: String,
    pub(super) dir: PathBuf,
}

impl Cluster {
    /// # Errors
    /// When the folder's path cannot be made absolute.
    pub(crate) fn at(dir: Option<PathBuf>) -> Result<Self> {
        let dir = match dir {
            Some(dir) => dir,
            None => paths::state()?.join("cluster"),
        };
        let dir = resolve(&dir)?;
        let digest = Sha256::digest(dir.as_os_str().as_encoded_bytes());
        let id = digest[..4]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Self { dir, id })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// Digest of the folder's path.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// What the names of namespaces, cgroups and CNI networks start with.
    pub(super) fn prefix(&self) -> String {
        format!("kurier-{}-", self.id)
    }

    pub(super) fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    pub(super) fn log(&self, daemon: &str) -> PathBuf {
        self.dir.join("log").join(format!("{daemon}.log"))
    }

    pub(super) fn first_node(&self) -> Node {
        self.node(1)
    }

    pub(super) fn nodes(&self, count: u8) -> Vec<Node> {
        (1..=count).map(|index| self.node(index)).collect()
    }

    fn node(&self, index: u8) -> Node {
        let name = format!("n{index}");
        Node {
            index,
            unique_name: format!("{}{name}", self.prefix()),
            dir: self.dir.join("nodes").join(&name),
            name,
        }
    }

    /// `kubectl` as the cluster's administrator.
    ///
    /// # Errors
    /// When it has not been built.
    pub(super) fn kubectl(&self) -> Result<Command> {
        let mut kubectl = self.first_node().enter();
        kubectl
            .arg(go::program("kubectl")?)
            .arg("--kubeconfig")
            .arg(self.kubeconfig());
        Ok(kubectl)
    }
}

impl Node {
    pub(super) fn address(&self) -> String {
        format!("10.0.0.{}", 10 + self.index)
    }

    pub(super) fn pods(&self) -> String {
        format!("10.244.{}.0/24", self.index)
    }

    pub(super) fn network_namespace(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.unique_name)
    }

    pub(super) fn containerd_socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    /// The start of a command in the node's network namespace. Not `ip netns exec`: that hides the
    /// cgroup mounts.
    pub(super) fn enter(&self) -> Command {
        let mut net = std::ffi::OsString::from("--net=");
        net.push(self.network_namespace());
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(net);
        nsenter
    }
}

/// An absolute path without symbolic links, also of a folder that is not there yet, so that the same
/// folder always has the same id.
fn resolve(dir: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(dir).with_context(|| dir.display().to_string())?;
    for existing in absolute.ancestors() {
        if let Ok(real) = fs::canonicalize(existing) {
            let rest = absolute
                .strip_prefix(existing)
                .unwrap_or_else(|_| Path::new(""));
            return Ok(if rest.as_os_str().is_empty() {
                real
            } else {
                real.join(rest)
            });
        }
    }
    Ok(absolute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_its_cluster_also_before_it_exists_and_through_a_link() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("a/cluster");
        let before = Cluster::at(Some(dir.clone())).unwrap();
        fs::create_dir_all(&dir).unwrap();
        let after = Cluster::at(Some(dir.clone())).unwrap();
        assert_eq!(before.id(), after.id());
        let link = base.path().join("link");
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        assert_eq!(Cluster::at(Some(link)).unwrap().id(), after.id());
        let other = Cluster::at(Some(base.path().join("b"))).unwrap();
        assert_ne!(other.id(), after.id());
    }

    #[test]
    fn nodes_share_nothing() {
        let cluster = Cluster::at(Some("/nowhere/kurier-test".into())).unwrap();
        let nodes = cluster.nodes(2);
        let [first, second] = nodes.as_slice() else {
            panic!("two nodes were asked for");
        };
        assert_ne!(first.address(), second.address());
        assert_ne!(first.pods(), second.pods());
        assert_ne!(first.unique_name, second.unique_name);
        assert_ne!(first.dir, second.dir);
        assert!(first.unique_name.starts_with(&cluster.prefix()));
    }
}
