//! `kurier config check`.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

/// # Errors
/// Every mistake in the configuration.
pub(crate) fn run(file: &Path) -> Result<ExitCode> {
    let loaded = config::load(file)?;
    writeln!(
        io::stdout(),
        "{}: good: {} listeners, {} credentials, {} routes",
        file.display(),
        loaded.config.listeners.len(),
        loaded.credentials.len(),
        loaded.routes.len()
    )?;
    Ok(ExitCode::SUCCESS)
}
