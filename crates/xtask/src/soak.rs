//! `cargo xtask soak`: relays of one queue under load, while processes and Redis are killed, stopped,
//! paused and filled up; in the end it is told what became of every message.
//!
//! All of it is `kurier-test soak`; this builds it beside the relay.

use std::process::Command;

use anyhow::Result;

use crate::{
    command,
    image::{self, Profile},
    paths,
    tools::debian,
};

#[derive(clap::Args)]
#[command(
    after_help = "Arguments: --minutes M --messages N --kills K --stops S --outages O --seed S \
    --lease-milliseconds L --keep FOLDER --report FILE"
)]
pub(crate) struct Args {
    /// How it is built
    #[arg(long, value_enum, default_value = "dev")]
    profile: Profile,
    /// Passed on
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    debian::install()?;
    image::build_programs(args.profile)?;
    let program = args.profile.folder(&paths::target()?).join("kurier-test");
    command::run(Command::new(program).arg("soak").args(&args.arguments))
}
