//! The pure tier: gates, then tests that need nothing but the workspace.

use std::process::Command;

use anyhow::Result;

use super::{
    budget::Budget,
    build::{self, Kind, TestProgram},
};
use crate::{
    crds,
    paths::{self, cargo},
    tools::cargo_deny,
};

pub(super) fn run(budget: &mut Budget, programs: &[TestProgram]) -> Result<()> {
    // All of them run, so that one look at the output shows all there is to mend.
    let mut failed = Vec::new();
    for (name, gate) in GATES {
        println!("-- {name}");
        let named = budget.tally.failures.len();
        match gate(budget, programs) {
            Ok(()) => budget.tally.passed += 1,
            Err(error) => {
                println!("{name}: {error:#}");
                budget.tally.failed += 1;
                if budget.tally.failures.len() == named {
                    budget.tally.failures.push(format!("{name}: {error:#}"));
                }
                failed.push(name);
            }
        }
    }
    anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Runs every test program of a kind, also after one has failed.
///
/// # Errors
/// Naming those that failed.
pub(super) fn run_all(budget: &mut Budget, programs: &[TestProgram], kind: Kind) -> Result<()> {
    let mut failed = Vec::new();
    for program in build::of_kind(programs, kind)? {
        println!("-- {}", program.name);
        if let Err(error) = budget.run_as(&program.name, &mut program.command()) {
            println!("{}: {error:#}", program.name);
            failed.push(&*program.name);
        }
    }
    anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

type Gate = fn(&mut Budget, &[TestProgram]) -> Result<()>;

const GATES: [(&str, Gate); 7] = [
    ("format", |budget, _| {
        budget.run(cargo().args(["fmt", "--all", "--check"]))
    }),
    ("tests", |budget, programs| {
        run_all(budget, programs, Kind::Pure)
    }),
    ("documentation tests", |budget, _| {
        budget.run(cargo().args(["test", "--workspace", "--doc"]))
    }),
    ("resource definitions", |_, _| crds::check_built()),
    ("lints", |budget, _| {
        let mut clippy = cargo();
        clippy.args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]);
        budget.run(&mut clippy)
    }),
    ("documentation", |budget, _| {
        let mut doc = cargo();
        doc.args(["doc", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "--deny warnings");
        budget.run(&mut doc)
    }),
    ("dependencies", |budget, _| {
        // Not advisories: their database is outside of what a build may reach.
        let mut deny = Command::new(cargo_deny::ensure()?);
        deny.args(["--workspace", "check", "bans", "licenses", "sources"]);
        budget.run(deny.current_dir(paths::workspace()))
    }),
];
