//! `cargo xtask crds`: the custom resource definitions as files, from the types in `api`.
//!
//! The example `crds` of this package writes them, because it alone needs `api` and all that `api`
//! depends on. They go to `crds/`, for `kubectl apply`, and to the chart.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    command,
    paths::{self, cargo},
};

/// Below the workspace root.
const FOLDERS: [&str; 2] = ["crds", "charts/kurier/crd-files"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail when a file is not what the types say
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut build = cargo();
    // With the features of the whole workspace, like everything else that is built for tests.
    command::run(build.args(["build", "--quiet", "--workspace", "--example", "crds"]))?;
    let generated = generate()?;
    if args.check {
        return check(&generated);
    }
    for folder in folders() {
        write(&folder, &generated)?;
        println!("crds: {} files in {}", generated.len(), folder.display());
    }
    Ok(())
}

/// Fails when a file is not what the types say; the example is built already.
///
/// # Errors
/// Naming every file that differs.
pub(crate) fn check_built() -> Result<()> {
    check(&generate()?)
}

/// File name and content of each definition.
fn generate() -> Result<BTreeMap<String, String>> {
    let example = paths::target()?.join("debug/examples/crds");
    let text = command::capture(&mut Command::new(example))?;
    serde_json::from_str(&text).context("the example crds")
}

fn check(generated: &BTreeMap<String, String>) -> Result<()> {
    let drift: Vec<_> = folders()
        .iter()
        .flat_map(|folder| drift(folder, generated))
        .collect();
    if !drift.is_empty() {
        bail!(
            "not what crates/api says, run cargo xtask crds: {}",
            drift.join(" ")
        );
    }
    Ok(())
}

fn folders() -> Vec<PathBuf> {
    FOLDERS
        .iter()
        .map(|folder| paths::workspace().join(folder))
        .collect()
}

fn write(folder: &Path, generated: &BTreeMap<String, String>) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for name in yaml_files(folder) {
        if !generated.contains_key(&name) {
            fs::remove_file(folder.join(name))?;
        }
    }
    for (name, text) in generated {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}

/// Files that differ, are missing or are too many.
fn drift(folder: &Path, generated: &BTreeMap<String, String>) -> Vec<String> {
    let differs = generated
        .iter()
        .filter(|(name, text)| !fs::read_to_string(folder.join(name)).is_ok_and(|it| it == **text))
        .map(|(name, _)| name.clone());
    let too_many = yaml_files(folder)
        .into_iter()
        .filter(|name| !generated.contains_key(name));
    differs
        .chain(too_many)
        .map(|name| folder.join(name).display().to_string())
        .collect()
}

fn yaml_files(folder: &Path) -> Vec<String> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".yaml"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_a_missing_a_changed_and_a_left_over_file() {
        let folder = tempfile::tempdir().unwrap();
        let definitions = |entries: &[(&str, &str)]| {
            entries
                .iter()
                .map(|(name, text)| ((*name).into(), (*text).into()))
                .collect()
        };
        let one = definitions(&[("a.yaml", "1\n"), ("b.yaml", "2\n")]);
        assert_eq!(drift(folder.path(), &one).len(), 2);
        write(folder.path(), &one).unwrap();
        assert!(drift(folder.path(), &one).is_empty());
        let other = definitions(&[("b.yaml", "3\n")]);
        assert_eq!(drift(folder.path(), &other).len(), 2);
        write(folder.path(), &other).unwrap();
        assert!(drift(folder.path(), &other).is_empty());
    }
}
