//! Processes of a test on this machine: each on a port of its own, none outlives its test.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
pub use rustix::process::Signal;
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process, waitid};

use crate::eventually::eventually;

/// The program under test, as it was built beside this one.
pub fn kurier() -> Result<PathBuf> {
    beside("kurier")
}

/// A test program is in a folder of its own below the others.
fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let built = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.exists());
    built.with_context(|| format!("{name} is not built: run `cargo build --workspace` first"))
}

/// A loopback port that nobody listens on. Below the ports that outgoing connections take, and each
/// one once, because tests run side by side.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = FIRST_PORT + u16::try_from(std::process::id() % 16)? * 1000;
    for _ in 0..1000 {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 1000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no loopback port from {base} on is free")
}

const FIRST_PORT: u16 = 15_000;

/// # Errors
/// When nobody listens on this loopback port.
pub fn answers(port: u16) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    Ok(())
}

/// Output of a program that must exist; standard error is part of every failure.
pub fn output(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {command:?}"))
}

/// Runs to success and gives standard output.
pub fn succeed(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command:?} ended with {}\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(stdout)
}

/// A child process that does not outlive its test.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self(child))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// SIGKILL, and wait.
    pub fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    /// SIGSTOP; returns when it does nothing any more.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        // It stays waitable as stopped, and its end is waited for elsewhere.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.pid()?), options)?;
        Ok(())
    }

    /// SIGCONT.
    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }

    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        eventually("the process ends", limit, || {
            self.0.try_wait()?.context("it still runs")
        })
    }

    fn pid(&self) -> Result<Pid> {
        let raw = i32::try_from(self.id())?;
        Pid::from_raw(raw).context("a process has an id")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
