//! The load: clients that send the planned messages over kept connections, note every reply word
//! for word, and go on with another relay when theirs is gone.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::Settings;
use super::fate::Planned;
use crate::corpus::Message;
use crate::receive::now;
use crate::submit::{Account, Connection};

/// One attempt to hand a message in, from its first octet on.
#[derive(Clone, Debug)]
pub(super) struct Submission {
    pub(super) index: u32,
    pub(super) slot: usize,
    pub(super) begun: u64,
    pub(super) ended: u64,
    /// As it was, or `connection: …` where there was none.
    pub(super) reply: String,
}

impl Submission {
    /// The name that the relay gave a message it took.
    pub(super) fn queue_id(&self) -> Option<&str> {
        let words = self.reply.strip_prefix("250 2.0.0 ")?;
        words.split_whitespace().next()
    }

    pub(super) fn is_unanswered(&self) -> bool {
        self.reply.starts_with("connection:")
    }
}

pub(super) struct Load {
    seed: u64,
    messages: u32,
    per_second: f64,
    ports: Vec<u16>,
    began: Instant,
    next: AtomicU32,
    waiting: AtomicU32,
    ending: AtomicBool,
    /// To be sent again.
    again: Mutex<VecDeque<u32>>,
    submissions: Mutex<Vec<Submission>>,
    /// Whether somebody is in the middle of a DATA that never ends, by slot.
    held_open: Vec<AtomicBool>,
}

impl Load {
    pub(super) fn new(settings: &Settings, ports: Vec<u16>) -> Self {
        let seconds = f64::from(settings.minutes) * 60.0;
        Self {
            seed: settings.seed,
            messages: settings.messages,
            // What is refused for a while is made up for.
            per_second: f64::from(settings.messages) / seconds * 1.25,
            held_open: ports.iter().map(|_| AtomicBool::new(false)).collect(),
            ports,
            began: Instant::now(),
            next: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            ending: AtomicBool::new(false),
            again: Mutex::default(),
            submissions: Mutex::default(),
        }
    }

    pub(super) fn start(self: &Arc<Self>, runtime: &Runtime) {
        for slot in 0..self.ports.len() {
            runtime.spawn(hold_open(Arc::clone(self), slot));
        }
        for client in 0..CLIENTS {
            runtime.spawn(send(Arc::clone(self), client));
        }
    }

    /// Without faults the load need not go on once there are enough messages.
    pub(super) fn faults_are_over(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// How many messages are still to be accepted; all that are planned, until the load ends.
    pub(super) fn waiting(&self) -> u32 {
        if !self.is_over() {
            return self.messages;
        }
        self.waiting.load(Ordering::SeqCst)
    }

    pub(super) fn holds_open(&self, slot: usize) -> bool {
        self.held_open[slot].load(Ordering::SeqCst)
    }

    pub(super) fn accepted(&self) -> u32 {
        let begun = self.next.load(Ordering::SeqCst);
        begun.saturating_sub(self.waiting.load(Ordering::SeqCst))
    }

    pub(super) fn submissions(&self) -> Vec<Submission> {
        self.all().clone()
    }

    fn all(&self) -> MutexGuard<'_, Vec<Submission>> {
        self.submissions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn again(&self) -> MutexGuard<'_, VecDeque<u32>> {
        self.again.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.ending.load(Ordering::Relaxed) && self.next.load(Ordering::SeqCst) >= self.messages
    }

    /// The next message to send, when it is its turn; `None` when all are accepted.
    async fn next(&self) -> Option<u32> {
        loop {
            let again = self.again().pop_front();
            if again.is_some() {
                return again;
            }
            if self.is_over() {
                if self.waiting.load(Ordering::SeqCst) == 0 {
                    return None;
                }
            } else {
                let due = f64::from(self.next.load(Ordering::SeqCst)) / self.per_second;
                if self.began.elapsed().as_secs_f64() >= due {
                    self.waiting.fetch_add(1, Ordering::SeqCst);
                    return Some(self.next.fetch_add(1, Ordering::SeqCst));
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn send(load: Arc<Load>, client: usize) {
    let mut slot = client % load.ports.len();
    let mut open: Option<(Connection, u32)> = None;
    while let Some(index) = load.next().await {
        let (mut connection, used) = match open.take() {
            Some(open) => open,
            None => match Connection::open(&account(load.ports[slot])).await {
                Ok(connection) => (connection, 0),
                Err(_) => {
                    // Nothing of the message has been said: this is no attempt.
                    load.again().push_front(index);
                    slot = (slot + 1) % load.ports.len();
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let Planned { sender, recipients } = Planned::new(load.seed, index);
        let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
        let message = Message::small(&run(load.seed), index);
        let begun = now();
        let reply = connection.send_to(&sender, &recipients, &message).await;
        let submission = Submission {
            index,
            slot,
            begun,
            ended: now(),
            reply: reply.unwrap_or_else(|error| format!("connection: {error:#}")),
        };
        let (accepted, unanswered) = (submission.queue_id().is_some(), submission.is_unanswered());
        load.all().push(submission);
        if accepted {
            load.waiting.fetch_sub(1, Ordering::SeqCst);
        } else {
            load.again().push_back(index);
            tokio::time::sleep(PAUSE).await;
        }
        if unanswered {
            continue;
        }
        if used + 1 < PER_CONNECTION {
            open = Some((connection, used + 1));
        } else {
            connection.quit().await;
            slot = (slot + 1) % load.ports.len();
        }
    }
}

/// Somebody is in the middle of DATA at every relay, whenever it is killed.
async fn hold_open(load: Arc<Load>, slot: usize) {
    loop {
        let opened = async {
            let mut connection = Connection::open(&account(load.ports[slot])).await?;
            connection
                .open_data("load@sender.example", "take@d0.example")
                .await?;
            anyhow::Ok(connection)
        };
        if let Ok(mut connection) = opened.await {
            load.held_open[slot].store(true, Ordering::SeqCst);
            connection.closed().await;
            load.held_open[slot].store(false, Ordering::SeqCst);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The prefix of every message's own id.
pub(super) fn run(seed: u64) -> String {
    format!("soak{seed}")
}

/// Of a relay on loopback that asks nobody who they are.
pub(crate) fn account(port: u16) -> Account {
    Account {
        host: "127.0.0.1".to_owned(),
        port,
        server_name: None,
        login: None,
        ca: None,
    }
}

const CLIENTS: usize = 30;
const PER_CONNECTION: u32 = 40;
const PAUSE: Duration = Duration::from_millis(100);
