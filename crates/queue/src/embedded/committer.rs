//! One thread that writes: it takes whatever waits, writes it with one sync and answers.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::file::File;
use super::job::{Incoming, Job, Reply};
use super::state::{Batch, Failure, Half, State};
use crate::id::{Call, MessageId};
use crate::model::{Scheduler, WallClock};
use crate::operation::{Act, Acted, Action, Next, NextReply, Taken};
use crate::queue::QueueError;

#[derive(Debug)]
pub(super) struct Committer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    file: Arc<File>,
    clock: WallClock,
    state: Mutex<State>,
    work: Condvar,
}

impl Committer {
    /// # Errors
    /// When the system has no room for another thread.
    pub(super) fn start(
        file: File,
        scheduler: Scheduler,
        clock: WallClock,
    ) -> Result<Self, std::io::Error> {
        let shared = Arc::new(Shared {
            file: Arc::new(file),
            clock,
            state: Mutex::new(State::new(scheduler)),
            work: Condvar::new(),
        });
        let thread = std::thread::Builder::new()
            .name("queue-commit".to_owned())
            .spawn({
                let shared = shared.clone();
                move || shared.run()
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Runs one step of the scheduler. Changes of it are written soon, but not waited for.
    pub(super) fn step<T>(&self, step: impl FnOnce(&mut Scheduler, u64) -> T) -> T {
        let mut state = self.shared.lock();
        let idle = state.waiting_since.is_none();
        let reply = state.step(|scheduler| step(scheduler, self.shared.clock.now()));
        if idle && state.waiting_since.is_some() {
            self.shared.work.notify_one();
        }
        reply
    }

    pub(super) async fn next(&self, next: &Next) -> Result<Taken<NextReply>, QueueError> {
        // Before anything has happened, since it can fail.
        let notifications = next
            .settlements
            .iter()
            .filter_map(|one| one.notification.as_ref());
        let encoded = notifications
            .map(Incoming::new)
            .collect::<Result<Vec<_>, _>>()?;
        let half = {
            let mut state = self.shared.lock();
            if let Some(closed) = state.closed() {
                return Err(closed);
            }
            let half = state.next(self.shared.clock.now(), next, encoded);
            if !state.jobs.is_empty() || state.waiting_since.is_some() {
                self.shared.work.notify_one();
            }
            half
        };
        match half {
            Half::Whole(taken) => Ok(taken),
            Half::Waits(answer) => wait(answer).await,
        }
    }

    /// Writes a chunk here and now, without a sync.
    pub(super) async fn stage(
        &self,
        message: MessageId,
        number: u32,
        chunk: Bytes,
    ) -> Result<(), QueueError> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || shared.stage(message, number, &chunk))
            .await
            .map_err(|error| QueueError::Unreachable(error.to_string()))?
    }

    /// Admits and hands the thread the messages in one step: a file that fails after that takes those
    /// with chunks out.
    pub(super) async fn enqueue(
        &self,
        call: Call,
        messages: Vec<Incoming>,
    ) -> Result<Taken<()>, QueueError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            if let Some(closed) = state.closed() {
                return Err(closed);
            }
            let now = self.shared.clock.now();
            let chunks = messages.iter().map(|message| (message.id, message.chunks));
            let taken = state.step(|scheduler| scheduler.admit_enqueue(now, call, chunks))?;
            if taken != Taken::Ran(()) {
                return Ok(taken);
            }
            state.jobs.push_back(Job::Enqueue { messages, reply });
            self.shared.work.notify_one();
        }
        wait(answer).await.map(Taken::Ran)
    }

    pub(super) async fn act(&self, acts: &[Act]) -> Result<Vec<Acted>, QueueError> {
        let notices = acts.iter().filter_map(|act| match &act.action {
            Action::Drop { notice } => notice.as_ref(),
            _ => None,
        });
        let encoded = notices
            .map(|notice| Incoming::new(&notice.message))
            .collect::<Result<Vec<_>, _>>()?;
        let answer = {
            let mut state = self.shared.lock();
            if let Some(closed) = state.closed() {
                return Err(closed);
            }
            let answer = state.act(self.shared.clock.now(), acts, encoded);
            self.shared.work.notify_one();
            answer
        };
        wait(answer).await
    }

    /// Hands the thread a job and waits for its reply.
    pub(super) async fn run<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            if let Some(closed) = state.closed() {
                return Err(closed);
            }
            state.jobs.push_back(job(reply));
            self.shared.work.notify_one();
        }
        wait(answer).await
    }

    pub(super) fn reader(&self) -> Arc<File> {
        self.shared.file.clone()
    }

    /// The last write failed, and this is why.
    pub(super) fn failure(&self) -> Option<String> {
        let failure = self.shared.lock().failure.clone();
        failure.map(|failure| failure.text)
    }

    /// As if it had panicked.
    #[cfg(test)]
    pub(super) fn end_thread(&self) {
        drop(Ended(&self.shared));
    }

    /// A batch is being written.
    #[cfg(test)]
    pub(super) fn is_writing(&self) -> bool {
        self.shared.lock().writing
    }

    /// Jobs behind the batch that is being written.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.shared.lock().jobs.len()
    }
}

/// Writes what waits, unless the file refuses.
impl Drop for Committer {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported there.
            let _ = thread.join();
        }
    }
}

async fn wait<T>(answer: oneshot::Receiver<Result<T, QueueError>>) -> Result<T, QueueError> {
    let gone = |_| QueueError::Ambiguous("the queue file was closed meanwhile".to_owned());
    answer.await.map_err(gone)?
}

impl Shared {
    fn run(&self) {
        let _ended = Ended(self);
        while let Some(batch) = self.take() {
            if let Err((batch, error)) = self.write(batch) {
                tracing::error!(%error, "the queue file cannot be written");
                let stopping = {
                    let mut state = self.lock();
                    state.fail(batch, &error);
                    state.stopping
                };
                if stopping || !self.reopen() {
                    return;
                }
            }
        }
    }

    fn stage(&self, message: MessageId, number: u32, chunk: &[u8]) -> Result<(), QueueError> {
        {
            let mut state = self.lock();
            if let Some(closed) = state.closed() {
                return Err(closed);
            }
            state.step(|scheduler| scheduler.stage(self.clock.now(), message));
        }
        // Asked and told while the file cannot be opened anew, nor written by anybody else: chunks are
        // never there without being known, nor known without being there.
        let is_wanted = || self.lock().step(|scheduler| scheduler.is_staged(message));
        let note = || {
            self.lock()
                .step(|scheduler| scheduler.staged(message, number))
        };
        match self
            .file
            .write_chunk(message, number, chunk, is_wanted, note)
        {
            Ok(true) => Ok(()),
            Ok(false) => Err(QueueError::Incomplete(message)),
            Err(error) => {
                // What this leaves to be written meets the failure as well, and has the file opened
                // again.
                self.lock().step(|scheduler| scheduler.unstage(message));
                self.work.notify_one();
                Err(Failure::of(&error).full_or(QueueError::Unreachable))
            }
        }
    }

    fn write(&self, batch: Batch) -> Result<(), (Batch, Box<redb::Error>)> {
        if batch.has_writes()
            && let Err(error) = self.file.write(batch.now, &batch.log, batch.messages())
        {
            return Err((batch, error));
        }
        let answers = self.lock().finish(batch);
        answers.into_iter().for_each(|answer| answer());
        Ok(())
    }

    /// Waits for work. `None` when there is none and there will be none.
    fn take(&self) -> Option<Batch> {
        let mut state = self.lock();
        loop {
            if !state.jobs.is_empty() {
                return Some(state.take_batch(self.clock.now()));
            }
            let waited = state.waiting_since.map(|since| since.elapsed());
            state = match waited {
                Some(waited) if waited >= LATEST || state.stopping => {
                    return Some(state.take_batch(self.clock.now()));
                }
                None if state.stopping => return None,
                Some(waited) => {
                    let woken = self.work.wait_timeout(state, LATEST.saturating_sub(waited));
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Opens the file again, once a second, for as long as it takes. False when the queue is being
    /// closed and it cannot be opened.
    fn reopen(&self) -> bool {
        loop {
            let state = self.lock();
            let woken = self
                .work
                .wait_timeout_while(state, RETRY, |state| !state.stopping);
            drop(woken.unwrap_or_else(PoisonError::into_inner));
            match self.file.reopen() {
                Ok(()) => {
                    // Also of what came after the failure and before this.
                    self.lock().lose_chunks();
                    return true;
                }
                Err(error) => tracing::error!(%error, "the queue file cannot be opened again"),
            }
            let mut state = self.lock();
            state.refuse_enqueues();
            if state.stopping {
                return false;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// However the thread ends, nobody waits for it any more.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.lock().end();
    }
}

/// How long the end of a task may stay unwritten: what a crash then repeats is bounded by it.
const LATEST: Duration = Duration::from_millis(5);
/// Between two attempts to open a file that failed.
const RETRY: Duration = Duration::from_secs(1);
