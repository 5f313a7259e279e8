//! A long-running part of the cluster.

use std::{
    ffi::OsStr,
    fs::File,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::{Cluster, layout::Node};
use crate::{command, process::stat, tools::go};

/// In the environment of every daemon and so of what it starts: its cluster's id.
pub(super) const MARK: &str = "KURIER_CLUSTER";

/// Lines of a log that an error quotes.
const QUOTED: usize = 15;

#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Daemon {
    pub(super) name: String,
    pub(super) pid: u32,
    /// A process id comes back; with its start time it does not.
    pub(super) started: u64,
    pub(super) log: PathBuf,
}

impl Daemon {
    /// Starts a built program in the node's namespace, in a session of its own so that it outlives us.
    pub(super) fn start<S: AsRef<OsStr>>(
        cluster: &Cluster,
        node: &Node,
        program: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let name = format!("{}-{program}", node.name);
        let log = cluster.log(&name);
        let output =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let enter = node.enter();
        // setsid and nsenter replace themselves, so the child's id is the daemon's.
        let mut command = Command::new("setsid");
        command
            .arg(enter.get_program())
            .args(enter.get_args())
            .arg(go::program(program)?)
            .args(arguments)
            .current_dir(&node.dir)
            .env(MARK, cluster.id())
            .env("PATH", go::path_variable()?)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let pid = child.id();
        let started = stat(pid).map(|stat| stat.started).unwrap_or_default();
        Ok(Self {
            name,
            pid,
            started,
            log,
        })
    }

    pub(super) fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.alive && stat.started == self.started)
    }

    /// # Errors
    /// When it has ended, with the end of its log.
    pub(super) fn check(&self) -> Result<()> {
        if !self.is_alive() {
            bail!(
                "{} ended: {}",
                self.name,
                command::tail_of(&self.log, QUOTED)
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_an_earlier_one_with_its_number_is_not() {
        let pid = std::process::id();
        let started = stat(pid).unwrap().started;
        let daemon = |started| Daemon {
            name: "me".to_owned(),
            pid,
            started,
            log: "/nowhere".into(),
        };
        daemon(started).check().unwrap();
        assert!(daemon(started + 1).check().is_err());
    }
}
