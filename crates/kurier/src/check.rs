//! `kurier config check`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

/// # Errors
/// Every mistake in the configuration.
pub(crate) fn run(file: &Path) -> Result<ExitCode> {
    let loaded = config::load(file)?;
    println!(
        "{}: good: {} listeners, {} credentials, {} routes",
        file.display(),
        loaded.config.listeners.len(),
        loaded.credentials.len(),
        loaded.routes.len()
    );
    Ok(ExitCode::SUCCESS)
}
