//! `kurier-test`: the load client, the receiver and the span sink, each as a mode.

use std::io::Write as _;

use clap::{Parser, Subcommand};
use kurier_test::{collect, load, receive, submit};
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
