//! A private Redis on a free loopback port, ended with its owner.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub(crate) struct RedisServer {
    launch: Launch,
    port: u16,
    child: Child,
}

struct Launch {
    program: OsString,
    directory: TempDir,
    options: Vec<(String, String)>,
    environment: Vec<(String, OsString)>,
}

impl RedisServer {
    /// One that meets the level `Fsync`.
    pub(crate) fn start() -> Self {
        Self::start_with(&[], &[])
    }

    /// `options` are those of the configuration file; they come after the usual ones.
    pub(crate) fn start_with(options: &[(&str, &str)], environment: &[(&str, OsString)]) -> Self {
        // Of the same kind: the tests that go by no clock of their own run on it too.
        let other = std::env::var_os("KURIER_REDIS_SERVER");
        let program = other.unwrap_or_else(|| "redis-server".into());
        Self::start_as(program, options, environment)
    }

    /// Another program of the same kind.
    pub(crate) fn start_as(
        program: OsString,
        options: &[(&str, &str)],
        environment: &[(&str, OsString)],
    ) -> Self {
        let usual = [
            ("bind", "127.0.0.1"),
            ("save", ""),
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            ("maxmemory-policy", "noeviction"),
            ("loglevel", "warning"),
        ];
        let options = usual.iter().chain(options);
        let launch = Launch {
            program,
            directory: tempfile::tempdir().expect("a temporary directory"),
            options: options
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            environment: environment
                .iter()
                .map(|(k, v)| (k.to_string(), v.clone()))
                .collect(),
        };
        // Somebody else may take the port before the server does.
        for _ in 0..20 {
            let port = free_port();
            let mut child = launch.spawn(port);
            if is_ready(port, &mut child) {
                return Self {
                    launch,
                    port,
                    child,
                };
            }
            end(&mut child);
        }
        panic!("redis-server does not start: {}", launch.log());
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn directory(&self) -> &Path {
        self.launch.directory.path()
    }

    /// A client of another make, for what tests ask behind the queue's back.
    pub(crate) fn client(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("an address");
        client
            .get_connection()
            .expect("a connection to redis-server")
    }

    /// SIGKILL: as if the machine had gone.
    pub(crate) fn kill(&mut self) {
        end(&mut self.child);
    }

    /// Again on the same port with what is on its disk.
    pub(crate) fn start_again(&mut self) {
        self.child = self.launch.spawn(self.port);
        assert!(
            is_ready(self.port, &mut self.child),
            "{}",
            self.launch.log()
        );
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// As [`Self::restart`], with more options.
    pub(crate) fn restart_with(&mut self, options: &[(&str, &str)]) {
        let options = options
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        self.launch.options.extend(options);
        self.restart();
    }

    /// Ends what writes its files in the background.
    pub(crate) fn kill_children(&self) {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            if let Some(child) = child.parse().ok().and_then(Pid::from_raw) {
                // It may have ended by itself.
                let _ = kill_process(child, Signal::KILL);
            }
        }
    }

    /// It answers nothing until [`Self::resume`].
    pub(crate) fn pause(&self) {
        kill_process(self.pid(), Signal::STOP).expect("a running redis-server");
    }

    pub(crate) fn resume(&self) {
        kill_process(self.pid(), Signal::CONT).expect("a paused redis-server");
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill_children();
        end(&mut self.child);
    }
}

impl Launch {
    fn spawn(&self, port: u16) -> Child {
        let mut command = Command::new(&self.program);
        command.arg("--port").arg(port.to_string());
        command
            .arg("--dir")
            .arg(self.directory.path())
            .args(["--logfile", "log"]);
        for (name, value) in &self.options {
            command.arg(format!("--{name}")).arg(value);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().expect("a server that is installed")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

/// True when it answers, or asks for a password; false when it has ended.
fn is_ready(port: u16, child: &mut Child) -> bool {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).expect("an address");
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if child.try_wait().expect("a child").is_some() {
            return false;
        }
        let answer = client
            .get_connection_with_timeout(Duration::from_secs(1))
            .and_then(|mut connection| redis::cmd("PING").query::<String>(&mut connection));
        match answer {
            Ok(_) => return true,
            Err(error) if matches!(error.code(), Some("NOAUTH" | "NOPERM")) => return true,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    false
}

pub(crate) fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    listener.local_addr().expect("an address").port()
}

/// Waits for a condition that comes about, at most for half a minute.
pub(crate) async fn until(mut is: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is().await {
        assert!(Instant::now() < deadline, "it does not come about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
