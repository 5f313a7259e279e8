//! The model queue behind a gate that can be shut in every way a store has, and that keeps a copy
//! of what went in.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use queue::durability::Durability;
use queue::id::{Call, Handle, JournalId, MessageId, Scope, WorkerId};
use queue::model::{ModelQueue, WallClock};
use queue::operation::{
    Aborted, Act, Acted, Beat, Begun, Counts, Expiring, Journaled, Limits, List, Next, NextReply,
    Page, Resolved, Seen, Suspension, Taken, Timing,
};
use queue::record::{Header, NewMessage, Record};
use queue::{Queue, QueueError, RecordError};
use tokio::sync::watch;

pub(crate) struct Gate {
    model: ModelQueue,
    state: watch::Sender<State>,
    /// Commits that have come to the gate, open or not.
    commits: watch::Sender<u32>,
    accepted: Mutex<Vec<NewMessage>>,
    staged: Mutex<Vec<MessageId>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Open,
    /// Commits are refused for lack of room.
    Full,
    /// There is little room left.
    NearlyFull,
    /// There is less room than there could be.
    Filling,
    /// Commits wait until this changes.
    Held,
    /// What a commit is worth is not what was declared.
    NotDurable,
    /// Nothing answers.
    Unreachable,
}

impl Gate {
    pub(crate) fn new(timing: &Timing, state: State) -> Self {
        Self {
            model: ModelQueue::new(timing, WallClock::system()),
            state: watch::Sender::new(state),
            commits: watch::Sender::new(0),
            accepted: Mutex::default(),
            staged: Mutex::default(),
        }
    }

    pub(crate) fn set(&self, state: State) {
        self.state.send_replace(state);
    }

    /// Waits until a commit stands before the gate.
    pub(crate) async fn commit_came(&self) {
        self.commits
            .subscribe()
            .wait_for(|commits| *commits > 0)
            .await
            .unwrap();
    }

    pub(crate) fn accepted(&self) -> MutexGuard<'_, Vec<NewMessage>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of each chunk that has come: its message.
    pub(crate) fn staged(&self) -> MutexGuard<'_, Vec<MessageId>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store loses what is not enqueued.
    pub(crate) async fn lose_chunks(&self) {
        let staged = self.staged().clone();
        for message in staged {
            self.model.unstage(message).await.unwrap();
        }
    }

    /// Messages that have chunks.
    pub(crate) fn bodies(&self) -> usize {
        self.model.remains().bodies
    }

    fn reach(&self) -> Result<(), QueueError> {
        match *self.state.borrow() {
            State::Unreachable => Err(QueueError::Unreachable("the gate is shut".to_owned())),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Queue for Gate {
    async fn register(&self, worker: WorkerId) -> Result<(), QueueError> {
        self.reach()?;
        self.model.register(worker).await
    }

    async fn beat(&self, worker: WorkerId) -> Result<Beat, QueueError> {
        self.reach()?;
        self.model.beat(worker).await
    }

    async fn stage(&self, message: MessageId, number: u32, chunk: Bytes) -> Result<(), QueueError> {
        self.staged().push(message);
        match *self.state.borrow() {
            State::Full => return Err(QueueError::Full("no room".to_owned())),
            _ => self.reach()?,
        }
        self.model.stage(message, number, chunk).await
    }

    async fn unstage(&self, message: MessageId) -> Result<(), QueueError> {
        self.reach()?;
        self.model.unstage(message).await
    }

    async fn enqueue(&self, call: Call, messages: &[NewMessage]) -> Result<Taken<()>, QueueError> {
        self.commits.send_modify(|commits| *commits += 1);
        let open = self
            .state
            .subscribe()
            .wait_for(|state| *state != State::Held)
            .await
            .map(|s| *s);
        match open {
            Ok(State::Full) => return Err(QueueError::Full("no room".to_owned())),
            Ok(State::NotDurable) => return Err(QueueError::NotDurable("no fsync".to_owned())),
            _ => self.reach()?,
        }
        let taken = self.model.enqueue(call, messages).await?;
        if taken == Taken::Ran(()) {
            self.accepted().extend_from_slice(messages);
        }
        Ok(taken)
    }

    async fn abort(
        &self,
        call: Call,
        message: MessageId,
        handles: &[Handle],
    ) -> Result<Aborted, QueueError> {
        self.reach()?;
        self.model.abort(call, message, handles).await
    }

    async fn next(&self, next: &Next) -> Result<Taken<NextReply>, QueueError> {
        self.reach()?;
        self.model.next(next).await
    }

    async fn resolve(&self, call: Call) -> Result<Resolved, QueueError> {
        self.reach()?;
        self.model.resolve(call).await
    }

    async fn begin(&self, worker: WorkerId, handles: &[Handle]) -> Result<Vec<Begun>, QueueError> {
        self.reach()?;
        self.model.begin(worker, handles).await
    }

    async fn check(&self, worker: WorkerId, handle: &Handle) -> Result<bool, QueueError> {
        self.reach()?;
        self.model.check(worker, handle).await
    }

    async fn expiring(&self, max: u16) -> Result<Expiring, QueueError> {
        self.reach()?;
        self.model.expiring(max).await
    }

    async fn read(
        &self,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Result<Record, RecordError>>>, QueueError> {
        self.reach()?;
        self.model.read(messages).await
    }

    async fn read_chunk(
        &self,
        message: MessageId,
        number: u32,
    ) -> Result<Option<Bytes>, QueueError> {
        self.reach()?;
        self.model.read_chunk(message, number).await
    }

    async fn set_limits(&self, limits: &Limits) -> Result<(), QueueError> {
        self.reach()?;
        self.model.set_limits(limits).await
    }

    async fn act(&self, acts: &[Act]) -> Result<Vec<Acted>, QueueError> {
        self.reach()?;
        self.model.act(acts).await
    }

    async fn suspend(&self, suspension: &Suspension) -> Result<(), QueueError> {
        self.reach()?;
        self.model.suspend(suspension).await
    }

    async fn resume(&self, scope: &Scope) -> Result<bool, QueueError> {
        self.reach()?;
        self.model.resume(scope).await
    }

    async fn suspensions(&self) -> Result<Vec<Suspension>, QueueError> {
        self.reach()?;
        self.model.suspensions().await
    }

    async fn list(&self, list: &List) -> Result<Page, QueueError> {
        self.reach()?;
        self.model.list(list).await
    }

    async fn look(&self, handles: &[Handle]) -> Result<Vec<Option<Seen>>, QueueError> {
        self.reach()?;
        self.model.look(handles).await
    }

    async fn headers(
        &self,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Result<Header, RecordError>>>, QueueError> {
        self.reach()?;
        self.model.headers(messages).await
    }

    async fn hasten(&self, route: &str, max: u16) -> Result<u16, QueueError> {
        self.reach()?;
        self.model.hasten(route, max).await
    }

    async fn journal(
        &self,
        after: Option<JournalId>,
        max: u16,
    ) -> Result<Vec<Journaled>, QueueError> {
        self.reach()?;
        self.model.journal(after, max).await
    }

    async fn counts(&self) -> Result<Counts, QueueError> {
        self.reach()?;
        self.model.counts().await
    }

    async fn durability(&self) -> Result<Durability, QueueError> {
        self.reach()?;
        if *self.state.borrow() == State::NotDurable {
            let remedy = "set appendonly yes".to_owned();
            return Ok(Durability::Unmet {
                reason: "AofOff",
                remedy,
            });
        }
        self.model.durability().await
    }

    fn epoch(&self) -> u64 {
        self.model.epoch()
    }

    fn fill(&self) -> Option<u8> {
        match *self.state.borrow() {
            State::NearlyFull => Some(86),
            State::Filling => Some(81),
            _ => None,
        }
    }
}
