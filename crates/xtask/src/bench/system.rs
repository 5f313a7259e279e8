//! What is compared, each as a process tree of its own with its files in a folder of its own.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::load;
use crate::{command, process};

/// Until a fresh system takes connections.
const STARTED: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, ValueEnum)]
pub(super) enum System {
    /// Kurier with the embedded queue
    Embedded,
    /// Kurier on a Redis that syncs before it confirms
    Redis,
    /// Debian's Postfix
    Postfix,
}

impl System {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Redis => "redis",
            Self::Postfix => "postfix",
        }
    }

    /// Starts it in an empty folder; it takes messages at the address and relays them to the sink.
    ///
    /// # Errors
    /// When it does not take connections in time, with what it wrote.
    pub(super) fn start(self, kurier: &Path, folder: &Path, sink: SocketAddr) -> Result<Running> {
        let address = load::free_address()?;
        let mut running = Running {
            address,
            children: Vec::new(),
        };
        match self {
            Self::Embedded => {
                running
                    .children
                    .push(start_kurier(kurier, folder, address, sink, None)?);
            }
            Self::Redis => {
                let redis = load::free_address()?;
                running.children.push(start_redis(folder, redis)?);
                wait_for(redis, folder)?;
                let kurier = start_kurier(kurier, folder, address, sink, Some(redis))?;
                running.children.push(kurier);
            }
            Self::Postfix => {
                configure_postfix(folder, address, sink)?;
                let mut master = Command::new("/usr/lib/postfix/sbin/master");
                // In the foreground, so that it ends with us and its processes are a tree of ours.
                running.children.push(start(
                    master.arg("-d").arg("-c").arg(folder.join("etc")),
                    folder,
                )?);
            }
        }
        wait_for(address, folder)?;
        Ok(running)
    }
}

/// A system at work; it ends when this is dropped.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    children: Vec<Child>,
}

impl Running {
    /// The roots of its process trees.
    pub(super) fn roots(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
            process::kill_tree(child);
        }
    }
}

/// What was asked for, in order; everything when nothing was.
pub(super) fn selection(asked: &[System]) -> Vec<System> {
    System::value_variants()
        .iter()
        .copied()
        .filter(|system| asked.is_empty() || asked.contains(system))
        .collect()
}

fn start_kurier(
    kurier: &Path,
    folder: &Path,
    address: SocketAddr,
    sink: SocketAddr,
    redis: Option<SocketAddr>,
) -> Result<Child> {
    let mut relay = Command::new(kurier);
    relay
        .args(["relay", "--local", "--hostname", "bench.test"])
        .args(["--listen", &address.to_string()])
        .args(["--smarthost", &sink.to_string()])
        .args(["--admin", &load::free_address()?.to_string()]);
    match redis {
        Some(redis) => relay.args(["--redis", &format!("redis://{redis}")]),
        None => relay.arg("--data").arg(folder.join("data")),
    };
    start(&mut relay, folder)
}

fn start_redis(folder: &Path, address: SocketAddr) -> Result<Child> {
    let files = folder.join("redis");
    fs::create_dir_all(&files)?;
    let mut redis = Command::new("redis-server");
    redis
        .args([
            "--bind",
            &address.ip().to_string(),
            "--port",
            &address.port().to_string(),
        ])
        .args([
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--save",
            "",
        ])
        .args([
            "--no-appendfsync-on-rewrite",
            "no",
            "--maxmemory-policy",
            "noeviction",
            "--dir",
        ])
        .arg(&files);
    start(&mut redis, folder)
}

fn start(command: &mut Command, folder: &Path) -> Result<Child> {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))?;
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))
}

fn wait_for(address: SocketAddr, folder: &Path) -> Result<()> {
    let what = format!("{address} takes connections");
    command::wait_until(&what, STARTED, || {
        Ok(load::is_listening(address).then_some(()))
    })
    .with_context(|| command::tail_of(&folder.join("log"), 15))
}

/// A whole Postfix beside the machine's own, of which nothing is used but the programs.
fn configure_postfix(folder: &Path, address: SocketAddr, sink: SocketAddr) -> Result<()> {
    let etc = folder.join("etc");
    fs::create_dir_all(&etc)?;
    let text = include_str!("main.cf")
        .replace("@DIR@", &folder.display().to_string())
        .replace("@SINK@", &format!("[{}]:{}", sink.ip(), sink.port()))
        .replace("@SINK_HOST@", &sink.ip().to_string());
    fs::write(etc.join("main.cf"), text)?;
    let text = include_str!("master.cf").replace("@ADDRESS@", &address.to_string());
    fs::write(etc.join("master.cf"), text)?;

    let postfix = id("passwd", "postfix")?;
    let postdrop = id("group", "postdrop")?;
    for name in QUEUES {
        own(&folder.join("queue").join(name), 0o700, postfix, None)?;
    }
    own(
        &folder.join("queue/maildrop"),
        0o730,
        postfix,
        Some(postdrop),
    )?;
    own(&folder.join("queue/public"), 0o710, postfix, Some(postdrop))?;
    own(&folder.join("queue/pid"), 0o755, 0, None)?;
    own(&folder.join("data"), 0o700, postfix, None)
}

/// Folders of a Postfix queue that only its daemons use.
const QUEUES: [&str; 11] = [
    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private",
    "saved", "trace",
];

fn own(path: &Path, mode: u32, user: u32, group: Option<u32>) -> Result<()> {
    fs::create_dir_all(path)?;
    chown(path, Some(user), group).with_context(|| format!("cannot chown {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// The number of a user (`passwd`) or a group (`group`): the third field of its entry.
fn id(database: &str, name: &str) -> Result<u32> {
    let entry = command::capture(Command::new("getent").args([database, name]))?;
    let id = entry.split(':').nth(2).and_then(|field| field.parse().ok());
    id.with_context(|| format!("no {name} in {database}"))
}
