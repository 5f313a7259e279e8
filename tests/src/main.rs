//! `kurier-test`: the load client, the receiver and the span sink, each as a mode.
#![allow(
    clippy::print_stdout,
    reason = "what a mode has to say goes to standard output"
)]

use std::io::Write as _;

use clap::{Parser, Subcommand};
use kurier_test::{collect, load, receive, soak, submit};
use serde::Serialize;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Submit a run of messages; the account comes from the environment.
    Load(load::Settings),
    /// Receive mail and log it.
    Receive(receive::Settings),
    /// Receive spans from a Collector and log them.
    Collect(collect::Settings),
    /// Run relays under load while things break; beside the program `kurier`.
    Soak(soak::Settings),
    /// Do nothing until ended, so that other modes can be run beside it.
    Idle,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().mode {
        Mode::Load(settings) => {
            let account = submit::Account::from_env()?;
            let summary = load::run(account, settings, line).await?;
            line(&summary);
            anyhow::ensure!(
                summary.given_up == 0,
                "{} messages were given up",
                summary.given_up
            );
            Ok(())
        }
        Mode::Receive(settings) => receive::run(settings, line).await,
        Mode::Collect(settings) => collect::run(settings, line).await,
        Mode::Soak(settings) => tokio::task::block_in_place(|| {
            let report = soak::run(&settings, |step| println!("{step}"))?;
            println!("\n{report}");
            anyhow::ensure!(report.failures.is_empty(), "the soak has failed");
            Ok(())
        }),
        Mode::Idle => {
            let mut end =
                tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            end.recv().await;
            Ok(())
        }
    }
}

fn line(value: &impl Serialize) {
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    // One write, so that lines of several tasks do not mix.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
