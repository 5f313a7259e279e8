use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Change, Remains, Scheduler, WallClock};
use crate::durability::{Durability, Level};
use crate::id::{Call, Handle, JournalId, MessageId, Scope, WorkerId};
use crate::operation::{
    Aborted, Act, Acted, Beat, Begun, Counts, Expiring, Journaled, Limits, List, Next, NextReply,
    Page, Resolved, Seen, Suspension, Taken, Timing,
};
use crate::queue::{Queue, QueueError, RecordError};
use crate::record::{Header, NewMessage, Record};

/// The queue in memory: the scheduler behind a lock, the records beside it. Nothing survives it, so
/// it is for tests; it is what the other back ends are compared with.
#[derive(Debug)]
pub struct ModelQueue {
    state: Mutex<State>,
    clock: WallClock,
}

#[derive(Debug)]
struct State {
    scheduler: Scheduler,
    records: HashMap<MessageId, Record>,
    bodies: HashMap<MessageId, BTreeMap<u32, Bytes>>,
    journal: VecDeque<Journaled>,
    journal_keeps: usize,
}

impl ModelQueue {
    pub fn new(timing: &Timing, clock: WallClock) -> Self {
        let state = State {
            scheduler: Scheduler::new(timing),
            records: HashMap::new(),
            bodies: HashMap::new(),
            journal: VecDeque::new(),
            journal_keeps: 0,
        };
        Self {
            state: Mutex::new(state),
            clock,
        }
    }

    /// The journal keeps its last `entries`.
    pub fn keep_journal(&self, entries: u32) {
        self.lock().journal_keeps = entries as usize;
    }

    /// What is left in it.
    pub fn remains(&self) -> Remains {
        let state = self.lock();
        let now = self.clock.now();
        let kept = |message: &&MessageId| state.scheduler.keeps_body(now, **message);
        Remains {
            rows: state.records.len(),
            bodies: state.bodies.keys().filter(kept).count(),
            ..state.scheduler.remains()
        }
    }

    /// Runs one step, and drops the records of messages that ended in it.
    fn step<T>(&self, step: impl FnOnce(&mut State, u64) -> T) -> T {
        let mut state = self.lock();
        let now = self.clock.now();
        let reply = step(&mut state, now);
        for change in state.scheduler.take_changes() {
            match change {
                Change::Removed(message) | Change::Unstaged(message) => {
                    state.records.remove(&message);
                    state.bodies.remove(&message);
                }
                Change::Journaled(entry) => {
                    state.journal.push_back(entry);
                    let keeps = state.journal_keeps;
                    let over = state.journal.len().saturating_sub(keeps);
                    state.journal.drain(..over);
                }
                Change::Ended(_)
                | Change::Resumed(_)
                | Change::State { .. }
                | Change::Suspended { .. } => {}
            }
        }
        reply
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, message: &NewMessage) {
        let record = Record {
            header: message.header.clone(),
            content: message.content.clone(),
        };
        self.records.insert(message.id, record);
    }
}

#[async_trait]
impl Queue for ModelQueue {
    async fn register(&self, worker: WorkerId) -> Result<(), QueueError> {
        if self.step(|state, now| state.scheduler.register(now, worker)) {
            return Ok(());
        }
        Err(QueueError::Conflict(format!(
            "worker {worker} is known already"
        )))
    }

    async fn beat(&self, worker: WorkerId) -> Result<Beat, QueueError> {
        Ok(self.step(|state, now| state.scheduler.beat(now, worker)))
    }

    async fn stage(&self, message: MessageId, number: u32, chunk: Bytes) -> Result<(), QueueError> {
        self.step(|state, now| {
            if !state.scheduler.keeps_body(now, message) {
                state.bodies.remove(&message);
            }
            state.scheduler.stage(now, message);
            state.scheduler.staged(message, number);
            state
                .bodies
                .entry(message)
                .or_default()
                .insert(number, chunk);
        });
        Ok(())
    }

    async fn unstage(&self, message: MessageId) -> Result<(), QueueError> {
        self.step(|state, _| state.scheduler.unstage(message));
        Ok(())
    }

    async fn enqueue(&self, call: Call, messages: &[NewMessage]) -> Result<Taken<()>, QueueError> {
        self.step(|state, now| {
            let taken = state.scheduler.enqueue(now, call, messages)?;
            if taken == Taken::Ran(()) {
                messages.iter().for_each(|message| state.keep(message));
            }
            Ok(taken)
        })
    }

    async fn abort(
        &self,
        call: Call,
        message: MessageId,
        handles: &[Handle],
    ) -> Result<Aborted, QueueError> {
        Ok(self.step(|state, now| state.scheduler.abort(now, call, message, handles)))
    }

    async fn next(&self, next: &Next) -> Result<Taken<NextReply>, QueueError> {
        Ok(self.step(|state, now| {
            let settled = match state.scheduler.settle_all(now, next) {
                Taken::Ran(settled) => settled,
                Taken::Expired => return Taken::Expired,
                Taken::Reaped => return Taken::Reaped,
                Taken::Refused => return Taken::Refused,
            };
            for notification in &settled.notifications {
                state.scheduler.insert_message(now, notification);
                state.keep(notification);
            }
            state.scheduler.release_and_claim(now, next, settled.stale)
        }))
    }

    async fn resolve(&self, call: Call) -> Result<Resolved, QueueError> {
        Ok(self.step(|state, _| state.scheduler.resolve(call)))
    }

    async fn begin(&self, worker: WorkerId, handles: &[Handle]) -> Result<Vec<Begun>, QueueError> {
        Ok(self.step(|state, now| state.scheduler.begin(now, worker, handles)))
    }

    async fn check(&self, worker: WorkerId, handle: &Handle) -> Result<bool, QueueError> {
        Ok(self.step(|state, now| state.scheduler.check(now, worker, handle)))
    }

    async fn expiring(&self, max: u16) -> Result<Expiring, QueueError> {
        Ok(self.step(|state, now| state.scheduler.expiring(now, max)))
    }

    async fn read(
        &self,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Result<Record, RecordError>>>, QueueError> {
        let state = self.lock();
        Ok(messages
            .iter()
            .map(|message| state.records.get(message).cloned().map(Ok))
            .collect())
    }

    async fn read_chunk(
        &self,
        message: MessageId,
        number: u32,
    ) -> Result<Option<Bytes>, QueueError> {
        self.step(|state, now| {
            let kept = state.scheduler.keeps_body(now, message);
            let body = state.bodies.get(&message).filter(|_| kept);
            Ok(body.and_then(|chunks| chunks.get(&number).cloned()))
        })
    }

    async fn set_limits(&self, limits: &Limits) -> Result<(), QueueError> {
        self.step(|state, now| state.scheduler.set_limits(now, limits));
        Ok(())
    }

    async fn act(&self, acts: &[Act]) -> Result<Vec<Acted>, QueueError> {
        Ok(self.step(|state, now| {
            let (acted, notices) = state.scheduler.act(now, acts);
            for notice in notices {
                state.scheduler.insert_message(now, notice);
                state.keep(notice);
            }
            acted
        }))
    }

    async fn suspend(&self, suspension: &Suspension) -> Result<(), QueueError> {
        self.step(|state, now| state.scheduler.suspend(now, suspension));
        Ok(())
    }

    async fn resume(&self, scope: &Scope) -> Result<bool, QueueError> {
        Ok(self.step(|state, now| state.scheduler.resume(now, scope)))
    }

    async fn suspensions(&self) -> Result<Vec<Suspension>, QueueError> {
        Ok(self.step(|state, now| state.scheduler.suspensions(now)))
    }

    async fn list(&self, list: &List) -> Result<Page, QueueError> {
        Ok(self.step(|state, now| state.scheduler.list(now, list)))
    }

    async fn look(&self, handles: &[Handle]) -> Result<Vec<Option<Seen>>, QueueError> {
        Ok(self.step(|state, now| state.scheduler.look(now, handles)))
    }

    async fn headers(
        &self,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Result<Header, RecordError>>>, QueueError> {
        let state = self.lock();
        let header = |message| {
            let record: Option<&Record> = state.records.get(message);
            record.map(|record| Ok(record.header.clone()))
        };
        Ok(messages.iter().map(header).collect())
    }

    async fn hasten(&self, route: &str, max: u16) -> Result<u16, QueueError> {
        Ok(self.step(|state, now| state.scheduler.hasten(now, route, max)))
    }

    async fn journal(
        &self,
        after: Option<JournalId>,
        max: u16,
    ) -> Result<Vec<Journaled>, QueueError> {
        let state = self.lock();
        let entries = state.journal.iter();
        let behind = entries.filter(|entry| after.is_none_or(|after| entry.id > after));
        Ok(behind.take(usize::from(max)).cloned().collect())
    }

    async fn counts(&self) -> Result<Counts, QueueError> {
        Ok(self.step(|state, now| state.scheduler.counts(now)))
    }

    async fn durability(&self) -> Result<Durability, QueueError> {
        // What it has confirmed is there as long as it is itself; tests ask for no more.
        Ok(Durability::Verified(Level::Fsync))
    }

    fn epoch(&self) -> u64 {
        0
    }

    fn fill(&self) -> Option<u8> {
        None
    }
}
