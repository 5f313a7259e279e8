use async_trait::async_trait;
use bytes::Bytes;

use crate::durability::Durability;
use crate::id::{Call, Handle, JournalId, MessageId, Scope, WorkerId};
use crate::operation::{
    Aborted, Act, Acted, Beat, Begun, Counts, Expiring, Journaled, Limits, List, Next, NextReply,
    Page, Resolved, Seen, Suspension, Taken,
};
use crate::record::{Header, NewMessage, Record};

/// A delivery queue. Every method is one step of the back end: all of it happens or none.
///
/// An `Err` means the outcome is unknown or nothing happened, as the error says; the
/// [`Worker`](crate::worker) knows for each operation how to go on.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Makes `worker` a member. Fails with [`QueueError::Conflict`] when the id is known already.
    async fn register(&self, worker: WorkerId) -> Result<(), QueueError>;

    /// Renews the lease of `worker`, takes back what reaped workers and overdue claims held.
    async fn beat(&self, worker: WorkerId) -> Result<Beat, QueueError>;

    /// Puts a chunk, from 0, of the content of `message` aside, which is enqueued once all of them
    /// are there. Each is kept for [`STAGED_FOR`](crate::operation::STAGED_FOR) after the last one.
    ///
    /// Not to be repeated after an unknown outcome, and not for a message that has been enqueued: what
    /// then ran late would limit the life of a body that is in use.
    async fn stage(&self, message: MessageId, number: u32, chunk: Bytes) -> Result<(), QueueError>;

    /// Drops the chunks of a message that is not enqueued, and will not be. One that is keeps them.
    async fn unstage(&self, message: MessageId) -> Result<(), QueueError>;

    /// Commits all messages or none. `Ran(())` only after the write is confirmed at the declared
    /// durability. Submitted at most once per message id, unless the reply says it did not run.
    /// [`QueueError::Incomplete`] when a chunk of one is missing.
    async fn enqueue(&self, call: Call, messages: &[NewMessage]) -> Result<Taken<()>, QueueError>;

    /// Takes an enqueued message back, and bars the enqueue `call` that may still be on its way.
    async fn abort(
        &self,
        call: Call,
        message: MessageId,
        handles: &[Handle],
    ) -> Result<Aborted, QueueError>;

    async fn next(&self, next: &Next) -> Result<Taken<NextReply>, QueueError>;

    /// After a lost reply to [`Queue::next`]: its reply if it ran, else it is barred for ever.
    async fn resolve(&self, call: Call) -> Result<Resolved, QueueError>;

    /// Marks claimed tasks begun and raises their deadlines; one answer for each handle, in order.
    async fn begin(&self, worker: WorkerId, handles: &[Handle]) -> Result<Vec<Begun>, QueueError>;

    /// The scripted dot check: the lease stands and the handle is in the worker's claim set.
    async fn check(&self, worker: WorkerId, handle: &Handle) -> Result<bool, QueueError>;

    /// Messages whose lifetime has run out, at most `max`, put off by 30 s for other callers.
    async fn expiring(&self, max: u16) -> Result<Expiring, QueueError>;

    /// Reads records; `None` where there is none (any more).
    async fn read(
        &self,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Result<Record, RecordError>>>, QueueError>;

    /// Reads one chunk of a message's content; `None` where there is none. To be asked by way of
    /// [`Body::chunk`](crate::record::Body::chunk), which knows what it must be.
    async fn read_chunk(
        &self,
        message: MessageId,
        number: u32,
    ) -> Result<Option<Bytes>, QueueError>;

    /// Writes limits unless a newer generation is there; wakes what a raised limit lets go.
    async fn set_limits(&self, limits: &Limits) -> Result<(), QueueError>;

    /// Does what an administrator wants, act by act in one step, at most 500; what became of each, in
    /// order. Repeated, it changes nothing more.
    async fn act(&self, acts: &[Act]) -> Result<Vec<Acted>, QueueError>;

    /// Suspends some queues, or changes the suspension there is of just these.
    async fn suspend(&self, suspension: &Suspension) -> Result<(), QueueError>;

    /// Ends a suspension; whether there was one. What it kept back goes on at once.
    async fn resume(&self, scope: &Scope) -> Result<bool, QueueError>;

    /// Those in force, in the order of their scopes.
    async fn suspensions(&self) -> Result<Vec<Suspension>, QueueError>;

    /// Some of the tasks there are; reads only.
    async fn list(&self, list: &List) -> Result<Page, QueueError>;

    /// These tasks where they are, at most 500, in order; `None` for one that is not there.
    async fn look(&self, handles: &[Handle]) -> Result<Vec<Option<Seen>>, QueueError>;

    /// Reads headers of records, without their contents; `None` where there is none (any more).
    async fn headers(
        &self,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Result<Header, RecordError>>>, QueueError>;

    /// Makes up to `max` tasks of `route`, at most 1000, due that wait for a later attempt; how many.
    async fn hasten(&self, route: &str, max: u16) -> Result<u16, QueueError>;

    /// Up to `max` entries of the journal behind `after`, the oldest first. The journal keeps as many as
    /// the back end was told to; none unless it was told.
    async fn journal(
        &self,
        after: Option<JournalId>,
        max: u16,
    ) -> Result<Vec<Journaled>, QueueError>;

    async fn counts(&self) -> Result<Counts, QueueError>;

    /// Asks the back end what its confirmation is worth.
    async fn durability(&self) -> Result<Durability, QueueError>;

    /// Grows whenever what the store said before may not hold any more: another server may have taken
    /// the place of the one that said it. What was claimed before is then asked for again before it
    /// is relied on.
    fn epoch(&self) -> u64;

    /// How full the store was when it was last asked for its durability, in percent; `None` where it
    /// has no bound of its own.
    fn fill(&self) -> Option<u8>;
}

/// Why an operation gave no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// Nothing was written: the store is full.
    #[error("the queue's store is full: {0}")]
    Full(String),
    /// Nothing was written: the declared durability is not met.
    #[error("the queue's store is not durable as declared: {0}")]
    NotDurable(String),
    /// Nothing was written: chunks of this message are not there, or not all of them.
    #[error("chunks of the body of {0} are missing")]
    Incomplete(MessageId),
    /// Nothing was written: no connection could be had.
    #[error("the queue's store cannot be reached: {0}")]
    Unreachable(String),
    /// It may or may not have happened.
    #[error("the queue's store did not answer: {0}")]
    Ambiguous(String),
    /// The call contradicts what is there (an id that is known already, an owner that is another).
    #[error("{0}")]
    Conflict(String),
    /// The store answered what no version of this protocol answers.
    #[error("the queue's store answered unexpectedly: {0}")]
    Protocol(String),
}

/// Why a stored record cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    #[error("record version {0} is newer than this program reads")]
    Version(u8),
    #[error("record is cut short or over its bounds: {0}")]
    Length(&'static str),
    #[error("record header is malformed: {0}")]
    Header(String),
}
