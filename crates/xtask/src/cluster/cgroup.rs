//! A control group for each node, so that what runs in a cluster can be told from all else.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{Cluster, layout::Node};

const MOUNT: &str = "/sys/fs/cgroup";
/// On the unified hierarchy, the controllers a kubelet asks for.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

/// The kubelet's `cgroupRoot`.
pub(super) fn root(node: &Node) -> String {
    format!("/{}", node.unique_name)
}

/// Makes the node's group in every hierarchy.
pub(super) fn make(node: &Node) -> Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(&node.unique_name);
        fs::create_dir_all(&group).with_context(|| format!("cannot make {}", group.display()))?;
        if is_unified() {
            for controller in CONTROLLERS {
                let enable = format!("+{controller}");
                fs::write(hierarchy.join("cgroup.subtree_control"), &enable)
                    .with_context(|| format!("cannot enable the controller {controller}"))?;
            }
        }
        // A new cpuset of version 1 allows no processor and no memory, and takes no process.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if !is_unified() && group.join(file).exists() {
                fs::write(group.join(file), fs::read(hierarchy.join(file))?)
                    .with_context(|| format!("cannot fill {}", group.join(file).display()))?;
            }
        }
    }
    Ok(())
}

/// The groups of the cluster that are there, each before its parent.
pub(super) fn groups(cluster: &Cluster) -> Vec<PathBuf> {
    let prefix = cluster.prefix();
    let mut found = Vec::new();
    for hierarchy in hierarchies().unwrap_or_default() {
        for group in folders(&hierarchy) {
            if group
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
            {
                collect(&group, &mut found);
            }
        }
    }
    found
}

/// Removes what can be removed: a group that still has processes stays.
pub(super) fn remove(cluster: &Cluster) {
    for group in groups(cluster) {
        // Whoever called looks at what is left.
        let _ = fs::remove_dir(group);
    }
}

fn collect(group: &Path, into: &mut Vec<PathBuf>) {
    for child in folders(group) {
        collect(&child, into);
    }
    into.push(group.to_owned());
}

/// Version 2 has one hierarchy; version 1 one for each controller, mounted below.
fn hierarchies() -> io::Result<Vec<PathBuf>> {
    if is_unified() {
        return Ok(vec![MOUNT.into()]);
    }
    fs::read_dir(MOUNT)?;
    Ok(folders(Path::new(MOUNT)))
}

fn is_unified() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").exists()
}

/// The real folders in a folder: `cpu,cpuacct` often has links to it beside it.
fn folders(of: &Path) -> Vec<PathBuf> {
    fs::read_dir(of)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
