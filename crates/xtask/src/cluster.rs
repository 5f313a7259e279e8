//! `cargo xtask cluster`: a real Kubernetes on this machine, without a container engine.
//!
//! One network namespace for each node, with no way out: the first holds the control plane, a bridge
//! joins the others to it. Everything the cluster keeps is in one folder, and everything it makes
//! outside it (namespaces, cgroups, CNI names) carries an id that is the folder's digest, so clusters in
//! different folders never meet.
//!
//! `up`: what is left of a crash goes ([`teardown`]) -> certificates ([`pki`]), namespaces
//! ([`network`]), cgroups ([`cgroup`]) -> etcd, API server and containerd start ([`daemon`]) -> images
//! are imported -> controllers, kubelets -> nodes are Ready -> DNS. Every step waits for a condition.
//!
//! `down` needs no cooperation from any part of the cluster: it finds what belongs to it by membership
//! ([`membership`]), kills it, unmounts and removes it, looks again, and names what is still there.
//!
//! It does not: enforce NetworkPolicy (the bridge plug-in has none), pull images (there is nowhere to
//! pull from), or survive a reboot.

mod bringup;
mod cgroup;
mod control_plane;
mod daemon;
mod layout;
mod membership;
mod network;
mod node;
mod pki;
mod record;
mod status;
mod teardown;

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

pub(crate) use layout::Cluster;
pub(crate) use membership::Belonging;
pub(crate) use teardown::in_words;

use crate::tools::go;

#[derive(Subcommand)]
pub(crate) enum Action {
    /// Take the cluster away, whatever state it is in
    Down(Place),
    /// Import image archives on every node
    Load {
        #[command(flatten)]
        place: Place,
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Run a command in the first node's network namespace, with KUBECONFIG and PATH set
    Run {
        #[command(flatten)]
        place: Place,
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// Say what runs and how to reach it; the exit status is 0 when all of it does
    Status {
        #[command(flatten)]
        place: Place,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Start a cluster and wait until it is ready; one that is ready stays as it is
    Up {
        #[command(flatten)]
        place: Place,
        /// How many nodes [default: 1]
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=9))]
        nodes: Option<u8>,
    },
}

#[derive(Args)]
pub(crate) struct Place {
    /// Where the cluster keeps its state [default: $XDG_STATE_HOME/kurier/cluster]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

impl Place {
    fn cluster(self) -> Result<Cluster> {
        Cluster::at(self.dir)
    }
}

pub(crate) fn run(action: Action) -> Result<ExitCode> {
    match action {
        Action::Down(place) => teardown::down(&place.cluster()?)?,
        Action::Load { place, archives } => place.cluster()?.load(&archives)?,
        Action::Run { place, command } => return place.cluster()?.run(&command),
        Action::Status { place, json } => status::print(&place.cluster()?, json)?,
        Action::Up { place, nodes } => bringup::up(&place.cluster()?, nodes)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Cluster {
    /// The cluster in the default folder, started when it is not running.
    ///
    /// # Errors
    /// When a part does not get ready, or it runs with another number of nodes.
    pub(crate) fn up(nodes: u8) -> Result<Self> {
        let cluster = Self::at(None)?;
        bringup::up(&cluster, Some(nodes))?;
        Ok(cluster)
    }

    /// Whether all of it runs.
    ///
    /// # Errors
    /// When its programs have not been built.
    pub(crate) fn is_running(&self) -> Result<bool> {
        Ok(status::running(self)?.is_some())
    }

    /// Takes it away.
    ///
    /// # Errors
    /// When something is left, naming it.
    pub(crate) fn down(&self) -> Result<()> {
        teardown::down(self)
    }

    /// Imports image archives on every node.
    ///
    /// # Errors
    /// When the cluster is not running or an archive is none.
    pub(crate) fn load(&self, archives: &[PathBuf]) -> Result<()> {
        let record = self
            .record()?
            .context("no cluster is running: cargo xtask cluster up")?;
        for node in self.nodes(record.nodes) {
            for archive in archives {
                node.import(archive)?;
                println!("cluster: {} imported on {}", archive.display(), node.name);
            }
        }
        Ok(())
    }

    /// Runs its arguments as a command in the first node's network namespace, with the cluster's programs
    /// in `PATH`.
    ///
    /// # Errors
    /// When the programs have not been built.
    pub(crate) fn launcher(&self) -> Result<Command> {
        let mut launcher = self.first_node().enter();
        launcher
            .env("KUBECONFIG", self.kubeconfig())
            .env("PATH", go::path_variable()?);
        Ok(launcher)
    }

    /// The command has said why it failed; what it ended with is what we end with.
    fn run(&self, command: &[String]) -> Result<ExitCode> {
        if self.record()?.is_none() {
            bail!("no cluster is running: cargo xtask cluster up");
        }
        let status = self.launcher()?.args(command).status()?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
    }
}
