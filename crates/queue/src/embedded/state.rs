//! What the committer's lock guards: the scheduler, the log of what is not written yet, and the jobs
//! that wait for it.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::job::{Entry, Incoming, Job};
use crate::model::{Change, Scheduler};
use crate::operation::{Aborted, Act, Acted, Next, NextReply, Taken};
use crate::queue::QueueError;
use crate::record::NewMessage;

#[derive(Debug)]
pub(super) struct State {
    scheduler: Scheduler,
    pub(super) jobs: VecDeque<Job>,
    log: Vec<Entry>,
    /// Since when something is in the log that may have no job behind it.
    pub(super) waiting_since: Option<Instant>,
    /// Why the last transaction failed.
    pub(super) failure: Option<Failure>,
    /// A batch has been taken and is not finished.
    pub(super) writing: bool,
    pub(super) stopping: bool,
    /// The thread has ended: nothing will be written any more.
    ended: bool,
}

/// What one transaction writes, and whom it answers.
pub(super) struct Batch {
    pub(super) now: u64,
    pub(super) log: Vec<Entry>,
    jobs: Vec<Job>,
    aborted: Option<Aborted>,
}

/// Why nothing can be written.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure {
    pub(super) text: String,
    is_full: bool,
}

/// How a call of `next` goes on.
pub(super) enum Half {
    Whole(Taken<NextReply>),
    /// When the log is written.
    Waits(oneshot::Receiver<Result<Taken<NextReply>, QueueError>>),
}

impl State {
    pub(super) fn new(scheduler: Scheduler) -> Self {
        Self {
            scheduler,
            jobs: VecDeque::new(),
            log: Vec::new(),
            waiting_since: None,
            failure: None,
            writing: false,
            stopping: false,
            ended: false,
        }
    }

    /// One step of the scheduler, with its changes in the log.
    pub(super) fn step<T>(&mut self, step: impl FnOnce(&mut Scheduler) -> T) -> T {
        let reply = step(&mut self.scheduler);
        let changes = self.scheduler.take_changes();
        if !changes.is_empty() && !self.ended {
            self.log.extend(changes.into_iter().map(Entry::Change));
            self.waiting_since.get_or_insert_with(Instant::now);
        }
        reply
    }

    /// Settles. What must last then waits, together with the rest of the call; the settlements and
    /// their notifications come into the log here, in one piece.
    pub(super) fn next(&mut self, now: u64, next: &Next, encoded: Vec<Incoming>) -> Half {
        let settled = match self.step(|scheduler| scheduler.settle_all(now, next)) {
            Taken::Ran(settled) => settled,
            Taken::Expired => return Half::Whole(Taken::Expired),
            Taken::Reaped => return Half::Whole(Taken::Reaped),
            Taken::Refused => return Half::Whole(Taken::Refused),
        };
        if !settled.must_last {
            let stale = settled.stale;
            return Half::Whole(
                self.step(|scheduler| scheduler.release_and_claim(now, next, stale)),
            );
        }
        // Only the holder of a task may notify.
        let notifications = self.log_records(encoded, &settled.notifications);
        let (reply, answer) = oneshot::channel();
        let next = Next {
            settlements: Vec::new(),
            ..next.clone()
        };
        self.jobs.push_back(Job::Next {
            next,
            stale: settled.stale,
            notifications,
            reply,
        });
        Half::Waits(answer)
    }

    /// Acts. The answer waits until that is written; the acts and their notices come into the log
    /// here, in one piece.
    pub(super) fn act(
        &mut self,
        now: u64,
        acts: &[Act],
        encoded: Vec<Incoming>,
    ) -> oneshot::Receiver<Result<Vec<Acted>, QueueError>> {
        let (acted, notices) = self.step(|scheduler| scheduler.act(now, acts));
        let notices = self.log_records(encoded, &notices);
        let (reply, answer) = oneshot::channel();
        self.jobs.push_back(Job::Act {
            acted,
            notices,
            reply,
        });
        answer
    }

    /// Those of `encoded` that are to be enqueued.
    fn log_records(
        &mut self,
        encoded: Vec<Incoming>,
        enqueued: &[&NewMessage],
    ) -> Vec<Arc<Incoming>> {
        let is_enqueued =
            |message: &Incoming| enqueued.iter().any(|enqueued| enqueued.id == message.id);
        let records: Vec<_> = encoded
            .into_iter()
            .filter(is_enqueued)
            .map(Arc::new)
            .collect();
        self.log.extend(records.iter().cloned().map(Entry::Record));
        records
    }

    /// An abort is the first of its batch, so that it finds what was enqueued before it.
    pub(super) fn take_batch(&mut self, now: u64) -> Batch {
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
                    aborted =
                        Some(self.step(|scheduler| scheduler.abort(now, *call, *message, handles)));
                }
                Job::Enqueue { messages, .. } => {
                    octets += messages.iter().map(Incoming::content_length).sum::<usize>();
                }
                Job::Act { .. } | Job::Flush { .. } | Job::Next { .. } | Job::Resolve { .. } => {}
            }
            jobs.push(job);
        }
        self.waiting_since = None;
        self.writing = true;
        Batch {
            now,
            log: std::mem::take(&mut self.log),
            jobs,
            aborted,
        }
    }

    /// What was written may be seen, in the order of the jobs. Returns the answers, to be given
    /// without the lock.
    pub(super) fn finish(&mut self, batch: Batch) -> Vec<Box<dyn FnOnce()>> {
        if batch.has_writes() {
            self.failure = None;
        }
        self.writing = false;
        let scheduler = &mut self.scheduler;
        let mut answers: Vec<Box<dyn FnOnce()>> = Vec::with_capacity(batch.jobs.len());
        // Who has gone away meanwhile needs no answer.
        for job in batch.jobs {
            answers.push(match job {
                Job::Enqueue { messages, reply } => {
                    messages
                        .iter()
                        .for_each(|message| insert(scheduler, batch.now, message));
                    Box::new(move || _ = reply.send(Ok(())))
                }
                Job::Next {
                    next,
                    stale,
                    notifications,
                    reply,
                } => {
                    notifications
                        .iter()
                        .for_each(|message| insert(scheduler, batch.now, message));
                    let taken = scheduler.release_and_claim(batch.now, &next, stale);
                    Box::new(move || _ = reply.send(Ok(taken)))
                }
                Job::Act {
                    acted,
                    notices,
                    reply,
                } => {
                    notices
                        .iter()
                        .for_each(|message| insert(scheduler, batch.now, message));
                    Box::new(move || _ = reply.send(Ok(acted)))
                }
                Job::Abort { reply, .. } => {
                    let aborted = batch.aborted.unwrap_or(Aborted::Held);
                    Box::new(move || _ = reply.send(Ok(aborted)))
                }
                Job::Flush { reply } => Box::new(move || _ = reply.send(Ok(()))),
                Job::Resolve { call, reply } => {
                    let resolved = scheduler.resolve(call);
                    Box::new(move || _ = reply.send(Ok(resolved)))
                }
            });
        }
        answers
    }

    /// Nothing of the batch can be relied on. Who enqueues hears it at once, and should anything of
    /// it be in the file after all, it is taken out; everything else is written again.
    pub(super) fn fail(&mut self, batch: Batch, error: &redb::Error) {
        let failure = Failure::of(error);
        self.writing = false;
        let mut log = batch.log;
        let mut again = Vec::new();
        for job in batch.jobs {
            match job {
                Job::Enqueue { messages, reply } => {
                    log.extend(taken_out(&messages));
                    _ = reply.send(Err(failure.full_or(QueueError::Ambiguous)));
                }
                Job::Abort { reply, .. } => {
                    _ = reply.send(Err(QueueError::Ambiguous(failure.text.clone())));
                }
                job => again.push(job),
            }
        }
        self.failure = Some(failure);
        // What has come meanwhile is later.
        log.append(&mut self.log);
        self.log = log;
        self.waiting_since.get_or_insert_with(Instant::now);
        again
            .into_iter()
            .rev()
            .for_each(|job| self.jobs.push_front(job));
        self.lose_chunks();
    }

    /// Chunks that no sync has followed are not in the file when it is opened again. Nobody can say
    /// which these are, so none counts any more, and messages that rely on some are not written.
    pub(super) fn lose_chunks(&mut self) {
        self.step(Scheduler::unstage_all);
        let failure = self.failure.clone().unwrap_or_default();
        for job in std::mem::take(&mut self.jobs) {
            match job {
                Job::Enqueue { messages, reply } if messages.iter().any(Incoming::has_chunks) => {
                    self.log.extend(taken_out(&messages));
                    _ = reply.send(Err(failure.full_or(QueueError::Unreachable)));
                }
                job => self.jobs.push_back(job),
            }
        }
    }

    /// While there is no file nobody waits with a message.
    pub(super) fn refuse_enqueues(&mut self) {
        let failure = self.failure.clone().unwrap_or_default();
        for job in std::mem::take(&mut self.jobs) {
            match job {
                Job::Enqueue { reply, .. } => {
                    _ = reply.send(Err(failure.full_or(QueueError::Unreachable)));
                }
                job => self.jobs.push_back(job),
            }
        }
    }

    /// Why nothing will be written any more, if that is so.
    pub(super) fn closed(&self) -> Option<QueueError> {
        let failure = self.failure.clone().unwrap_or_default();
        self.ended.then_some(QueueError::Unreachable(failure.text))
    }

    /// Nothing will be written any more; what is not is as after a crash. Those who wait hear it by
    /// the loss of their reply.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.failure.get_or_insert_with(|| Failure {
            text: "the queue file is closed".to_owned(),
            is_full: false,
        });
        self.jobs.clear();
        self.log.clear();
        self.waiting_since = None;
    }
}

impl Failure {
    pub(super) fn of(error: &redb::Error) -> Self {
        use ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let full = [FileTooLarge, QuotaExceeded, StorageFull];
        Self {
            text: error.to_string(),
            is_full: matches!(error, redb::Error::Io(io) if full.contains(&io.kind())),
        }
    }

    /// What whoever enqueues is told.
    pub(super) fn full_or(&self, otherwise: fn(String) -> QueueError) -> QueueError {
        let why = if self.is_full {
            QueueError::Full
        } else {
            otherwise
        };
        why(self.text.clone())
    }
}

impl Batch {
    pub(super) fn messages(&self) -> impl Iterator<Item = &Incoming> {
        self.jobs.iter().flat_map(|job| match job {
            Job::Enqueue { messages, .. } => messages.as_slice(),
            _ => &[],
        })
    }

    pub(super) fn has_writes(&self) -> bool {
        !self.log.is_empty() || self.messages().next().is_some()
    }
}

fn insert(scheduler: &mut Scheduler, now: u64, message: &Incoming) {
    scheduler.insert(now, message.id, message.lifetime_ms, &message.queues);
}

/// Messages that are not to be in the file, whatever of them is.
fn taken_out(messages: &[Incoming]) -> impl Iterator<Item = Entry> {
    let changes = messages.iter().flat_map(|message| {
        let unstaged = message.has_chunks().then_some(Change::Unstaged(message.id));
        std::iter::once(Change::Removed(message.id)).chain(unstaged)
    });
    changes.map(Entry::Change)
}

/// Contents of one transaction, in octets.
const MAX_BATCH: usize = 16 * 1024 * 1024;
