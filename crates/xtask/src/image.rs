//! `cargo xtask image`: OCI image archives, made without a container engine.
//!
//! An image holds one program, the shared libraries `ldd` names for it, and the CA bundle; nothing that
//! can be run besides. It runs as a user that owns nothing, and needs no writable root.
//! `deploy/Containerfile` makes the same layout with an engine.
//!
//! 1. cargo builds the programs, with the features of the whole workspace so that nothing is built twice.
//! 2. [`archive`] lays them out; [`local`] says which file goes where.
//!
//! It does not push, and knows no registry: archives are imported where they are needed.

mod archive;
pub(crate) mod local;
mod tar;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;

use crate::{
    command,
    paths::{self, cargo},
    tools::{debian, go},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which of cargo's profiles builds Kurier
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
    /// Which images [default: all]
    #[arg(value_enum)]
    images: Vec<Name>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Profile {
    Dev,
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Name {
    Coredns,
    Kurier,
    KurierTest,
    Otelcol,
    Pause,
    Redis,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let names = if args.images.is_empty() {
        Name::value_variants()
    } else {
        &args.images
    };
    if names.iter().any(|name| name.is_cargo_built()) {
        build_programs(args.profile)?;
    }
    for archive in make(names, args.profile)? {
        println!("{}", archive.display());
    }
    Ok(())
}

/// Writes the archives of programs that cargo has built already, and returns where.
///
/// # Errors
/// When a program is missing or an archive cannot be written.
pub(crate) fn make(names: &[Name], profile: Profile) -> Result<Vec<PathBuf>> {
    let target = paths::target()?;
    let images = target.join("images");
    names
        .iter()
        .map(|name| name.make(&profile.folder(&target), &images))
        .collect()
}

impl Profile {
    /// Where cargo puts its programs.
    pub(crate) fn folder(self, target: &Path) -> PathBuf {
        target.join(match self {
            Self::Dev => "debug",
            Self::Release => "release",
        })
    }
}

impl Name {
    fn is_cargo_built(self) -> bool {
        matches!(self, Self::Kurier | Self::KurierTest)
    }

    fn make(self, built: &Path, to: &Path) -> Result<PathBuf> {
        match self {
            Self::Coredns => {
                go::ensure("coredns")?;
                local::coredns(to)
            }
            Self::Kurier => local::kurier(to, &built.join("kurier")),
            Self::KurierTest => local::kurier_test(to, &built.join("kurier-test")),
            Self::Otelcol => {
                go::ensure("otelcol")?;
                local::otelcol(to)
            }
            Self::Pause => {
                go::ensure("pause")?;
                local::pause(to)
            }
            Self::Redis => {
                debian::install()?;
                local::redis(to)
            }
        }
    }
}

/// Builds what goes into images, and runs outside of them, too.
///
/// # Errors
/// When it does not build.
pub(crate) fn build_programs(profile: Profile) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--workspace", "--bins"]);
    match profile {
        // An example pulls in what tests depend on, and with that the features that `cargo test` has
        // switched on in shared dependencies: without it all of them would be built once more.
        Profile::Dev => build.args(["--example", "crds"]),
        Profile::Release => build.arg("--release"),
    };
    command::run(&mut build)
}
