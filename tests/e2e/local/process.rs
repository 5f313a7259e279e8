//! Processes the tests start: each on a port of its own, ended with the test.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use kurier_test::receive::{self, Arrival};
use kurier_test::submit::Account;

use crate::eventually::{eventually, holds};
use crate::http;

/// The binary under test, built beside this test.
pub(crate) fn kurier() -> Result<PathBuf> {
    beside("kurier")
}

fn beside(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test
        .parent()
        .and_then(Path::parent)
        .context("the test has no target folder")?;
    let path = folder.join(name);
    ensure!(
        path.exists(),
        "{name} is not built: run `cargo build --workspace` first"
    );
    Ok(path)
}

/// A loopback port that nobody listens on. Below the ports that outgoing connections take, and each
/// one once, because tests run side by side.
pub(crate) fn free_port() -> Result<u16> {
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

pub(crate) fn answers(port: u16) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    Ok(())
}

/// Output of a program that must exist; standard error is part of every failure.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {command:?}"))
}

/// Runs to success and gives standard output.
pub(crate) fn succeed(command: &mut Command) -> Result<String> {
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
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self(child))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// SIGKILL, and wait.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        succeed(
            Command::new("kill")
                .arg(format!("-{name}"))
                .arg(self.id().to_string()),
        )?;
        Ok(())
    }

    pub(crate) fn is_running(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }

    pub(crate) fn wait(&mut self, limit: Duration) -> Result<std::process::ExitStatus> {
        eventually("the process ends", limit, || {
            self.0.try_wait()?.context("it still runs")
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A relay in local mode.
pub(crate) struct Relay {
    pub(crate) process: Running,
    pub(crate) port: u16,
    pub(crate) admin: u16,
}

/// What a local relay is started with.
pub(crate) struct RelaySettings<'a> {
    pub(crate) data: &'a Path,
    pub(crate) smarthost: u16,
    pub(crate) redis: Option<String>,
}

impl Relay {
    pub(crate) fn start(settings: &RelaySettings<'_>) -> Result<Self> {
        let relay = Self::launch(settings, free_port()?, free_port()?)?;
        eventually("the relay listens", Duration::from_secs(20), || {
            answers(relay.port)
        })?;
        Ok(relay)
    }

    fn launch(settings: &RelaySettings<'_>, port: u16, admin: u16) -> Result<Self> {
        let mut command = Command::new(kurier()?);
        command
            .args(["relay", "--local", "--hostname", "relay.example"])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--admin", &format!("127.0.0.1:{admin}")])
            .args(["--smarthost", &format!("127.0.0.1:{}", settings.smarthost)]);
        match &settings.redis {
            Some(url) => command.args(["--redis", url]),
            None => command.arg("--data").arg(settings.data),
        };
        Ok(Self {
            process: Running::start(&mut command)?,
            port,
            admin,
        })
    }

    pub(crate) fn account(&self) -> Account {
        Account {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            server_name: None,
            login: None,
            ca: None,
        }
    }

    /// The value of a metric, summed over its labels.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        http::metric(&format!("127.0.0.1:{}", self.admin), name, "")
    }
}

/// One HTTP request to a loopback port; gives the body of a 200 answer.
pub(crate) fn http(port: u16, method: &str, path: &str, body: &str) -> Result<String> {
    http::request(method, &format!("127.0.0.1:{port}"), path, body)
}

/// The receiving server, in this process, with what it has received.
pub(crate) struct Receiver {
    pub(crate) port: u16,
    pub(crate) control: u16,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Receiver {
    pub(crate) fn start() -> Result<Self> {
        let (port, control) = (free_port()?, free_port()?);
        let arrivals: Arc<Mutex<Vec<Arrival>>> = Arc::default();
        let log = arrivals.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        runtime.spawn(receive::run(
            receive::Settings {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                control: SocketAddr::from((Ipv4Addr::LOCALHOST, control)),
                name: "local".to_owned(),
            },
            move |arrival| log.lock().expect("no panic holds it").push(arrival.clone()),
        ));
        eventually("the receiver listens", Duration::from_secs(10), || {
            answers(port)
        })?;
        Ok(Self {
            port,
            control,
            arrivals,
            _runtime: runtime,
        })
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().expect("no panic holds it").clone()
    }

    /// Waits until `count` messages have arrived.
    pub(crate) fn wait_for(&self, count: usize, limit: Duration) -> Result<Vec<Arrival>> {
        eventually("mail arrives", limit, || {
            let arrivals = self.arrivals();
            holds(
                arrivals.len() >= count,
                format_args!("{} of {count}", arrivals.len()),
            )?;
            Ok(arrivals)
        })
    }
}

/// A private `redis-server` that syncs every write.
pub(crate) struct Redis {
    process: Option<Running>,
    port: u16,
    folder: PathBuf,
}

impl Redis {
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let mut redis = Self {
            process: None,
            port: free_port()?,
            folder: folder.to_owned(),
        };
        redis.up()?;
        Ok(redis)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn up(&mut self) -> Result<()> {
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .arg("--dir")
            .arg(&self.folder)
            .args([
                "--save",
                "",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
            ])
            .args(["--maxmemory-policy", "noeviction"])
            .stdout(Stdio::null());
        self.process = Some(Running::start(&mut command)?);
        let port = self.port;
        eventually("redis-server answers", Duration::from_secs(20), || {
            answers(port)
        })
    }

    /// SIGKILL: what it has confirmed is on disk.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process
            .take()
            .context("redis-server is not running")?
            .kill()
    }
}
