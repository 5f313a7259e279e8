//! `cargo xtask tools`: brings what the other commands need.
//!
//! 1. What cannot be installed is checked: the system, Rust, Go, Python.
//! 2. Debian packages that are missing are installed, without starting the services in them.
//! 3. Go programs are built from the pinned modules in `crates/xtask/tools` into the cache, each under
//!    the digest of its module; one that is there already is not looked at again.
//! 4. Valkey is downloaded, pinned by its digest.

pub(crate) mod cargo_deny;
pub(crate) mod debian;
pub(crate) mod go;
mod precondition;
pub(crate) mod valkey;

use anyhow::Result;

pub(crate) use precondition::{is_root, missing as missing_preconditions};

/// What building everything from nothing may take, on two cores that build the workspace as well.
pub(crate) const MINUTES: u64 = 35;

/// Brings everything.
///
/// # Errors
/// When a precondition is not met, or a package or program cannot be brought.
pub(crate) fn run() -> Result<()> {
    precondition::check()?;
    debian::install()?;
    build()?;
    println!("tools: all there, programs in {}", go::folder()?.display());
    Ok(())
}

/// Builds what is built here.
///
/// # Errors
/// When a program cannot be built.
pub(crate) fn build() -> Result<()> {
    cargo_deny::ensure()?;
    valkey::ensure()?;
    go::MODULES.iter().try_for_each(go::Module::ensure)
}
