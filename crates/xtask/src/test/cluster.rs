//! The tiers that run in a real cluster. They share one.

use std::{env, sync::Mutex};

use anyhow::{Context, Result};

use super::{budget::Budget, build, report::Report};
use crate::{
    cluster::Cluster,
    image::{self, Name, Profile},
    paths,
};

const IMAGES: [Name; 4] = [Name::Kurier, Name::KurierTest, Name::Redis, Name::Otelcol];

/// A cluster of ours that is to be taken down at the end.
static STARTED: Mutex<Option<Cluster>> = Mutex::new(None);

/// Runs the end-to-end tests whose names start with `filter` in the first node's network namespace.
///
/// They find `KUBECONFIG`, the cluster's programs in `PATH`, the images on every node, the cluster's
/// folder in `KURIER_CLUSTER_DIR`, and this program in `KURIER_XTASK`.
pub(super) fn run(budget: &mut Budget, filter: &str) -> Result<()> {
    let program = build::end_to_end_program()?;
    let images = image::make(&IMAGES, Profile::Dev)?;
    let cluster = Cluster::at(None)?;
    let was_running = cluster.is_running()?;
    let cluster = Cluster::up()?;
    cluster.load(&images)?;
    let mut tests = cluster.inside(&program)?;
    tests
        .args([filter, "--test-threads=1"])
        .current_dir(paths::workspace().join("tests"))
        .env("KURIER_CLUSTER_DIR", cluster.dir())
        .env(
            "KURIER_XTASK",
            env::current_exe().context("cannot find myself")?,
        );
    if !was_running && let Ok(mut started) = STARTED.lock() {
        *started = Some(cluster);
    }
    budget.run(&mut tests)
}

/// Takes the cluster down if it was started here; one that ran before is its user's.
pub(super) fn finish(report: &mut Report) {
    let started = STARTED.lock().ok().and_then(|mut started| started.take());
    if let Some(cluster) = started {
        report.add("cluster down", 2, |budget| {
            cluster.down()?;
            budget.tally.passed += 1;
            Ok(())
        });
    }
}
