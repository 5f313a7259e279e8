//! What every sub-command needs of the process: a runtime, signals, an exit status.

use std::process::ExitCode;

use anyhow::{Context, Error, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::local::LocalError;

/// The release, and what it was built from.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
pub(crate) const REVISION: &str = match option_env!("KURIER_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// There is one provider, and libraries that ask for the default get it.
pub(crate) fn install_crypto_provider() {
    // Fails only where there is one already, which is then the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Runs to the end, and then waits for threads that still write.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    runtime.block_on(work)
}

/// Cancelled by SIGTERM or SIGINT. A second one ends the process where it stands.
pub(crate) fn stop_on_signal() -> Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        for again in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if again {
                std::process::exit(KILLED.into());
            }
            told.cancel();
        }
    });
    Ok(stop)
}

pub(crate) fn status(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Says what went wrong. Whoever wrote the configuration is told apart from everything else, and
/// whoever has stopped reading the answer is told nothing.
pub(crate) fn failure(error: &Error) -> ExitCode {
    let io_error = error.downcast_ref::<std::io::Error>();
    if io_error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
        return ExitCode::from(NOT_READ);
    }
    eprintln!("kurier: {error:#}");
    let start = error.downcast_ref::<::relay::StartError>();
    let configuration = error.is::<config::ConfigError>()
        || error.is::<LocalError>()
        || error.is::<operator::LeaseTimingError>()
        || matches!(start, Some(::relay::StartError::Config(_)))
        || matches!(
            error.downcast_ref::<telemetry::InitError>(),
            Some(telemetry::InitError::LogFilter { .. })
        );
    if configuration {
        ExitCode::from(BAD_CONFIGURATION)
    } else {
        ExitCode::FAILURE
    }
}

/// EX_USAGE of sysexits.
const BAD_CONFIGURATION: u8 = 64;
/// As a shell reports a process that was interrupted.
const KILLED: u8 = 130;
/// As a shell reports a process that wrote to a closed pipe.
const NOT_READ: u8 = 141;
