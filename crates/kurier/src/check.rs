//! `kurier config check`, and what of it every start of a relay does as well.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use config::{ConfigError, Loaded, Violation};

use crate::store;

/// # Errors
/// Every mistake in the configuration.
pub(crate) fn run(file: &Path) -> Result<ExitCode> {
    let loaded = config::load(file)?;
    check(file, &loaded, Content::Checked)?;
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

/// What to say of an address of Redis or its authority that stands, wrong, in a file of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    Checked,
    /// A relay starts all the same, see [`store::open`].
    WaitedFor,
}

/// What would keep a relay from running with `loaded`, which was read from `file`.
///
/// # Errors
/// Every mistake that is found.
pub(crate) fn check(file: &Path, loaded: &Loaded, content: Content) -> Result<(), ConfigError> {
    let mut problems = relay::check(loaded);
    problems.extend(store::check(&loaded.config, content == Content::Checked));
    let telemetry = &loaded.config.telemetry;
    let mut add = |field: &str, checked: Result<(), telemetry::InitError>| {
        if let Err(error) = checked {
            problems.push(Violation {
                field: field.to_owned(),
                message: error.to_string(),
            });
        }
    };
    add(
        "telemetry.log.filter",
        telemetry::check_log_filter(&telemetry.log.filter),
    );
    if let Some(otlp) = &telemetry.otlp {
        add(
            "telemetry.otlp.endpoint",
            telemetry::check_endpoint(&otlp.endpoint),
        );
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ConfigError::unusable(file, problems))
    }
}
