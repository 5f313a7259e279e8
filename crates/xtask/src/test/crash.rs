//! What `cluster down` makes of a cluster that nobody ended in order.
//!
//! All that is there is written down before, and looked for afterwards one by one: whether anything is left
//! is not asked of what takes it away.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    cluster::{Belonging, Cluster, in_words},
    command, paths,
    process::{self, Signal},
};

/// Until a pod runs in a new cluster.
const STARTED: Duration = Duration::from_secs(180);
/// By what name the kernel knows a program that runs in a pod.
const IN_A_POD: &str = "coredns";
/// Without these nobody looks after the pods any more.
const PARTS: [&str; 4] = ["containerd", "etcd", "kube-apiserver", "kubelet"];

/// Kills `cluster up` when the first pod is there, and takes away what it leaves running.
pub(super) fn interrupted_start() -> Result<()> {
    let cluster = Cluster::at(Some(paths::target()?.join("interrupted-cluster")))?;
    cluster.down()?;
    // Not by its path: what was built since this program began has taken its place.
    let mut up = Command::new("/proc/self/exe")
        .args(["cluster", "up", "--dir"])
        .arg(cluster.dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start cluster up")?;
    let begun = command::wait_until("a pod runs", STARTED, || a_pod_runs(&cluster, &mut up));
    // Only itself: what it has started goes on.
    up.kill()?;
    up.wait()?;
    let gone = begun.and_then(|()| leaves_nothing(&cluster));
    if gone.is_err() {
        cluster.down()?;
    }
    gone
}

fn a_pod_runs(cluster: &Cluster, up: &mut Child) -> Result<Option<()>> {
    if processes(&cluster.belongings()).any(|(_, name)| name == IN_A_POD) {
        return Ok(Some(()));
    }
    if let Some(status) = up.try_wait()? {
        bail!("cluster up ended with {status}");
    }
    Ok(None)
}

/// Kills the parts of a cluster at once, and takes away what is left.
pub(super) fn crashed(cluster: &Cluster) -> Result<()> {
    let belongings = cluster.belongings();
    for part in PARTS {
        let mut all = processes(&belongings).filter(|(_, name)| *name == part);
        let first = all.next().with_context(|| format!("no {part} to kill"))?;
        for (pid, _) in [first].into_iter().chain(all) {
            process::signal(pid, Signal::KILL);
        }
    }
    leaves_nothing(cluster)
}

fn leaves_nothing(cluster: &Cluster) -> Result<()> {
    let before = cluster.belongings();
    ensure!(
        processes(&before).any(|(_, name)| name == IN_A_POD),
        "no pod outlived the crash, which proves little: {}",
        in_words(&before)
    );
    for kind in ["cgroup ", "mount ", "network namespace "] {
        let any = before.iter().any(|it| it.to_string().starts_with(kind));
        ensure!(any, "the crash left no {kind}to take away");
    }
    cluster.down()?;
    let left = in_words(before.iter().filter(|it| it.is_there()));
    ensure!(left.is_empty(), "left behind:\n{left}");
    ensure!(
        !cluster.dir().exists(),
        "{} is left",
        cluster.dir().display()
    );
    Ok(())
}

fn processes(belongings: &[Belonging]) -> impl Iterator<Item = (u32, &str)> {
    belongings.iter().filter_map(|belonging| match belonging {
        Belonging::Process(process) => Some((process.pid, process.name.as_str())),
        _ => None,
    })
}
