//! `cargo xtask bench`: Kurier and a private Postfix, in turn, in the same run.
//!
//! smtp-source -> relay -> smtp-sink over loopback, 50 sessions that stay open. Systems take turns within
//! every round, because a machine drifts; each starts fresh, is warmed, and is measured from the first
//! injection to the last arrival. Absolute figures say as much about the machine; the ratio is the result.
//!
//! CPU is what the system's processes used, those that ended within the run and Redis among them. Memory
//! is sampled; RSS counts a page that several processes share once for each, PSS once for all.

mod floor;
mod harness;
mod load;
mod measure;
mod report;
mod system;

use anyhow::Result;

use self::{report::Report, system::System};
use crate::{
    command,
    paths::{self, cargo},
    tools::debian,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many messages a run sends
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(100..))]
    messages: u32,
    /// How many rounds; the medians are compared
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Only these systems [default: all]
    #[arg(long = "system", value_enum, value_name = "SYSTEM")]
    systems: Vec<System>,
    /// Bytes in a message's content
    #[arg(long = "size", value_name = "BYTES", default_values_t = [10_000, 100_000])]
    sizes: Vec<u32>,
    /// Fail below this multiple of Postfix's messages a second, for the first size: embedded, redis
    /// [default: 5 4 where all systems are measured and the first size is 10000]
    #[arg(long, num_args = 2, value_names = ["EMBEDDED", "REDIS"])]
    at_least: Option<Vec<f64>>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let systems = system::selection(&args.systems);
    let floors = floor::floors(args.at_least.as_deref(), &args.sizes, &systems)?;
    debian::install()?;
    if systems.iter().any(|system| *system != System::Postfix) {
        command::run(cargo().args(["build", "--release", "--package", "kurier"]))?;
    }
    let kurier = paths::target()?.join("release/kurier");
    let mut report = Report::default();
    for &size in &args.sizes {
        for round in 1..=args.runs {
            for &system in &systems {
                let figures = harness::measure(system, &kurier, args.messages, size)?;
                println!("{size:>7} B  round {round}  {:<9} {figures}", system.name());
                report.add(size, system, figures);
            }
        }
    }
    print!("\n{}", report.table());
    floor::check(&report, &floors)
}
