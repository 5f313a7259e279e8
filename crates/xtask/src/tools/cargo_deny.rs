//! The checker of dependencies' licences, sources and bans.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result};

use crate::{
    command,
    paths::{self, cargo},
};

const VERSION: &str = "0.20.2";

/// Builds it when it is not there; where it is.
///
/// # Errors
/// When cargo cannot build it.
pub(crate) fn ensure() -> Result<PathBuf> {
    let folder = paths::cache()?.join("tools");
    let root = folder.join(format!("cargo-deny-{VERSION}"));
    let program = root.join("bin/cargo-deny");
    if program.is_file() {
        return Ok(program);
    }
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let lock = File::create(folder.join("cargo-deny.lock"))?;
    lock.lock()?;
    if program.is_file() {
        return Ok(program);
    }
    println!("tools: building cargo-deny {VERSION} (about 200 s from nothing)");
    let start = Instant::now();
    let mut install = Command::new("nice");
    install
        .args(["-n", "10"])
        .arg(cargo().get_program())
        .args([
            "install",
            "--quiet",
            "--locked",
            "--version",
            VERSION,
            "--root",
        ])
        .arg(&root)
        .arg("cargo-deny")
        // The workspace's folder and flags are not its.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS");
    command::run(&mut install)?;
    println!("tools: cargo-deny ready, {} s", start.elapsed().as_secs());
    Ok(program)
}
