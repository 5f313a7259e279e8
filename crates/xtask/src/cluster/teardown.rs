//! `cluster down`: kills, unmounts and removes what belongs to the cluster, and looks again.
//!
//! Nothing is asked of the cluster's own parts, so that a whole one and what a crash has left go the same
//! way. Nothing in it is worth an orderly end: all of its state goes with it.

use std::{
    fs,
    io::ErrorKind,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{
    Cluster, bringup, cgroup,
    membership::{Belonging, entries},
};
use crate::{
    command,
    process::{self, Signal},
    tools,
};

/// Killed processes are gone within a second; one that waits for a disk may take longer.
const GONE: Duration = Duration::from_secs(30);

/// Folders outside the cluster's where its parts leave files, whatever they are told.
const CONTAINER_LOGS: &str = "/var/log/containers";
const CNI_RESULTS: &str = "/var/lib/cni/results";
const SHIM_SOCKETS: &str = "/run/containerd/s";
const DEVICE_PLUGINS: &str = "/var/lib/kubelet/device-plugins";

/// Takes the cluster away.
pub(super) fn down(cluster: &Cluster) -> Result<()> {
    if !tools::is_root() {
        bail!("a cluster needs root, for namespaces and mounts");
    }
    let _lock = bringup::lock(cluster)?;
    let was_there = cluster.record()?.is_some() || !cluster.belongings().is_empty();
    remove(cluster)?;
    println!(
        "cluster: {}",
        if was_there {
            "gone, nothing is left"
        } else {
            "there was none"
        }
    );
    Ok(())
}

/// Removes whatever is there, or fails naming what stays. Whether there was anything.
pub(super) fn remove(cluster: &Cluster) -> Result<bool> {
    let record = cluster.record()?;
    if record.is_none() && !cluster.is_anywhere() {
        return Ok(false);
    }
    let left = command::wait_until("the cluster is gone", GONE, || {
        kill(cluster);
        unmount(cluster);
        for name in cluster.network_namespaces() {
            command::succeeds(Command::new("ip").args(["netns", "delete", &name]));
        }
        cgroup::remove(cluster);
        Ok(cluster.belongings().is_empty().then_some(()))
    });
    if left.is_err() {
        bail!(
            "these are left and cannot be removed:\n{}",
            in_words(&cluster.belongings())
        );
    }
    remove_strays(cluster);
    for (path, before) in record.unwrap_or_default().sysctls {
        if fs::read_to_string(&path).is_ok_and(|now| now != before) {
            fs::write(&path, before)
                .with_context(|| format!("cannot restore {}", path.display()))?;
        }
    }
    let dir = cluster.dir();
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(true)
}

/// One a line.
pub(crate) fn in_words<'a>(belongings: impl IntoIterator<Item = &'a Belonging>) -> String {
    let lines = belongings.into_iter().map(ToString::to_string);
    lines.collect::<Vec<_>>().join("\n")
}

fn kill(cluster: &Cluster) {
    for member in cluster.processes() {
        process::signal(member.pid, Signal::KILL);
    }
}

fn unmount(cluster: &Cluster) {
    for path in cluster.mounts() {
        if !command::succeeds(Command::new("umount").arg(&path)) {
            // Busy with a process that is just dying, or a look from outside: out of sight it goes.
            command::succeeds(Command::new("umount").arg("--lazy").arg(&path));
        }
    }
}

/// Of those that are made there, the ones that may go once they are empty, each before its parent.
const EMPTIED: [&str; 4] = [
    SHIM_SOCKETS,
    "/run/containerd",
    DEVICE_PLUGINS,
    "/var/lib/kubelet",
];

/// Files that parts leave outside the cluster's folder. They name it, or nobody listens on them.
fn remove_strays(cluster: &Cluster) {
    for name in entries(CONTAINER_LOGS) {
        let link = Path::new(CONTAINER_LOGS).join(name);
        if fs::read_link(&link).is_ok_and(|target| target.starts_with(cluster.dir())) {
            let _ = fs::remove_file(link);
        }
    }
    let prefix = cluster.prefix();
    for name in entries(CNI_RESULTS).filter(|name| name.starts_with(&prefix)) {
        let _ = fs::remove_file(Path::new(CNI_RESULTS).join(name));
    }
    for folder in [SHIM_SOCKETS, DEVICE_PLUGINS] {
        for socket in entries(folder).map(|name| PathBuf::from(folder).join(name)) {
            // Asked by connecting: /proc/net/unix shows one network namespace only, and another
            // cluster's listeners are in others.
            let refused = UnixStream::connect(&socket)
                .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
            if refused {
                let _ = fs::remove_file(socket);
            }
        }
    }
    for folder in EMPTIED {
        // Another cluster, or the machine's own, may be using it.
        let _ = fs::remove_dir(folder);
    }
}
