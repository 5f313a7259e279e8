//! What holds for a destination holds over all relays of a queue, counted where the mail arrives.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kurier_test::load;
use kurier_test::submit::Account;

use super::process::{Redis, Running, answers, free_port, http, kurier};
use crate::eventually::eventually;

const MESSAGES: u32 = 300;
const RATE: f64 = 100.0;
const CONNECTIONS: usize = 2;

/// Three relays of one queue share 2 connections and 100 messages/s to a smarthost. A second one,
/// which has no limits, gets its mail meanwhile as fast as it comes. Connections that rest between two
/// grants are not counted: they are nobody's until one of these takes them.
#[test]
fn a_destination_is_never_given_more_than_it_may_have() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let redis = Redis::start(folder.path())?;
    let (limited, free) = (Sink::start()?, Sink::start()?);
    let relays = (0..3)
        .map(|number| Relay::start(folder.path(), number, &redis, &limited, &free))
        .collect::<Result<Vec<_>>>()?;
    for relay in &relays {
        // What is to be sent waits until all of them take part.
        http(relay.admin, "PUT", "/v1/claiming", r#"{"enabled":false}"#)?;
    }
    for domain in ["limited.example", "free.example"] {
        submit(&relays, domain)?;
    }
    for relay in &relays {
        http(relay.admin, "PUT", "/v1/claiming", r#"{"enabled":true}"#)?;
    }
    eventually("everything has arrived", Duration::from_secs(90), || {
        for sink in [&limited, &free] {
            let arrived = sink.arrivals().len();
            ensure!(arrived >= MESSAGES as usize, "{arrived} of {MESSAGES}");
        }
        Ok(())
    })?;

    let seen = limited
        .seen
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .most;
    ensure!(seen <= CONNECTIONS, "{seen} connections at work at a time");
    let arrivals = limited.arrivals();
    // One may be on its way on each connection when the next token comes.
    let allowance = 1 + CONNECTIONS;
    for (first, start) in arrivals.iter().enumerate() {
        for (last, end) in arrivals.iter().enumerate().skip(first) {
            let most = RATE * (*end - *start).as_secs_f64() + allowance as f64;
            let count = last - first + 1;
            ensure!(
                count as f64 <= most,
                "{count} messages in {:?}",
                *end - *start
            );
        }
    }
    let names: Vec<_> = limited.names();
    ensure!(names.len() > 1, "only {names:?} delivered");
    Ok(())
}

/// Over all relays, so that each has something in its cache.
fn submit(relays: &[Relay], domain: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for (number, relay) in relays.iter().enumerate() {
        let account = Account {
            host: "127.0.0.1".to_owned(),
            port: relay.port,
            server_name: None,
            login: None,
            ca: None,
        };
        let settings = load::Settings {
            run: format!("{domain}-{number}"),
            messages: MESSAGES / 3,
            connections: 4,
            per_connection: 100,
            from: "load@example.com".to_owned(),
            to: format!("sink@{domain}"),
            traces: false,
            pace_milliseconds: 0,
            retries: 20,
        };
        let summary = runtime.block_on(load::run(account, settings, |_| {}))?;
        ensure!(summary.accepted == MESSAGES / 3, "{summary:?}");
    }
    Ok(())
}

struct Relay {
    port: u16,
    admin: u16,
    _process: Running,
}

impl Relay {
    fn start(
        folder: &Path,
        number: usize,
        redis: &Redis,
        limited: &Sink,
        free: &Sink,
    ) -> Result<Self> {
        let (port, admin) = (free_port()?, free_port()?);
        let (limited, free, redis) = (limited.port, free.port, redis.url());
        let file = folder.join(format!("relay-{number}.yaml"));
        fs::write(
            &file,
            format!(
                "schema: 1
hostname: r{number}.example
listeners:
- {{name: relay, address: '127.0.0.1:{port}', role: Relay, allowedNetworks: [127.0.0.0/8]}}
queue:
  id: limits
  source: {{type: Redis, redis: {{url: '{redis}'}}}}
admin: {{health: '127.0.0.1:{admin}', management: '127.0.0.1:{admin}'}}
routes:
- name: to
  rules:
  - name: limited
    match: {{recipientDomains: [limited.example]}}
    action: {{type: Smarthost, smarthost: {{host: 127.0.0.1, port: {limited}}}}}
    limits: {{concurrency: {CONNECTIONS}, rate: {{messages: {RATE}, per: 1s}}}}
  - name: free
    action: {{type: Smarthost, smarthost: {{host: 127.0.0.1, port: {free}}}}}
"
            ),
        )?;
        let mut command = Command::new(kurier()?);
        command.args(["relay", "--config"]).arg(&file);
        command.stderr(File::create(folder.join(format!("relay-{number}.log")))?);
        let process = Running::start(&mut command)?;
        eventually("the relay listens", Duration::from_secs(20), || {
            answers(port)
        })?;
        Ok(Self {
            port,
            admin,
            _process: process,
        })
    }
}

/// Takes everything, and notes when, and how many connections are in a transaction.
struct Sink {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    at_work: usize,
    most: usize,
    arrivals: Vec<Instant>,
    names: Vec<String>,
}

impl Sink {
    fn start() -> Result<Self> {
        let port = free_port()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let noted = Arc::clone(&seen);
        // Ends with the test's process: nobody else connects here.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let noted = Arc::clone(&noted);
                std::thread::spawn(move || {
                    // A peer that goes away is no concern of a sink.
                    let _ = serve(&stream, &noted);
                });
            }
        });
        Ok(Self { port, seen })
    }

    fn arrivals(&self) -> Vec<Instant> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.arrivals.clone()
    }

    /// Who delivered, by their EHLO.
    fn names(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = seen.names.clone();
        names.sort();
        names.dedup();
        names
    }
}

fn note(seen: &Mutex<Seen>, change: impl FnOnce(&mut Seen)) {
    change(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
}

fn serve(mut stream: &TcpStream, seen: &Mutex<Seen>) -> Result<()> {
    stream.set_nodelay(true)?;
    // Content is not always UTF-8.
    let mut lines = BufReader::new(stream.try_clone()?).split(b'\n');
    stream.write_all(b"220 sink.example ESMTP\r\n")?;
    let mut in_content = false;
    while let Some(line) = lines.next().transpose()? {
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        let reply: &[u8] = match line.split(' ').next().unwrap_or_default() {
            "." if in_content => {
                in_content = false;
                // Before the reply, for then another may take its place.
                note(seen, |seen| {
                    seen.arrivals.push(Instant::now());
                    seen.at_work -= 1;
                });
                b"250 2.0.0 taken\r\n"
            }
            _ if in_content => continue,
            "DATA" => {
                in_content = true;
                note(seen, |seen| {
                    seen.at_work += 1;
                    seen.most = seen.most.max(seen.at_work);
                });
                b"354 go on\r\n"
            }
            "EHLO" => {
                let name = line.trim_start_matches("EHLO ").to_owned();
                note(seen, |seen| seen.names.push(name));
                b"250-sink.example\r\n250 8BITMIME\r\n"
            }
            "QUIT" => {
                stream.write_all(b"221 2.0.0 bye\r\n")?;
                return Ok(());
            }
            _ => b"250 2.0.0 ok\r\n",
        };
        stream.write_all(reply)?;
    }
    Ok(())
}
