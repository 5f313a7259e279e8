//! The queue in one file, for one process.
//!
//! The procedure:
//! 1. [`EmbeddedQueue::open`] takes the file for itself and reads every record's header; the
//!    [`Scheduler`] knows all tasks from then on, the file keeps the contents.
//! 2. Most operations are a step of the scheduler behind a lock and nothing else.
//! 3. What must survive goes to one committer thread, which takes whatever waits and writes it with
//!    one sync: messages, which nobody can claim before, and settlements. A call that deferred a
//!    task, marked some of its recipients or enqueued a notification is answered after that; ends of
//!    tasks are written with the next batch, or some milliseconds later, without being waited for.
//! 4. Chunks of a body are written beside that, without a sync: the one of the commit that enqueues
//!    their message makes them last. What is there at the start without a message is dropped.
//!
//! Invariants:
//! * `Ran` of an enqueue means synced. Nobody sees a message that is not.
//! * The file and the scheduler hear of changes in the same order.
//! * A failed write loses nothing: the file is opened again and everything not yet written is
//!   written again; messages of that batch are answered with an error and taken out. Chunks that no
//!   sync has followed are lost with it, and so are messages that have some: they are refused.
//!
//! A crash gives all claims back, since this process was the only one that could hold them. That a
//! task was begun is not kept, for two reasons: the mark makes later dot checks ask because an
//! earlier owner may still be alive with an octet to send, and after a crash none is; and a sync
//! before each transaction would cost more than all others together. So a delivery whose reply had
//! not come, or whose settlement was not yet written, may happen twice.
//!
//! What it does not do: share the file, compress it, keep limits (they are configuration).

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;

use crate::durability::{Durability, Level};
use crate::id::{Call, Handle, JournalId, MessageId, Scope, WorkerId};
use crate::model::{Remains, Scheduler, WallClock};
use crate::operation::{
    Aborted, Act, Acted, Beat, Begun, Counts, Expiring, Journaled, Limits, List, Next, NextReply,
    Page, Resolved, Seen, Suspension, Taken, Timing,
};
use crate::queue::{Queue, QueueError, RecordError};
use crate::record::{Header, NewMessage, Record};

mod committer;
mod file;
mod job;
mod row;
mod state;
#[cfg(test)]
mod tests;

use committer::Committer;
use file::File;
use job::{Incoming, Job};

/// A queue file, open.
#[derive(Debug)]
pub struct EmbeddedQueue {
    committer: Committer,
}

/// Why a queue file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    #[error("the queue file {} is in use by another process", .0.display())]
    InUse(PathBuf),
    #[error("the queue file {} has schema {found}, which is newer than this program reads", .path.display())]
    Schema { path: PathBuf, found: u64 },
    #[error("the queue file {} cannot be opened", .path.display())]
    Store {
        path: PathBuf,
        source: Box<redb::Error>,
    },
    #[error("no thread can be started to write the queue file")]
    Thread(#[source] std::io::Error),
}

impl EmbeddedQueue {
    /// Opens the file, or makes it. Reads all headers in it, so it blocks for as long as that takes.
    ///
    /// # Errors
    /// [`OpenError::InUse`] while another process has it, [`OpenError::Schema`] when a newer
    /// program wrote it, [`OpenError::Store`] when the file or its volume is at fault.
    pub fn open(path: &Path, timing: &Timing) -> Result<Self, OpenError> {
        Self::open_with(path, timing, WallClock::system())
    }

    /// As [`open`](Self::open), with the queue's clock.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(path: &Path, timing: &Timing, clock: WallClock) -> Result<Self, OpenError> {
        Self::start(File::open(path)?, timing, clock)
    }

    fn start(file: File, timing: &Timing, clock: WallClock) -> Result<Self, OpenError> {
        let mut scheduler = Scheduler::new(timing);
        file.restore(&mut scheduler, clock.now())?;
        let committer = Committer::start(file, scheduler, clock).map_err(OpenError::Thread)?;
        Ok(Self { committer })
    }

    /// The journal keeps its last `entries`.
    pub fn keep_journal(&self, entries: u32) {
        self.committer.reader().keep_journal(entries);
    }

    /// What is left in it and in its file, once everything that waits is written.
    ///
    /// # Errors
    /// When the file cannot be written or read.
    pub async fn remains(&self) -> Result<Remains, QueueError> {
        self.committer.run(|reply| Job::Flush { reply }).await?;
        let unreachable = |error: Box<redb::Error>| QueueError::Unreachable(error.to_string());
        let reader = self.committer.reader();
        let rows = reader.rows().map_err(unreachable)?;
        let bodies = reader.bodies().map_err(unreachable)?;
        let bodies = self.step(|scheduler, now| {
            let kept = |message: &&MessageId| scheduler.keeps_body(now, **message);
            bodies.iter().filter(kept).count()
        });
        Ok(Remains {
            rows,
            bodies,
            ..self.step(|scheduler, _| scheduler.remains())
        })
    }

    /// One step of the scheduler. Its changes are written later.
    fn step<T>(&self, step: impl FnOnce(&mut Scheduler, u64) -> T) -> T {
        self.committer.step(step)
    }
}

#[async_trait]
impl Queue for EmbeddedQueue {
    async fn register(&self, worker: WorkerId) -> Result<(), QueueError> {
        if self.step(|scheduler, now| scheduler.register(now, worker)) {
            return Ok(());
        }
        Err(QueueError::Conflict(format!(
            "worker {worker} is known already"
        )))
    }

    async fn beat(&self, worker: WorkerId) -> Result<Beat, QueueError> {
        Ok(self.step(|scheduler, now| scheduler.beat(now, worker)))
    }

    async fn stage(&self, message: MessageId, number: u32, chunk: Bytes) -> Result<(), QueueError> {
        self.committer.stage(message, number, chunk).await
    }

    async fn unstage(&self, message: MessageId) -> Result<(), QueueError> {
        self.step(|scheduler, _| scheduler.unstage(message));
        Ok(())
    }

    async fn enqueue(&self, call: Call, messages: &[NewMessage]) -> Result<Taken<()>, QueueError> {
        let incoming = messages
            .iter()
            .map(Incoming::new)
            .collect::<Result<Vec<_>, _>>()?;
        self.committer.enqueue(call, incoming).await
    }

    async fn abort(
        &self,
        call: Call,
        message: MessageId,
        handles: &[Handle],
    ) -> Result<Aborted, QueueError> {
        let handles = handles.to_vec();
        self.committer
            .run(|reply| Job::Abort {
                call,
                message,
                handles,
                reply,
            })
            .await
    }

    async fn next(&self, next: &Next) -> Result<Taken<NextReply>, QueueError> {
        self.committer.next(next).await
    }

    async fn resolve(&self, call: Call) -> Result<Resolved, QueueError> {
        self.committer
            .run(|reply| Job::Resolve { call, reply })
            .await
    }

    async fn begin(&self, worker: WorkerId, handles: &[Handle]) -> Result<Vec<Begun>, QueueError> {
        Ok(self.step(|scheduler, now| scheduler.begin(now, worker, handles)))
    }

    async fn check(&self, worker: WorkerId, handle: &Handle) -> Result<bool, QueueError> {
        Ok(self.step(|scheduler, now| scheduler.check(now, worker, handle)))
    }

    async fn expiring(&self, max: u16) -> Result<Expiring, QueueError> {
        Ok(self.step(|scheduler, now| scheduler.expiring(now, max)))
    }

    async fn read(
        &self,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Result<Record, RecordError>>>, QueueError> {
        let reader = self.committer.reader();
        let messages = messages.to_vec();
        tokio::task::spawn_blocking(move || reader.read(&messages))
            .await
            .map_err(|error| QueueError::Unreachable(error.to_string()))?
            .map_err(|error| QueueError::Unreachable(error.to_string()))
    }

    async fn read_chunk(
        &self,
        message: MessageId,
        number: u32,
    ) -> Result<Option<Bytes>, QueueError> {
        let reader = self.committer.reader();
        tokio::task::spawn_blocking(move || reader.read_chunk(message, number))
            .await
            .map_err(|error| QueueError::Unreachable(error.to_string()))?
            .map_err(|error| QueueError::Unreachable(error.to_string()))
    }

    async fn set_limits(&self, limits: &Limits) -> Result<(), QueueError> {
        self.step(|scheduler, now| scheduler.set_limits(now, limits));
        Ok(())
    }

    async fn act(&self, acts: &[Act]) -> Result<Vec<Acted>, QueueError> {
        self.committer.act(acts).await
    }

    async fn suspend(&self, suspension: &Suspension) -> Result<(), QueueError> {
        self.step(|scheduler, now| scheduler.suspend(now, suspension));
        self.committer.run(|reply| Job::Flush { reply }).await
    }

    async fn resume(&self, scope: &Scope) -> Result<bool, QueueError> {
        let was_suspended = self.step(|scheduler, now| scheduler.resume(now, scope));
        self.committer.run(|reply| Job::Flush { reply }).await?;
        Ok(was_suspended)
    }

    async fn suspensions(&self) -> Result<Vec<Suspension>, QueueError> {
        Ok(self.step(|scheduler, now| scheduler.suspensions(now)))
    }

    async fn list(&self, list: &List) -> Result<Page, QueueError> {
        Ok(self.step(|scheduler, now| scheduler.list(now, list)))
    }

    async fn look(&self, handles: &[Handle]) -> Result<Vec<Option<Seen>>, QueueError> {
        Ok(self.step(|scheduler, now| scheduler.look(now, handles)))
    }

    async fn headers(
        &self,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Result<Header, RecordError>>>, QueueError> {
        let reader = self.committer.reader();
        let messages = messages.to_vec();
        tokio::task::spawn_blocking(move || reader.headers(&messages))
            .await
            .map_err(|error| QueueError::Unreachable(error.to_string()))?
            .map_err(|error| QueueError::Unreachable(error.to_string()))
    }

    async fn hasten(&self, route: &str, max: u16) -> Result<u16, QueueError> {
        Ok(self.step(|scheduler, now| scheduler.hasten(now, route, max)))
    }

    async fn journal(
        &self,
        after: Option<JournalId>,
        max: u16,
    ) -> Result<Vec<Journaled>, QueueError> {
        self.committer.run(|reply| Job::Flush { reply }).await?;
        let reader = self.committer.reader();
        tokio::task::spawn_blocking(move || reader.read_journal(after, usize::from(max)))
            .await
            .map_err(|error| QueueError::Unreachable(error.to_string()))?
            .map_err(|error| QueueError::Unreachable(error.to_string()))
    }

    async fn counts(&self) -> Result<Counts, QueueError> {
        Ok(self.step(|scheduler, now| scheduler.counts(now)))
    }

    async fn durability(&self) -> Result<Durability, QueueError> {
        Ok(match self.committer.failure() {
            None => Durability::Verified(Level::Fsync),
            Some(error) => Durability::Unmet {
                reason: "WriteFailed",
                remedy: format!("make room for the queue file, or repair its volume: {error}"),
            },
        })
    }

    fn epoch(&self) -> u64 {
        0
    }

    fn fill(&self) -> Option<u8> {
        None
    }
}
