//! The tiers that run in a real cluster. They share one.

use anyhow::Result;

use super::{budget::Budget, build::TestProgram, crash, report::Report};
use crate::{
    cluster::Cluster,
    command,
    image::{self, Name, Profile},
};

/// Mail is to cross from one to the other.
const NODES: u8 = 2;

const IMAGES: [Name; 4] = [Name::Kurier, Name::KurierTest, Name::Redis, Name::Otelcol];

/// The cluster that the tiers of one run share.
#[derive(Default)]
pub(super) struct Shared {
    /// One that was started here and is to be taken down; one that ran before is its user's.
    started: Option<Cluster>,
}

impl Shared {
    /// Runs the end-to-end tests whose names start with `filter` in the first node's network namespace.
    ///
    /// They find `KUBECONFIG`, the cluster's programs in `PATH`, and the images on every node.
    pub(super) fn run(
        &mut self,
        budget: &mut Budget,
        program: &TestProgram,
        filter: &str,
    ) -> Result<()> {
        let images = image::make(&IMAGES, Profile::Dev)?;
        let cluster = self.up()?;
        cluster.load(&images)?;
        let mut tests = program.by(cluster.launcher()?);
        let result = budget.run(tests.args([filter, "--test-threads=1"]));
        if result.is_err() {
            show(&cluster);
        }
        result
    }

    /// Takes the cluster down after a crash of it, and says so in the report.
    pub(super) fn finish(self, report: &mut Report) {
        if let Some(cluster) = self.started {
            report.add("cluster down", 2, |budget| {
                crash::crashed(&cluster)?;
                budget.tally.passed += 1;
                Ok(())
            });
        }
    }

    fn up(&mut self) -> Result<Cluster> {
        let cluster = Cluster::at(None)?;
        if !cluster.is_running()? {
            // Also when it does not get ready: what has started is to go.
            self.started = Some(Cluster::at(None)?);
        }
        Cluster::up(NODES)
    }
}

/// What there is to see of a failure once its test is over.
fn show(cluster: &Cluster) {
    for question in [
        "get pods --all-namespaces --output=wide",
        "get events --all-namespaces --sort-by=.lastTimestamp",
    ] {
        let mut launcher = match cluster.launcher() {
            Ok(launcher) => launcher,
            Err(error) => return println!("{error:#}"),
        };
        match command::capture(launcher.arg("kubectl").args(question.split(' '))) {
            Ok(answer) => println!("-- kubectl {question}\n{}", command::tail(&answer, 40)),
            Err(error) => println!("{error:#}"),
        }
    }
}
