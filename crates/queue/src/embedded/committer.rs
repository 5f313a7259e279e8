//! One thread that writes: it takes whatever waits, writes it with one sync and answers.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::file::File;
use crate::id::{Call, Handle, MessageId, QueueId};
use crate::model::{Change, Scheduler, WallClock};
use crate::operation::{Aborted, Next, NextReply, Resolved, Taken};
use crate::queue::QueueError;
use crate::record::NewMessage;

/// A message on its way to the file.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) id: MessageId,
    pub(super) lifetime_ms: u64,
    pub(super) prefix: Bytes,
    pub(super) content: Vec<Bytes>,
    queues: Vec<QueueId>,
}

impl Incoming {
    pub(super) fn new(message: &NewMessage) -> Result<Self, QueueError> {
        let prefix = message
            .prefix()
            .map_err(|error| QueueError::Conflict(error.to_string()))?;
        Ok(Self {
            id: message.id,
            lifetime_ms: message.header.lifetime_ms,
            prefix,
            content: message.content.clone(),
            queues: message
                .header
                .tasks
                .iter()
                .map(|task| task.queue.clone())
                .collect(),
        })
    }

    pub(super) fn content_length(&self) -> usize {
        self.content.iter().map(Bytes::len).sum()
    }
}

/// What waits for the thread, in order.
pub(super) enum Job {
    Enqueue {
        messages: Vec<Incoming>,
        reply: Reply<()>,
    },
    /// Settlements have been made; the rest follows when they are written.
    Next {
        next: Next,
        stale: Vec<u32>,
        notifications: Vec<Incoming>,
        reply: Reply<Taken<NextReply>>,
    },
    /// Behind the enqueue it takes back.
    Abort {
        call: Call,
        message: MessageId,
        handles: Vec<Handle>,
        reply: Reply<Aborted>,
    },
    /// Everything before it has been written.
    Flush { reply: Reply<()> },
    /// Behind the call it asks about.
    Resolve { call: Call, reply: Reply<Resolved> },
}

type Reply<T> = oneshot::Sender<Result<T, QueueError>>;

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

#[derive(Debug)]
struct State {
    scheduler: Scheduler,
    jobs: VecDeque<Job>,
    /// Taken from the scheduler, not written yet.
    changes: Vec<Change>,
    /// Since when changes wait that nobody waits for.
    waiting_since: Option<Instant>,
    failure: Option<String>,
    writing: bool,
    stopping: bool,
}

impl Committer {
    pub(super) fn start(file: File, scheduler: Scheduler, clock: WallClock) -> Self {
        let state = State {
            scheduler,
            jobs: VecDeque::new(),
            changes: Vec::new(),
            waiting_since: None,
            failure: None,
            writing: false,
            stopping: false,
        };
        let shared = Arc::new(Shared {
            file: Arc::new(file),
            clock,
            state: Mutex::new(state),
            work: Condvar::new(),
        });
        let thread = std::thread::Builder::new()
            .name("queue-commit".to_owned())
            .spawn({
                let shared = shared.clone();
                move || shared.run()
            });
        // Without the thread nothing can be confirmed; the operating system has no room for it.
        Self {
            shared,
            thread: Some(thread.expect("a thread can be started")),
        }
    }

    /// Runs one step of the scheduler. Changes of it are written soon, but not waited for.
    pub(super) fn step<T>(&self, step: impl FnOnce(&mut Scheduler) -> T) -> T {
        let mut state = self.shared.lock();
        let reply = step(&mut state.scheduler);
        let changes = state.scheduler.take_changes();
        if !changes.is_empty() {
            state.changes.extend(changes);
            if state.waiting_since.is_none() {
                state.waiting_since = Some(Instant::now());
                self.shared.work.notify_one();
            }
        }
        reply
    }

    /// Hands the thread a job and waits for its reply.
    pub(super) async fn run<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            state.jobs.push_back(job(reply));
            self.shared.work.notify_one();
        }
        let gone = |_| QueueError::Ambiguous("the queue file is being closed".to_owned());
        answer.await.map_err(gone)?
    }

    pub(super) fn reader(&self) -> Arc<File> {
        self.shared.file.clone()
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

    /// The last write failed, and this is why.
    pub(super) fn failure(&self) -> Option<String> {
        self.shared.lock().failure.clone()
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has no way to panic that its own joiner could mend.
            let _ = thread.join();
        }
    }
}

/// What one transaction writes, and whom it answers.
struct Batch {
    now: u64,
    jobs: Vec<Job>,
    aborted: Option<Aborted>,
    changes: Vec<Change>,
}

impl Batch {
    fn messages(&self) -> impl Iterator<Item = &Incoming> {
        self.jobs.iter().flat_map(|job| match job {
            Job::Enqueue { messages, .. } => messages.as_slice(),
            Job::Next { notifications, .. } => notifications,
            Job::Abort { .. } | Job::Flush { .. } | Job::Resolve { .. } => &[],
        })
    }

    fn has_writes(&self) -> bool {
        !self.changes.is_empty() || self.messages().next().is_some()
    }
}

impl Shared {
    fn run(&self) {
        while let Some(batch) = self.take() {
            if !batch.has_writes() {
                self.finish(batch);
                continue;
            }
            match self.file.write(batch.now, &batch.changes, batch.messages()) {
                Ok(()) => self.finish(batch),
                Err(error) => {
                    self.fail(batch, &error);
                    self.recover();
                }
            }
        }
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
                    let timeout = LATEST.saturating_sub(waited);
                    let woken = self.work.wait_timeout(state, timeout);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// What was written may be seen, in the order of the jobs.
    fn finish(&self, batch: Batch) {
        let mut state = self.lock();
        state.failure = None;
        state.writing = false;
        let mut answers: Vec<Box<dyn FnOnce()>> = Vec::with_capacity(batch.jobs.len());
        let scheduler = &mut state.scheduler;
        for job in batch.jobs {
            match job {
                Job::Enqueue { messages, reply } => {
                    insert(scheduler, batch.now, &messages);
                    answers.push(Box::new(move || _ = reply.send(Ok(()))));
                }
                Job::Next {
                    next,
                    stale,
                    notifications,
                    reply,
                } => {
                    insert(scheduler, batch.now, &notifications);
                    let taken = scheduler.release_and_claim(batch.now, &next, stale);
                    answers.push(Box::new(move || _ = reply.send(Ok(taken))));
                }
                Job::Abort { reply, .. } => {
                    let aborted = batch.aborted.unwrap_or(Aborted::Held);
                    answers.push(Box::new(move || _ = reply.send(Ok(aborted))));
                }
                Job::Flush { reply } => answers.push(Box::new(move || _ = reply.send(Ok(())))),
                Job::Resolve { call, reply } => {
                    let resolved = scheduler.resolve(call);
                    answers.push(Box::new(move || _ = reply.send(Ok(resolved))));
                }
            }
        }
        drop(state);
        answers.into_iter().for_each(|answer| answer());
    }

    /// Nothing of the batch can be relied on. Who enqueues hears it at once, and should anything of
    /// it be in the file after all, it is taken out; everything else is written again.
    fn fail(&self, batch: Batch, error: &redb::Error) {
        tracing::error!(%error, "the queue file cannot be written");
        let mut state = self.lock();
        state.failure = Some(error.to_string());
        state.writing = false;
        let mut changes = batch.changes;
        let mut again = Vec::new();
        for job in batch.jobs {
            match job {
                Job::Enqueue { messages, reply } => {
                    changes.extend(messages.iter().map(|message| Change::Removed(message.id)));
                    _ = reply.send(Err(query_error(error)));
                }
                Job::Abort { reply, .. } => _ = reply.send(Err(query_error(error))),
                other => again.push(other),
            }
        }
        // New changes are later than these.
        changes.append(&mut state.changes);
        state.changes = changes;
        state.waiting_since.get_or_insert_with(Instant::now);
        again
            .into_iter()
            .rev()
            .for_each(|job| state.jobs.push_front(job));
    }

    /// Opens the file again, at most once a second, for as long as it takes.
    fn recover(&self) {
        loop {
            let state = self.lock();
            let stopping = state.stopping;
            if !stopping {
                let woken = self
                    .work
                    .wait_timeout_while(state, RETRY, |state| !state.stopping);
                drop(woken.unwrap_or_else(PoisonError::into_inner));
            } else {
                drop(state);
            }
            match self.file.reopen() {
                Ok(()) => return,
                Err(error) => tracing::error!(%error, "the queue file cannot be opened again"),
            }
            let mut state = self.lock();
            state.refuse_enqueues();
            if state.stopping {
                // What is not written is as after a crash: done again.
                state.jobs.clear();
                state.changes.clear();
                state.waiting_since = None;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// An abort is the first of its batch, so that it finds what was enqueued before it.
    fn take_batch(&mut self, now: u64) -> Batch {
        let mut jobs = Vec::new();
        let mut aborted = None;
        let mut octets = 0;
        while octets < MAX_BATCH
            && let Some(job) = self.jobs.pop_front()
        {
            match &job {
                Job::Abort { .. } if !jobs.is_empty() => {
                    self.jobs.push_front(job);
                    break;
                }
                Job::Abort {
                    call,
                    message,
                    handles,
                    ..
                } => {
                    aborted = Some(self.scheduler.abort(*call, *message, handles));
                    self.changes.extend(self.scheduler.take_changes());
                }
                Job::Enqueue { messages, .. } => {
                    octets += messages.iter().map(Incoming::content_length).sum::<usize>();
                }
                Job::Flush { .. } | Job::Next { .. } | Job::Resolve { .. } => {}
            }
            jobs.push(job);
        }
        self.waiting_since = None;
        self.writing = true;
        Batch {
            now,
            jobs,
            aborted,
            changes: std::mem::take(&mut self.changes),
        }
    }

    fn refuse_enqueues(&mut self) {
        for job in std::mem::take(&mut self.jobs) {
            match job {
                Job::Enqueue { reply, .. } => {
                    let error = self.failure.clone().unwrap_or_default();
                    _ = reply.send(Err(QueueError::Unreachable(error)));
                }
                other => self.jobs.push_back(other),
            }
        }
    }
}

fn insert(scheduler: &mut Scheduler, now: u64, messages: &[Incoming]) {
    for message in messages {
        scheduler.insert(now, message.id, message.lifetime_ms, &message.queues);
    }
}

fn query_error(error: &redb::Error) -> QueueError {
    match error {
        redb::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull => {
            QueueError::Full(error.to_string())
        }
        error => QueueError::Ambiguous(error.to_string()),
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Enqueue { .. } => "Enqueue",
            Self::Next { .. } => "Next",
            Self::Abort { .. } => "Abort",
            Self::Flush { .. } => "Flush",
            Self::Resolve { .. } => "Resolve",
        })
    }
}

/// How long the end of a task may stay unwritten: what a crash then repeats is bounded by it.
const LATEST: Duration = Duration::from_millis(5);
/// Between two attempts to open a file that failed.
const RETRY: Duration = Duration::from_secs(1);
/// Contents of one transaction, in octets.
const MAX_BATCH: usize = 16 * 1024 * 1024;
