//! A private `redis-server` that syncs every write, and just enough of its protocol to ask it.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::eventually::eventually;
use crate::process::{Running, answers, free_port};

pub struct Redis {
    process: Option<Running>,
    port: u16,
    folder: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

impl Redis {
    pub fn start(folder: &Path) -> Result<Self> {
        let mut redis = Self {
            process: None,
            port: free_port()?,
            folder: folder.to_owned(),
            environment: Vec::new(),
        };
        redis.up()?;
        Ok(redis)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What it is started with from the next time on.
    pub fn set_environment(&mut self, environment: Vec<(&'static str, OsString)>) {
        self.environment = environment;
    }

    pub fn up(&mut self) -> Result<()> {
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .arg("--dir")
            .arg(&self.folder)
            .args(["--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", "always"])
            .args(["--maxmemory-policy", "noeviction"])
            .envs(self.environment.iter().cloned())
            .stdout(Stdio::null());
        self.process = Some(Running::start(&mut command)?);
        let port = self.port;
        eventually("redis-server answers", Duration::from_secs(20), || {
            answers(port)
        })
    }

    /// SIGKILL: what it has confirmed is on disk.
    pub fn kill(&mut self) -> Result<()> {
        self.process
            .take()
            .context("redis-server is not running")?
            .kill()
    }

    /// Runs one command on a connection of its own.
    ///
    /// # Errors
    /// When the server does not answer soon, or answers with an error.
    pub fn ask(&self, command: &[&str]) -> Result<Value> {
        ask(self.port, command).with_context(|| command.join(" "))
    }
}

/// An answer, as far as tests look at any.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    Nil,
    Integer(i64),
    Text(String),
    List(Vec<Self>),
}

impl Value {
    /// The elements of a list of texts.
    pub fn texts(self) -> Vec<String> {
        let Self::List(elements) = self else {
            return Vec::new();
        };
        let texts = elements.into_iter().filter_map(|element| match element {
            Self::Text(text) => Some(text),
            _ => None,
        });
        texts.collect()
    }

    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(integer) => Some(*integer),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }
}

fn ask(port: u16, command: &[&str]) -> Result<Value> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    let mut request = format!("*{}\r\n", command.len());
    for argument in command {
        request.push_str(&format!("${}\r\n{argument}\r\n", argument.len()));
    }
    stream.write_all(request.as_bytes())?;
    read(&mut BufReader::new(stream))
}

fn read(from: &mut BufReader<TcpStream>) -> Result<Value> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let (kind, rest) = line.trim_end().split_at_checked(1).context("no answer")?;
    Ok(match kind {
        "+" => Value::Text(rest.to_owned()),
        "-" => bail!("{rest}"),
        ":" => Value::Integer(rest.parse()?),
        "$" | "*" if rest == "-1" => Value::Nil,
        "$" => {
            let mut octets = vec![0; rest.parse::<usize>()? + 2];
            from.read_exact(&mut octets)?;
            ensure!(octets.ends_with(b"\r\n"), "a string without its end");
            octets.truncate(octets.len() - 2);
            Value::Text(String::from_utf8_lossy(&octets).into_owned())
        }
        "*" => {
            let elements = (0..rest.parse::<usize>()?).map(|_| read(from));
            Value::List(elements.collect::<Result<_>>()?)
        }
        _ => bail!("not understood: {line}"),
    })
}

/// Longer than the server is paused on purpose.
const SOON: Duration = Duration::from_secs(20);
