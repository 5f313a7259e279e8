//! The receiving servers of the soak: they do what the recipients' addresses say, note everything,
//! and can be held up so that relays have something in hand when they are killed.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::fate::{DESTINATIONS, Fate};
use crate::corpus::{ID_FIELD, body_digest, field};
use crate::gate::{Gate, Pass, Step};
use crate::process::free_port;
use crate::receive::{content, now, path, queue_id};

/// A message that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: u64,
    /// When its 250 was written; `None` if it could not be.
    pub(crate) answered: Option<u64>,
    /// The name of the relay process that brought it.
    pub(crate) relay: String,
    pub(crate) queue_id: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) content: Content,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Message {
        id: String,
        sha256: String,
    },
    /// RFC 3464: of which message, as the relay called it, and for whom.
    Notification {
        original: String,
        failed: Vec<String>,
    },
}

/// A recipient that a relay named: it has begun with the message.
#[derive(Clone, Debug)]
pub(crate) struct Touch {
    pub(crate) at: u64,
    pub(crate) relay: String,
    pub(crate) recipient: String,
}

/// All that was seen.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    pub(crate) arrivals: Vec<Arrival>,
    pub(crate) touches: Vec<Touch>,
}

pub(crate) struct Sink {
    ports: Vec<u16>,
    shared: Arc<Shared>,
}

struct Shared {
    gate: Gate,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seen: Seen,
    /// How often a recipient was named.
    attempts: HashMap<String, u32>,
    /// Open connections, by relay process.
    connections: HashMap<String, usize>,
}

impl Sink {
    /// One server for each destination, and the last for notifications.
    pub(crate) fn start(runtime: &Runtime) -> Result<Self> {
        let shared = Arc::new(Shared {
            gate: Gate::new(),
            state: Mutex::default(),
        });
        let mut ports = Vec::new();
        for _ in 0..=DESTINATIONS {
            let port = free_port()?;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let listener = runtime.block_on(TcpListener::bind(address))?;
            runtime.spawn(accept(listener, Arc::clone(&shared)));
            ports.push(port);
        }
        Ok(Self { ports, shared })
    }

    pub(crate) fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Holds relays up at a step of a transaction.
    pub(crate) fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    pub(crate) fn arrived(&self) -> usize {
        self.shared.state().seen.arrivals.len()
    }

    pub(crate) fn connections(&self, relay: &str) -> usize {
        let state = self.shared.state();
        state.connections.get(relay).copied().unwrap_or_default()
    }

    pub(crate) fn seen(&self) -> Seen {
        self.shared.state().seen.clone()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut session = Session {
                shared: &shared,
                relay: String::new(),
                recipients: Vec::new(),
            };
            // A peer that goes away in the middle is one of the things under test.
            let _ = session.serve(stream).await;
            if !session.relay.is_empty() {
                let mut state = shared.state();
                if let Some(open) = state.connections.get_mut(&session.relay) {
                    *open -= 1;
                }
            }
        });
    }
}

struct Session<'a> {
    shared: &'a Shared,
    /// What it called itself in EHLO.
    relay: String,
    /// Of this transaction; which attempt it is for each.
    recipients: Vec<(String, u32)>,
}

impl Session<'_> {
    async fn serve(&mut self, stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 sink.example ESMTP\r\n").await?;
        let mut line = Vec::new();
        loop {
            line.clear();
            if stream.read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            let command = String::from_utf8_lossy(&line).trim_end().to_owned();
            let mut words = command.split([' ', ':']);
            let verb = words.next().unwrap_or_default().to_ascii_uppercase();
            let reply: &[u8] = match verb.as_str() {
                "EHLO" => {
                    self.greeted_by(words.next().unwrap_or_default());
                    b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
                }
                "MAIL" => {
                    self.recipients.clear();
                    b"250 2.1.0 ok\r\n"
                }
                "RCPT" => {
                    let reply = self.recipient(path(&command));
                    self.held_up(Step::Rcpt).await?;
                    reply
                }
                "DATA" if self.recipients.is_empty() => b"503 5.5.1 no recipients\r\n",
                "DATA" => {
                    stream.write_all(b"354 go ahead\r\n").await?;
                    self.buffered(&stream).await?;
                    let raw = content(&mut stream).await?;
                    self.taken(&mut stream, &raw).await?;
                    continue;
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

    async fn held_up(&self, at: Step) -> Result<()> {
        let pass = self.shared.gate.pass(at).await;
        ensure!(pass == Pass::On, "cut off");
        Ok(())
    }

    /// Where somebody waits for it: until the whole message is in the socket's buffer, unread.
    async fn buffered(&self, stream: &BufReader<TcpStream>) -> Result<()> {
        if !self.shared.gate.is_armed(Step::Buffered) {
            return Ok(());
        }
        let mut octets = vec![0; 64 << 10];
        loop {
            let count = stream.get_ref().peek(&mut octets).await?;
            if octets[..count].ends_with(b"\r\n.\r\n") {
                return self.held_up(Step::Buffered).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn greeted_by(&mut self, relay: &str) {
        if self.relay.is_empty() {
            relay.clone_into(&mut self.relay);
            let mut state = self.shared.state();
            *state.connections.entry(relay.to_owned()).or_default() += 1;
        }
    }

    fn recipient(&mut self, address: String) -> &'static [u8] {
        let mut state = self.shared.state();
        let attempts = state.attempts.entry(address.clone()).or_default();
        *attempts += 1;
        let attempt = *attempts;
        state.seen.touches.push(Touch {
            at: now(),
            relay: self.relay.clone(),
            recipient: address.clone(),
        });
        match (Fate::of(&address), attempt) {
            (Fate::Defer, 1) | (Fate::DeferTwice, 1 | 2) => b"450 4.2.1 try later\r\n",
            (Fate::Refuse, _) => b"550 5.1.1 nobody of that name\r\n",
            _ => {
                self.recipients.push((address, attempt));
                b"250 2.1.5 ok\r\n"
            }
        }
    }

    /// Everything of a message is there, its last line included.
    async fn taken(&self, stream: &mut BufReader<TcpStream>, raw: &[u8]) -> Result<()> {
        let is = |fate: Fate, first: bool| {
            let mut all = self.recipients.iter();
            all.any(|(address, attempt)| Fate::of(address) == fate && (!first || *attempt == 1))
        };
        if is(Fate::Drop, true) {
            bail!("ends without a reply");
        }
        let refusal: Option<&[u8]> = if is(Fate::RefuseDot, false) {
            Some(b"554 5.6.0 not wanted\r\n")
        } else if is(Fate::DeferDot, true) {
            Some(b"451 4.3.2 try later\r\n")
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return Ok(stream.write_all(refusal).await?);
        }
        // Noted before the reply: what a relay may count as delivered is known here.
        let position = self.note(raw);
        self.held_up(Step::Dot).await?;
        if is(Fate::Stall, true) {
            let moment = 500 + 400 * u64::try_from(position % 5)?;
            tokio::time::sleep(Duration::from_millis(moment)).await;
        }
        stream.write_all(b"250 2.0.0 taken\r\n").await?;
        let mut state = self.shared.state();
        if let Some(arrival) = state.seen.arrivals.get_mut(position) {
            arrival.answered = Some(now());
        }
        Ok(())
    }

    fn note(&self, raw: &[u8]) -> usize {
        let (queue_id, content) = match field(raw, ID_FIELD) {
            Some(id) => {
                let (id, sha256) = (id.to_owned(), body_digest(raw));
                (queue_id(raw), Content::Message { id, sha256 })
            }
            None => {
                // It has no trace field yet: the relay that brings it has made it.
                let own = field(raw, "Message-ID").unwrap_or_default();
                let own = own.trim_start_matches('<').split('@').next();
                let own = own.unwrap_or_default().to_owned();
                (own, notification(&String::from_utf8_lossy(raw)))
            }
        };
        let addresses = self.recipients.iter().map(|(address, _)| address.clone());
        let arrival = Arrival {
            at: now(),
            answered: None,
            relay: self.relay.clone(),
            queue_id,
            recipients: addresses.collect(),
            content,
        };
        let mut state = self.shared.state();
        state.seen.arrivals.push(arrival);
        state.seen.arrivals.len() - 1
    }
}

/// RFC 3464 §2.2, §2.3.
fn notification(raw: &str) -> Content {
    let mut original = String::new();
    let mut failed = Vec::new();
    for line in raw.lines() {
        if let Some(id) = line.strip_prefix("X-Kurier-Queue-Id: ") {
            id.trim().clone_into(&mut original);
        }
        if let Some(recipient) = line.strip_prefix("Final-Recipient: rfc822; ") {
            failed.push(recipient.trim().to_owned());
        }
    }
    Content::Notification { original, failed }
}
