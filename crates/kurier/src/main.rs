//! The `kurier` binary: one image, one version, every part of it a sub-command.

mod check;
mod cli;
mod demo;
mod local;
mod manage;
mod operator;
mod process;
mod relay;
mod store;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, ConfigCommand};

fn main() -> ExitCode {
    let command = Cli::parse().command;
    process::install_crypto_provider();
    let result = match command {
        Command::Config {
            command: ConfigCommand::Check { file },
        } => check::run(&file),
        Command::Demo(arguments) => process::block_on(demo::run(arguments)).map(process::status),
        Command::Operator(arguments) => operator::run(arguments),
        Command::Queue(arguments) => manage::run(&arguments),
        Command::Relay(arguments) => relay::run(arguments),
    };
    result.unwrap_or_else(|error| process::failure(&error))
}
