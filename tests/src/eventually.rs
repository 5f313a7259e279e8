//! Waiting for a condition, with a limit and with the reason it did not come true.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Probes until it succeeds or `limit` has passed; then fails with the last reason.
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<T>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        match probe() {
            Ok(found) => return Ok(found),
            Err(error) if started.elapsed() > limit => {
                return Err(error).with_context(|| format!("waited {limit:?} for: {what}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// `Ok` when the condition holds, else an error that shows the state.
pub fn holds(condition: bool, state: impl std::fmt::Display) -> Result<()> {
    if !condition {
        bail!("{state}");
    }
    Ok(())
}
