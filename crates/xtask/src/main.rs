//! Developer commands: `cargo xtask COMMAND`.
//!
//! Everything that a test, a build of an image or CI needs and cargo alone cannot do. It works in this
//! order, and each command calls what comes before it:
//!
//! 1. [`tools`] brings what the rest needs: Debian packages, and programs built from pinned Go modules
//!    into a cache that is keyed by their digest.
//! 2. [`image`] makes OCI image archives without a container engine.
//! 3. [`cluster`] runs a real Kubernetes in network namespaces of this machine, and takes it away whole.
//! 4. [`crds`] writes the custom resource definitions, [`mod@test`] runs every tier of tests, [`mod@soak`]
//!    breaks things under load for as long as it is told, [`mod@bench`] compares Kurier with Postfix.
//!
//! Invariants: what `cluster up` makes, `cluster down` removes, whatever crashed in between; a command
//! run twice does nothing the second time; nothing listens on or sends to anything but loopback and
//! namespaces of our own, package downloads apart.
//!
//! It does not: touch the machine's own services, keep state outside the cache and state folders, or
//! hide a tier that could not run.
#![allow(
    clippy::print_stdout,
    reason = "a command's answer goes to standard output"
)]

mod bench;
mod cluster;
mod command;
mod crds;
mod image;
mod paths;
mod process;
mod soak;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Kurier's developer commands")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Compare messages a second, CPU and memory with a private Postfix in the same run
    Bench(bench::Args),
    /// A real Kubernetes in network namespaces of this machine
    #[command(subcommand)]
    Cluster(cluster::Action),
    /// Write the custom resource definitions from the `api` crate
    Crds(crds::Args),
    /// Build OCI image archives without a container engine
    Image(image::Args),
    /// Run relays under load while processes and Redis fail, and count what became of the mail
    Soak(soak::Args),
    /// Run every gate and every tier of tests
    Test(test::Args),
    /// Install and build the programs that the other commands use
    Tools,
}

fn main() -> ExitCode {
    let done = |()| ExitCode::SUCCESS;
    let result = match Cli::parse().command {
        Task::Bench(args) => bench::run(&args).map(done),
        Task::Cluster(action) => cluster::run(action),
        Task::Crds(args) => crds::run(&args).map(done),
        Task::Image(args) => image::run(&args).map(done),
        Task::Soak(args) => soak::run(&args).map(done),
        Task::Test(args) => Ok(test::run(&args)),
        Task::Tools => tools::run().map(done),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
