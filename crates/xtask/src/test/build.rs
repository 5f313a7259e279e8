//! Building the workspace, and naming its tests.

use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::budget::Budget;
use crate::{command, paths::cargo};

/// From nothing, on two cores that build tools as well.
pub(super) const MINUTES: u64 = 28;

/// The integration tests of crate `queue` that start a Redis.
pub(super) const CONFORMANCE: &str = "conformance";
/// The test program of crate `tests`; its modules are tiers.
pub(super) const END_TO_END: &str = "e2e";

/// Builds every target of every package. All later cargo commands name `--workspace` too, so that they
/// get the same features and find everything built.
pub(super) fn all(budget: &mut Budget) -> Result<()> {
    budget.run(cargo().args(["build", "--workspace", "--all-targets"]))
}

/// `cargo test` of the workspace.
pub(super) fn tests(targets: &[&str]) -> Command {
    let mut test = cargo();
    test.args(["test", "--workspace"]).args(targets);
    test
}

/// The names of all integration tests that belong to the pure tier.
pub(super) fn pure_integration_tests() -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        targets: Vec<Target>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
    }
    let text = command::capture(cargo().args(["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: Metadata = serde_json::from_str(&text).context("cargo metadata")?;
    let names = metadata
        .packages
        .into_iter()
        .filter(|package| package.name != "tests")
        .flat_map(|package| package.targets)
        .filter(|target| target.kind.iter().any(|kind| kind == "test"))
        .map(|target| target.name)
        .filter(|name| name != CONFORMANCE)
        .collect();
    Ok(names)
}

/// The built end-to-end test program, to be run where cargo is not.
pub(super) fn end_to_end_program() -> Result<String> {
    let mut build = tests(&["--test", END_TO_END]);
    let said = command::capture(build.args(["--no-run", "--message-format=json"]))?;
    match executable(&said) {
        Some(path) => Ok(path),
        None => bail!("cargo did not say where the test program {END_TO_END} is"),
    }
}

fn executable(messages: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Message {
        target: Target,
        executable: Option<String>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.target.name == END_TO_END)
        .find_map(|message| message.executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_names_the_test_program() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"smtp"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"e2e"},"executable":"/t/debug/deps/e2e-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages).as_deref(), Some("/t/debug/deps/e2e-1"));
        assert_eq!(executable(r#"{"reason":"build-finished"}"#), None);
    }

    #[test]
    fn tests_that_need_more_are_not_pure() {
        let names = pure_integration_tests().unwrap();
        assert!(
            !names
                .iter()
                .any(|name| name == CONFORMANCE || name == END_TO_END),
            "{names:?}"
        );
    }
}
