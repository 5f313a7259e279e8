//! The receiving SMTP server: takes anything, logs one JSON line a message, and misbehaves on
//! request. Its control endpoint (`GET` and `PUT /mode`, `GET /count`) is plain HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::corpus::{ID_FIELD, body_digest, field};

#[derive(clap::Args, Clone, Debug)]
pub struct Settings {
    #[arg(long, default_value = "0.0.0.0:2526")]
    pub listen: SocketAddr,
    #[arg(long, default_value = "0.0.0.0:8081")]
    pub control: SocketAddr,
    /// Name in the log, to tell two receivers apart.
    #[arg(long, default_value = "receiver")]
    pub name: String,
}

/// How it behaves from now on.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Mode {
    /// Wait this long before the reply to the final dot.
    pub delay_milliseconds: u64,
    /// Answer every RCPT with 450.
    pub defer: bool,
    /// Answer every RCPT with 550.
    pub refuse: bool,
}

/// One message that got its `250`.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Arrival {
    pub receiver: String,
    /// Of the test message, if it is one; else the Subject.
    pub id: String,
    /// The id that the relay gave it, from the trace field on top.
    #[serde(default)]
    pub queue_id: String,
    pub sha256: String,
    pub octets: usize,
    pub reverse_path: String,
    pub forward_paths: Vec<String>,
    pub unix_milliseconds: u64,
}

#[derive(Clone)]
struct Shared {
    mode: Arc<watch::Sender<Mode>>,
    count: Arc<AtomicU64>,
    name: Arc<str>,
}

pub async fn run(
    settings: Settings,
    report: impl Fn(&Arrival) + Clone + Send + Sync + 'static,
) -> Result<()> {
    let shared = Shared {
        mode: Arc::new(watch::Sender::new(Mode::default())),
        count: Arc::default(),
        name: settings.name.into(),
    };
    let control = Router::new()
        .route("/mode", get(mode).put(set_mode))
        .route("/count", get(count))
        .with_state(shared.clone());
    let listener = TcpListener::bind(settings.control).await?;
    tokio::spawn(async move { axum::serve(listener, control).await });
    let listener = TcpListener::bind(settings.listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (shared, report) = (shared.clone(), report.clone());
        tokio::spawn(async move {
            // A peer that goes away in the middle is one of the things under test.
            let _ = serve(stream, &shared, report).await;
        });
    }
}

async fn mode(State(shared): State<Shared>) -> Json<Mode> {
    Json(*shared.mode.borrow())
}

async fn set_mode(State(shared): State<Shared>, Json(mode): Json<Mode>) -> Json<Mode> {
    shared.mode.send_replace(mode);
    Json(mode)
}

async fn count(State(shared): State<Shared>) -> Json<u64> {
    Json(shared.count.load(Ordering::Relaxed))
}

async fn serve(stream: TcpStream, shared: &Shared, report: impl Fn(&Arrival)) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 receiver.example ESMTP\r\n").await?;
    let (mut from, mut to) = (String::new(), Vec::new());
    let mut line = Vec::new();
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let command = String::from_utf8_lossy(&line).trim_end().to_owned();
        let verb = command
            .split([' ', ':'])
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        let reply: &[u8] = match verb.as_str() {
            "EHLO" => b"250-receiver.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n",
            "MAIL" => {
                from = path(&command);
                to.clear();
                b"250 2.1.0 ok\r\n"
            }
            "RCPT" if shared.mode.borrow().defer => b"450 4.2.1 try later\r\n",
            "RCPT" if shared.mode.borrow().refuse => b"550 5.1.1 nobody of that name\r\n",
            "RCPT" => {
                to.push(path(&command));
                b"250 2.1.5 ok\r\n"
            }
            "DATA" if to.is_empty() => b"503 5.5.1 no recipients\r\n",
            "DATA" => {
                stream.write_all(b"354 go ahead\r\n").await?;
                let raw = content(&mut stream).await?;
                wait(shared).await;
                let arrival = Arrival {
                    receiver: shared.name.to_string(),
                    id: field(&raw, ID_FIELD)
                        .or_else(|| field(&raw, "Subject"))
                        .unwrap_or_default()
                        .to_owned(),
                    queue_id: queue_id(&raw),
                    sha256: body_digest(&raw),
                    octets: raw.len(),
                    reverse_path: from.clone(),
                    forward_paths: to.clone(),
                    unix_milliseconds: now(),
                };
                // Logged before the reply: what the relay may count as delivered is in the log.
                report(&arrival);
                shared.count.fetch_add(1, Ordering::Relaxed);
                b"250 2.0.0 taken\r\n"
            }
            "QUIT" => {
                stream.write_all(b"221 2.0.0 bye\r\n").await?;
                return Ok(());
            }
            "HELO" | "RSET" | "NOOP" => b"250 2.0.0 ok\r\n",
            _ => b"500 5.5.1 unknown\r\n",
        };
        stream.write_all(reply).await?;
    }
}

async fn wait(shared: &Shared) {
    let mut mode = shared.mode.subscribe();
    let delay = Duration::from_millis(mode.borrow_and_update().delay_milliseconds);
    // A changed mode ends the wait of those that were held by the old one.
    let _ = tokio::time::timeout(delay, mode.changed()).await;
}

/// Reads content up to CRLF.CRLF and un-stuffs it.
pub(crate) async fn content(stream: &mut BufReader<TcpStream>) -> Result<Vec<u8>> {
    let mut raw = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        loop {
            if stream.take(1 << 20).read_until(b'\n', &mut line).await? == 0 {
                anyhow::bail!("connection closed in DATA");
            }
            if line.ends_with(b"\r\n") {
                break;
            }
        }
        if line == b".\r\n" {
            return Ok(raw);
        }
        raw.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}

/// RFC 5321 §4.4: the word behind `id` in the first Received field.
pub(crate) fn queue_id(raw: &[u8]) -> String {
    let head = String::from_utf8_lossy(raw.get(..1000).unwrap_or(raw));
    let mut words = head
        .split_whitespace()
        .skip_while(|word| *word != "Received:");
    let id = words.by_ref().skip_while(|word| *word != "id").nth(1);
    id.unwrap_or_default().trim_end_matches(';').to_owned()
}

pub(crate) fn path(command: &str) -> String {
    let start = command.find('<').map_or(command.len(), |at| at + 1);
    let end = command.find('>').unwrap_or(command.len());
    command.get(start..end).unwrap_or_default().to_owned()
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let elapsed = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
