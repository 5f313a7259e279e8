//! One run of one system.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result};

use super::{
    load::{self, Sink},
    measure::{self, Figures, Memory},
    system::System,
};
use crate::command;

/// Sent before the clock starts: processes are there, files are open, connections are up.
const WARM_UP: u32 = 200;

/// Where a sync costs what it costs: what is here outlives a restart of the machine (FHS 3.0 §5.15), while
/// `/tmp` is often memory. Anybody may come here, and Postfix' own users have to.
const ON_DISK: &str = "/var/tmp";

/// Starts the system fresh, measures it, and takes it away.
///
/// # Errors
/// When it does not start, refuses a message, or does not deliver one.
pub(super) fn measure(system: System, kurier: &Path, messages: u32, size: u32) -> Result<Figures> {
    let parent = env::var_os("TMPDIR").map_or_else(|| ON_DISK.into(), PathBuf::from);
    let folder = parent.join(format!("kurier-bench-{}", std::process::id()));
    fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
    let figures = measure_in(&folder, system, kurier, messages, size).with_context(|| {
        format!(
            "{}: {}",
            system.name(),
            command::tail_of(&folder.join("log"), 15)
        )
    });
    fs::remove_dir_all(&folder)?;
    figures
}

fn measure_in(
    folder: &Path,
    system: System,
    kurier: &Path,
    messages: u32,
    size: u32,
) -> Result<Figures> {
    let sink = Sink::start()?;
    let running = system.start(kurier, folder, sink.address)?;
    load::send(running.address, WARM_UP, size)?;
    sink.wait_for(WARM_UP)?;

    let memory = Memory::watch(running.roots());
    let cpu = measure::cpu_seconds(&running.roots());
    let start = Instant::now();
    load::send(running.address, messages, size)?;
    sink.wait_for(WARM_UP + messages)?;
    let took = start.elapsed().as_secs_f64();
    let cpu = measure::cpu_seconds(&running.roots()) - cpu;
    let (rss_megabytes, pss_megabytes) = memory.peaks();
    Ok(Figures {
        per_second: f64::from(messages) / took,
        cpu_microseconds: cpu * 1e6 / f64::from(messages),
        rss_megabytes,
        pss_megabytes,
    })
}
