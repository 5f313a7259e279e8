//! A queue between the worker and the model whose calls can be made to fail in every way a
//! network has: the request lost, the reply lost, the request delayed beyond its error.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use queue::durability::Durability;
use queue::id::{Call, Handle, JournalId, MessageId, Scope, TaskId, WorkerId};
use queue::model::ModelQueue;
use queue::operation::{
    Aborted, Act, Acted, Beat, Begun, Counts, Expiring, Journaled, Limits, List, Next, NextReply,
    Page, Resolved, Seen, Suspension, Taken,
};
use queue::record::{Header, NewMessage, Record};
use queue::{Queue, QueueError, RecordError};
use tokio::sync::Notify;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Abort,
    Beat,
    Begin,
    Check,
    Enqueue,
    Next,
    Read,
    Register,
    Resolve,
    Stage,
    Unstage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Nothing was sent, and that is known.
    Unreachable,
    /// It never arrives, and nobody knows.
    RequestLost,
    /// It runs, and nobody hears of it.
    ReplyLost,
    /// Nobody hears of it, and it runs later, at [`Faulty::run_late`].
    Late,
    /// It waits for [`Faulty::let_go`], then runs.
    Held,
}

pub(crate) struct Faulty {
    model: Arc<ModelQueue>,
    faults: Mutex<VecDeque<(Operation, Fault)>>,
    standing: Mutex<Vec<(Operation, Fault)>>,
    late: Mutex<Vec<Late>>,
    /// Tasks whose settlements the queue cannot make sense of.
    spoilt: Mutex<Vec<TaskId>>,
    /// Messages whose records a newer program has written.
    newer: Mutex<Vec<MessageId>>,
    /// Chunks cannot be found.
    hides_chunks: AtomicBool,
    go: Notify,
    /// Percent of calls that go wrong at random, and the state of the randomness.
    chaos: Mutex<(u32, u64)>,
    counts: [AtomicU64; 11],
    epoch: AtomicU64,
}

enum Late {
    Enqueue(Call, Vec<NewMessage>),
    Next(Box<Next>),
    Begin(WorkerId, Vec<Handle>),
    Abort(Call, MessageId, Vec<Handle>),
}

impl Faulty {
    pub(crate) fn new(model: Arc<ModelQueue>) -> Self {
        Self {
            model,
            faults: Mutex::default(),
            standing: Mutex::default(),
            late: Mutex::default(),
            spoilt: Mutex::default(),
            newer: Mutex::default(),
            hides_chunks: AtomicBool::new(false),
            go: Notify::new(),
            chaos: Mutex::new((0, 1)),
            counts: Default::default(),
            epoch: AtomicU64::new(0),
        }
    }

    /// The queue without faults, for others than the one that has them.
    pub(crate) fn model(&self) -> Arc<ModelQueue> {
        Arc::clone(&self.model)
    }

    /// The next call of `operation` goes wrong.
    pub(crate) fn inject(&self, operation: Operation, fault: Fault) {
        self.faults.lock().unwrap().push_back((operation, fault));
    }

    /// Every call of `operation` goes wrong, until [`Faulty::heal`].
    pub(crate) fn always(&self, operation: Operation, fault: Fault) {
        self.standing.lock().unwrap().push((operation, fault));
    }

    /// Whatever settles `task` fails for good.
    pub(crate) fn spoil(&self, task: TaskId) {
        self.spoilt.lock().unwrap().push(task);
    }

    /// The record of `message` is of a version that nobody here reads.
    #[allow(dead_code, reason = "the tests of delivery use it")]
    pub(crate) fn renew(&self, message: MessageId) {
        self.newer.lock().unwrap().push(message);
    }

    /// From now on another store may answer.
    pub(crate) fn change_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn heal(&self) {
        self.standing.lock().unwrap().clear();
        self.faults.lock().unwrap().clear();
        self.chaos.lock().unwrap().0 = 0;
        self.go.notify_waiters();
    }

    /// From now on `percent` of all calls go wrong.
    pub(crate) fn chaos(&self, percent: u32, seed: u64) {
        *self.chaos.lock().unwrap() = (percent, seed.max(1));
    }

    /// Whether all chunks but the first of each body are missing.
    pub(crate) fn hide_chunks(&self, hides: bool) {
        self.hides_chunks.store(hides, Ordering::Relaxed);
    }

    pub(crate) fn let_go(&self) {
        self.go.notify_waiters();
    }

    /// Injected faults that no call has met yet.
    pub(crate) fn pending_faults(&self) -> usize {
        self.faults.lock().unwrap().len()
    }

    /// Executes what was delayed.
    pub(crate) async fn run_late(&self) {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        for late in late {
            match late {
                Late::Enqueue(call, messages) => drop(self.model.enqueue(call, &messages).await),
                Late::Next(next) => drop(self.model.next(&next).await),
                Late::Begin(worker, handles) => drop(self.model.begin(worker, &handles).await),
                Late::Abort(call, message, handles) => {
                    drop(self.model.abort(call, message, &handles).await);
                }
            }
        }
    }

    /// How often `operation` has been called.
    pub(crate) fn calls(&self, operation: Operation) -> u64 {
        self.counts[operation as usize].load(Ordering::Relaxed)
    }

    fn fault(&self, operation: Operation) -> Option<Fault> {
        self.counts[operation as usize].fetch_add(1, Ordering::Relaxed);
        let mut faults = self.faults.lock().unwrap();
        if let Some(at) = faults.iter().position(|(of, _)| *of == operation) {
            return faults.remove(at).map(|(_, fault)| fault);
        }
        let standing = self.standing.lock().unwrap();
        if let Some((_, fault)) = standing.iter().find(|(of, _)| *of == operation) {
            return Some(*fault);
        }
        let (percent, state) = &mut *self.chaos.lock().unwrap();
        // xorshift64
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        let fault = [
            Fault::Unreachable,
            Fault::RequestLost,
            Fault::ReplyLost,
            Fault::Late,
        ];
        let chosen = fault[(*state >> 40) as usize % fault.len()];
        ((*state >> 20) % 100 < u64::from(*percent)).then_some(chosen)
    }

    /// Runs `call` as the next fault of `operation` has it; `late` is kept where it comes late.
    async fn run<T>(
        &self,
        operation: Operation,
        late: impl FnOnce() -> Option<Late>,
        call: impl Future<Output = Result<T, QueueError>>,
    ) -> Result<T, QueueError> {
        let lost = || {
            Err(QueueError::Ambiguous(format!(
                "{operation:?} was not answered"
            )))
        };
        match self.fault(operation) {
            None => call.await,
            Some(Fault::Unreachable) => Err(QueueError::Unreachable("no connection".to_owned())),
            Some(Fault::RequestLost) => lost(),
            Some(Fault::ReplyLost) => {
                call.await?;
                lost()
            }
            Some(Fault::Late) => {
                if let Some(late) = late() {
                    self.late.lock().unwrap().push(late);
                }
                lost()
            }
            Some(Fault::Held) => {
                self.go.notified().await;
                call.await
            }
        }
    }
}

#[async_trait]
impl Queue for Faulty {
    async fn register(&self, worker: WorkerId) -> Result<(), QueueError> {
        self.run(Operation::Register, || None, self.model.register(worker))
            .await
    }

    async fn beat(&self, worker: WorkerId) -> Result<Beat, QueueError> {
        self.run(Operation::Beat, || None, self.model.beat(worker))
            .await
    }

    async fn stage(&self, message: MessageId, number: u32, chunk: Bytes) -> Result<(), QueueError> {
        let stage = self.model.stage(message, number, chunk);
        self.run(Operation::Stage, || None, stage).await
    }

    async fn unstage(&self, message: MessageId) -> Result<(), QueueError> {
        let unstage = self.model.unstage(message);
        self.run(Operation::Unstage, || None, unstage).await
    }

    async fn enqueue(&self, call: Call, messages: &[NewMessage]) -> Result<Taken<()>, QueueError> {
        let late = || Some(Late::Enqueue(call, messages.to_vec()));
        self.run(Operation::Enqueue, late, self.model.enqueue(call, messages))
            .await
    }

    async fn abort(
        &self,
        call: Call,
        message: MessageId,
        handles: &[Handle],
    ) -> Result<Aborted, QueueError> {
        let late = || Some(Late::Abort(call, message, handles.to_vec()));
        self.run(
            Operation::Abort,
            late,
            self.model.abort(call, message, handles),
        )
        .await
    }

    async fn next(&self, next: &Next) -> Result<Taken<NextReply>, QueueError> {
        let spoilt = self.spoilt.lock().unwrap().clone();
        let settles = |task| next.settlements.iter().any(|s| s.handle.task == task);
        if spoilt.into_iter().any(settles) {
            self.counts[Operation::Next as usize].fetch_add(1, Ordering::Relaxed);
            return Err(QueueError::Protocol("WRONGTYPE".to_owned()));
        }
        let late = || Some(Late::Next(Box::new(next.clone())));
        self.run(Operation::Next, late, self.model.next(next)).await
    }

    async fn resolve(&self, call: Call) -> Result<Resolved, QueueError> {
        self.run(Operation::Resolve, || None, self.model.resolve(call))
            .await
    }

    async fn begin(&self, worker: WorkerId, handles: &[Handle]) -> Result<Vec<Begun>, QueueError> {
        let late = || Some(Late::Begin(worker, handles.to_vec()));
        self.run(Operation::Begin, late, self.model.begin(worker, handles))
            .await
    }

    async fn check(&self, worker: WorkerId, handle: &Handle) -> Result<bool, QueueError> {
        self.run(Operation::Check, || None, self.model.check(worker, handle))
            .await
    }

    async fn expiring(&self, max: u16) -> Result<Expiring, QueueError> {
        self.model.expiring(max).await
    }

    async fn read(
        &self,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Result<Record, RecordError>>>, QueueError> {
        let read = self.run(Operation::Read, || None, self.model.read(messages));
        let mut records = read.await?;
        let newer = self.newer.lock().unwrap();
        for (_, record) in messages
            .iter()
            .zip(&mut records)
            .filter(|(message, _)| newer.contains(message))
        {
            *record = Some(Err(RecordError::Version(9)));
        }
        Ok(records)
    }

    async fn read_chunk(
        &self,
        message: MessageId,
        number: u32,
    ) -> Result<Option<Bytes>, QueueError> {
        if number > 0 && self.hides_chunks.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let read = self.model.read_chunk(message, number);
        self.run(Operation::Read, || None, read).await
    }

    async fn set_limits(&self, limits: &Limits) -> Result<(), QueueError> {
        self.model.set_limits(limits).await
    }

    async fn act(&self, acts: &[Act]) -> Result<Vec<Acted>, QueueError> {
        self.model.act(acts).await
    }

    async fn suspend(&self, suspension: &Suspension) -> Result<(), QueueError> {
        self.model.suspend(suspension).await
    }

    async fn resume(&self, scope: &Scope) -> Result<bool, QueueError> {
        self.model.resume(scope).await
    }

    async fn suspensions(&self) -> Result<Vec<Suspension>, QueueError> {
        self.model.suspensions().await
    }

    async fn list(&self, list: &List) -> Result<Page, QueueError> {
        self.model.list(list).await
    }

    async fn look(&self, handles: &[Handle]) -> Result<Vec<Option<Seen>>, QueueError> {
        self.model.look(handles).await
    }

    async fn headers(
        &self,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Result<Header, RecordError>>>, QueueError> {
        self.model.headers(messages).await
    }

    async fn hasten(&self, route: &str, max: u16) -> Result<u16, QueueError> {
        self.model.hasten(route, max).await
    }

    async fn journal(
        &self,
        after: Option<JournalId>,
        max: u16,
    ) -> Result<Vec<Journaled>, QueueError> {
        self.model.journal(after, max).await
    }

    async fn counts(&self) -> Result<Counts, QueueError> {
        self.model.counts().await
    }

    async fn durability(&self) -> Result<Durability, QueueError> {
        self.model.durability().await
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    fn fill(&self) -> Option<u8> {
        self.model.fill()
    }
}
