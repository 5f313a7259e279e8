//! Building the workspace, and finding its tests.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::budget::Budget;
use crate::paths::cargo;

/// From nothing, on two cores that build tools as well.
pub(super) const MINUTES: u64 = 28;

/// Builds every target of every package; its test programs. All later cargo commands name `--workspace`
/// too, so that they get the same features and find everything built.
///
/// # Errors
/// When something does not build.
pub(super) fn all(budget: &Budget) -> Result<Vec<TestProgram>> {
    let mut build = cargo();
    build.args(["build", "--workspace", "--all-targets"]);
    // What is wrong with the code goes to standard error, as ever.
    let messages = budget.capture(build.arg("--message-format=json-render-diagnostics"))?;
    Ok(read(&messages))
}

/// Where a test belongs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// The end-to-end program of crate `tests`; its modules are tiers.
    EndToEnd,
    /// Needs nothing but the workspace.
    Pure,
    /// Starts a Redis.
    Queue,
}

/// A built program of tests. It is run directly: two packages may have tests of the same name, of which
/// cargo would run both, and not every tier runs where cargo can.
pub(super) struct TestProgram {
    pub(super) kind: Kind,
    pub(super) name: String,
    path: PathBuf,
    folder: PathBuf,
}

impl TestProgram {
    /// Runs it as cargo does: in the package's folder.
    pub(super) fn command(&self) -> Command {
        self.inside(Command::new(&self.path))
    }

    /// As [`command`](Self::command), started by a command that runs its arguments.
    pub(super) fn by(&self, mut launcher: Command) -> Command {
        launcher.arg(&self.path);
        self.inside(launcher)
    }

    fn inside(&self, mut command: Command) -> Command {
        command
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder);
        command
    }
}

/// The built programs of one kind.
///
/// # Errors
/// When there is none: a suite that was moved must not pass.
pub(super) fn of_kind(programs: &[TestProgram], kind: Kind) -> Result<Vec<&TestProgram>> {
    let found: Vec<_> = programs
        .iter()
        .filter(|program| program.kind == kind)
        .collect();
    ensure!(!found.is_empty(), "no test program of the kind {kind:?}");
    Ok(found)
}

/// The end-to-end program.
///
/// # Errors
/// When there is none.
pub(super) fn end_to_end(programs: &[TestProgram]) -> Result<&TestProgram> {
    let found = of_kind(programs, Kind::EndToEnd)?;
    found.first().copied().context("no end-to-end program")
}

/// The test programs in cargo's messages.
fn read(messages: &str) -> Vec<TestProgram> {
    #[derive(Deserialize)]
    struct Message {
        manifest_path: PathBuf,
        target: Target,
        profile: Profile,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Profile {
        test: bool,
    }
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    messages
        // A benchmark without a harness has the profile, too, but is nothing to pass or fail.
        .filter(|message: &Message| message.profile.test)
        .filter(|message| !message.target.kind.iter().any(|kind| kind == "bench"))
        .filter_map(|message| {
            let folder = message.manifest_path.parent()?.to_owned();
            // A package has its folder's name.
            let package = folder.file_name()?.to_str()?.to_owned();
            let target = message.target.name;
            Some(TestProgram {
                kind: match (&*package, &*target) {
                    ("tests", "e2e") => Kind::EndToEnd,
                    ("queue", "conformance") | ("kurier", "redis") => Kind::Queue,
                    _ => Kind::Pure,
                },
                name: format!("{package}: {target}"),
                path: message.executable?,
                folder,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(package: &str, target: &str, test: bool) -> String {
        let manifest = format!("/w/{package}/Cargo.toml");
        let executable = format!("/t/{package}-{target}");
        serde_json::json!({
            "reason": "compiler-artifact",
            "manifest_path": manifest,
            "target": {"name": target, "kind": [if target == "cycle" { "bench" } else { "test" }]},
            "profile": {"test": test},
            "executable": executable,
        })
        .to_string()
    }

    #[test]
    fn tests_of_the_same_name_are_told_apart() {
        let messages = [
            message("smtp", "conformance", true),
            message("queue", "conformance", true),
            message("queue", "queue", true),
            message("queue", "cycle", true),
            message("queue", "queue", false),
            message("tests", "e2e", true),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let found: Vec<_> = read(&messages.join("\n"))
            .into_iter()
            .map(|it| (it.name, it.kind))
            .collect();
        let expected = [
            ("smtp: conformance", Kind::Pure),
            ("queue: conformance", Kind::Queue),
            ("queue: queue", Kind::Pure),
            ("tests: e2e", Kind::EndToEnd),
        ];
        assert_eq!(found, expected.map(|(name, kind)| (name.to_owned(), kind)));
    }

    #[test]
    fn a_program_runs_in_its_packages_folder() {
        let program = &read(&message("smtp", "x", true))[0];
        let command = program.by(Command::new("nsenter"));
        assert_eq!(command.get_program(), "nsenter");
        assert_eq!(command.get_args().collect::<Vec<_>>(), ["/t/smtp-x"]);
        assert_eq!(command.get_current_dir(), Some("/w/smtp".as_ref()));
    }
}
