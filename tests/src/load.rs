//! The load client: sends a run of the corpus over kept connections and writes one JSON line for
//! each attempt with the exact reply. A message counts as accepted once, by its first `250`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::corpus::Message;
use crate::submit::{Account, Connection};

#[derive(clap::Args, Clone, Debug)]
pub struct Settings {
    /// Name of the run: the prefix of every message's id.
    #[arg(long)]
    pub run: String,
    #[arg(long, default_value_t = 1000)]
    pub messages: u32,
    #[arg(long, default_value_t = 10)]
    pub connections: usize,
    /// Messages sent over one connection before it is opened anew, so that a Service spreads them.
    #[arg(long, default_value_t = 20)]
    pub per_connection: u32,
    #[arg(long, default_value = "load@example.com")]
    pub from: String,
    #[arg(long, default_value = "sink@receiver.example")]
    pub to: String,
    /// Give every second message a traceparent of its own.
    #[arg(long)]
    pub traces: bool,
    /// Each connection sends no more often than this, so that the rate is the load's and not the
    /// machine's.
    #[arg(long, default_value_t = 0)]
    pub pace_milliseconds: u64,
    /// How often a message that was not accepted is tried again.
    #[arg(long, default_value_t = 60)]
    pub retries: u32,
}

/// One attempt to submit one message.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Attempt {
    pub id: String,
    pub attempt: u32,
    /// The exact reply, or `connection: …` when there was none.
    pub reply: String,
    pub sha256: String,
    pub octets: usize,
    pub traceparent: Option<String>,
    pub milliseconds: u64,
}

impl Attempt {
    pub fn accepted(&self) -> bool {
        self.reply.starts_with("250")
    }
}

/// The last line of a run.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Summary {
    pub run: String,
    pub accepted: u32,
    pub given_up: u32,
    pub seconds: f64,
}

/// Sends the run; `report` gets every attempt as it ends.
pub async fn run(
    account: Account,
    settings: Settings,
    report: impl Fn(&Attempt) + Send + Sync + 'static,
) -> Result<Summary> {
    let started = Instant::now();
    let work: Arc<Mutex<VecDeque<(u32, u32)>>> = Arc::new(Mutex::new(
        (0..settings.messages).map(|index| (index, 1)).collect(),
    ));
    let report = Arc::new(report);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..settings.connections.max(1) {
        clients.spawn(client(
            account.clone(),
            settings.clone(),
            work.clone(),
            report.clone(),
        ));
    }
    let (mut accepted, mut given_up) = (0, 0);
    while let Some(ended) = clients.join_next().await {
        let (sent, lost) = ended?;
        accepted += sent;
        given_up += lost;
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Summary {
        run: settings.run,
        accepted,
        given_up,
        seconds,
    })
}

async fn client(
    account: Account,
    settings: Settings,
    work: Arc<Mutex<VecDeque<(u32, u32)>>>,
    report: Arc<impl Fn(&Attempt)>,
) -> (u32, u32) {
    let (mut accepted, mut given_up) = (0, 0);
    let mut connection: Option<Connection> = None;
    let mut used = 0;
    let mut turns = tokio::time::interval(Duration::from_millis(settings.pace_milliseconds.max(1)));
    loop {
        if settings.pace_milliseconds > 0 {
            turns.tick().await;
        }
        let Some((index, attempt)) = work.lock().expect("no panic holds it").pop_front() else {
            break;
        };
        let traceparent =
            (settings.traces && index % 2 == 0).then(|| traceparent(&settings.run, index));
        let message = Message::new(&settings.run, index, traceparent.as_deref(), "");
        let begun = Instant::now();
        let outcome = async {
            let open = match connection.take() {
                Some(open) if used < settings.per_connection => open,
                Some(old) => {
                    old.quit().await;
                    used = 0;
                    Connection::open(&account).await?
                }
                None => {
                    used = 0;
                    Connection::open(&account).await?
                }
            };
            let open = connection.insert(open);
            used += 1;
            open.send(&settings.from, &settings.to, &message).await
        }
        .await;
        let reply = outcome.unwrap_or_else(|error| {
            connection = None;
            format!("connection: {error:#}")
        });
        let attempted = Attempt {
            id: message.id.clone(),
            attempt,
            reply,
            sha256: message.digest(),
            octets: message.raw.len(),
            traceparent,
            milliseconds: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        report(&attempted);
        if attempted.accepted() {
            accepted += 1;
        } else if attempt <= settings.retries && !attempted.reply.starts_with('5') {
            work.lock()
                .expect("no panic holds it")
                .push_back((index, attempt + 1));
            tokio::time::sleep(Duration::from_millis(500)).await;
        } else {
            given_up += 1;
        }
    }
    if let Some(open) = connection {
        open.quit().await;
    }
    (accepted, given_up)
}

/// A sampled traceparent (W3C Trace Context) that is a function of run and index.
pub fn traceparent(run: &str, index: u32) -> String {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(format!("{run}/{index}"));
    let hex: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("00-{}-{}-01", &hex[..32], &hex[32..48])
}
