//! What on this machine belongs to a cluster.
//!
//! Found by looking, not by remembering: a process that nobody recorded is found as well. Each kind of
//! thing carries the cluster's id, or lies in its folder, or is in a namespace or group that does.

use std::{
    collections::HashSet,
    ffi::OsString,
    fmt, fs,
    os::unix::{ffi::OsStringExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use super::{Cluster, cgroup, daemon::MARK};
use crate::process;

/// One thing of a cluster outside its folder.
pub(crate) enum Belonging {
    Cgroup(PathBuf),
    Mount(PathBuf),
    NetworkNamespace(String),
    Process(Process),
}

pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) name: String,
    started: u64,
}

impl Cluster {
    /// Everything that is there.
    pub(crate) fn belongings(&self) -> Vec<Belonging> {
        let processes = self.processes().into_iter().map(Belonging::Process);
        let mounts = self.mounts().into_iter().map(Belonging::Mount);
        let names = self.network_namespaces().into_iter();
        let groups = cgroup::groups(self).into_iter().map(Belonging::Cgroup);
        processes
            .chain(mounts)
            .chain(names.map(Belonging::NetworkNamespace))
            .chain(groups)
            .collect()
    }

    /// Whether anything outside the folder carries the cluster's id. Without that, and without a record,
    /// the folder is not known to be a cluster's.
    pub(super) fn is_anywhere(&self) -> bool {
        !self.network_namespaces().is_empty()
            || !cgroup::groups(self).is_empty()
            || !self.processes().is_empty()
    }

    /// Processes of the cluster, this one and what it was started by apart: a command inside the
    /// cluster's namespace may take the cluster down.
    pub(super) fn processes(&self) -> Vec<Process> {
        let namespaces: HashSet<u64> = self
            .network_namespaces()
            .iter()
            .filter_map(|name| fs::metadata(Path::new(NETNS).join(name)).ok())
            .map(|metadata| metadata.ino())
            .collect();
        let ours = process::ancestors(std::process::id());
        let mark = format!("{MARK}={}", self.id());
        let group = format!(":/{}", self.prefix());
        process::all()
            .filter(|pid| !ours.contains(pid))
            .filter(|pid| {
                let proc = PathBuf::from(format!("/proc/{pid}"));
                let in_namespace = fs::metadata(proc.join("ns/net"))
                    .is_ok_and(|metadata| namespaces.contains(&metadata.ino()));
                in_namespace
                    || fs::read_to_string(proc.join("cgroup")).is_ok_and(|it| it.contains(&group))
                    || fs::read(proc.join("environ")).is_ok_and(|it| has_variable(&it, &mark))
            })
            .filter_map(|pid| {
                let stat = process::stat(pid)?;
                stat.alive.then_some(Process {
                    pid,
                    name: stat.name,
                    started: stat.started,
                })
            })
            .collect()
    }

    /// Mount points in the cluster's folder, the innermost first.
    pub(super) fn mounts(&self) -> Vec<PathBuf> {
        let mut found = mount_points();
        found.retain(|path| path.starts_with(self.dir()));
        // Later mounts lie in or over earlier ones.
        found.reverse();
        found
    }

    /// Names of the cluster's network namespaces.
    pub(super) fn network_namespaces(&self) -> Vec<String> {
        let prefix = self.prefix();
        entries(NETNS)
            .filter(|name| name.starts_with(&prefix))
            .collect()
    }
}

impl Belonging {
    /// Looked at by itself: not what the cluster is known by, but whether this is still there.
    pub(crate) fn is_there(&self) -> bool {
        match self {
            Self::Cgroup(path) => path.exists(),
            Self::Mount(path) => mount_points().contains(path),
            Self::NetworkNamespace(name) => Path::new(NETNS).join(name).exists(),
            Self::Process(process) => process::stat(process.pid)
                .is_some_and(|stat| stat.alive && stat.started == process.started),
        }
    }
}

impl fmt::Display for Belonging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup(path) => write!(f, "cgroup {}", path.display()),
            Self::Mount(path) => write!(f, "mount {}", path.display()),
            Self::NetworkNamespace(name) => write!(f, "network namespace {name}"),
            Self::Process(process) => write!(f, "process {} ({})", process.pid, process.name),
        }
    }
}

const NETNS: &str = "/run/netns";

/// Names in a folder; none when there is no such folder.
pub(super) fn entries(folder: &str) -> impl Iterator<Item = String> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
}

/// Whether an environment, NUL after each variable, has exactly this one.
fn has_variable(environment: &[u8], variable: &str) -> bool {
    environment
        .split(|byte| *byte == 0)
        .any(|entry| entry == variable.as_bytes())
}

/// Where something is mounted, in the order in which it was.
fn mount_points() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(mount_point).collect()
}

/// The fifth field of a line of proc_pid_mountinfo(5), where blanks and backslashes are octal.
fn mount_point(line: &str) -> Option<PathBuf> {
    let field = line.split(' ').nth(4)?.as_bytes();
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        rest = tail;
        let mut byte = *first;
        if let (b'\\', [a, b, c, after @ ..]) = (byte, tail)
            && let Ok(code) = u8::from_str_radix(std::str::from_utf8(&[*a, *b, *c]).ok()?, 8)
        {
            byte = code;
            rest = after;
        }
        path.push(byte);
    }
    Some(OsString::from_vec(path).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points() {
        let check = |field: &str, expected: &str| {
            let line = format!("22 1 8:1 / {field} rw - ext4 /dev/sda rw");
            assert_eq!(mount_point(&line).unwrap(), Path::new(expected));
        };
        check("/plain", "/plain");
        check(r"/with\040blank", "/with blank");
        check(r"/back\134slash\", r"/back\slash\");
        assert!(mount_point("short").is_none());
    }

    #[test]
    fn environments() {
        assert!(has_variable(
            b"A=1\0KURIER_CLUSTER=ab\0",
            "KURIER_CLUSTER=ab"
        ));
        assert!(!has_variable(b"KURIER_CLUSTER=abc\0", "KURIER_CLUSTER=ab"));
    }

    #[test]
    fn a_cluster_that_never_was_has_no_belongings() {
        let cluster = Cluster::at(Some("/nowhere/kurier-never".into())).unwrap();
        assert!(cluster.belongings().is_empty());
    }
}
