//! The worker: this process' membership in the queue, between its connections and the back end.
//!
//! The procedure, in order:
//! 1. the heart registers the process, beats, takes back what dead workers held, and asks
//!    what a confirmed write is worth; [`Worker::status`] says how that goes;
//! 2. [`Worker::enqueue`] commits messages in groups: each of four committers takes what waits;
//! 3. whoever can deliver says so with [`Worker::want`] and gets [`Work`]: grants (a connection
//!    slot and some tasks), or single tasks whose lifetime is over;
//! 4. [`Grant::begin`] marks the grant's tasks begun, in time for the first final dot;
//! 5. [`Claim::last_octet`] is asked immediately before the last octet of a message is written;
//! 6. [`Claim::settle`] hands the outcome to a dispatch lane, whose next call carries it.
//!
//! Invariants:
//! * Dropping loses nothing: an unsettled [`Claim`] goes back to the queue, a [`Grant`]'s slot is
//!   released.
//! * The lease counts from *sending* the last beat that succeeded, on a clock that counts suspend.
//!   Past two thirds of it nothing is claimed and no last octet is allowed.
//! * A message is submitted once. It is submitted again only where the back end says that it did
//!   not run; after an unknown outcome it is taken back and the caller gets an error.
//! * After an unknown outcome of a lane's call the lane asks for its reply before it goes on.
//! * Of each kill of the process at most 32 messages are in doubt for having been acknowledged by
//!   the next hop and not by the queue, and none for longer than a second: the bound holds for the
//!   whole process, because a kill takes all its connections. Final dots that are out and not yet
//!   answered come on top, at most one for each connection.
//! * A process has at most one transaction for a task at any time.
//!
//! What it does not do: talk SMTP, decide what an outcome is, write notifications.

mod admin;
mod cache;
mod claim;
mod clock;
mod commit;
mod expiry;
mod gather;
mod heart;
mod inbox;
mod lane;
mod lease;
mod ledger;
mod status;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Queue;
use crate::id::{JournalId, MessageId, Scope, WorkerId};
use crate::operation::{Journaled, Suspension, Timing};
use crate::record::NewMessage;

pub use self::claim::{Claim, Grant, Outcome, RecordUnavailable, Work};
pub use self::clock::Clock;
pub use self::commit::EnqueueError;
pub use self::status::Status;

/// A handle on the worker; all clones are the same worker.
#[derive(Clone)]
pub struct Worker {
    shared: Arc<Shared>,
    work: Arc<Mutex<mpsc::UnboundedReceiver<Work>>>,
}

/// How the worker works. [`Settings::new`] has the values it is designed for.
#[derive(Clone, Debug)]
pub struct Settings {
    pub timing: Timing,
    pub clock: Clock,
    /// Callers of enqueue at the same time.
    pub committers: u16,
    /// A committer takes at most this many messages, or this many octets.
    pub commit_messages: usize,
    pub commit_octets: usize,
    /// Callers of next at the same time.
    pub lanes: u16,
    /// Least time between two calls of next, so that under load a call carries many outcomes; an
    /// idle worker calls at once.
    pub pace: Duration,
    /// How long an outcome may wait for company while its grant goes on.
    pub linger: Duration,
    /// The longest an idle worker goes without asking for work.
    pub poll: Duration,
    pub grants_per_call: u16,
    pub tasks_per_grant: u16,
    /// Octets of message content kept from enqueue to claim.
    pub cache_octets: usize,
    /// No final dot is allowed while more deliveries than this, or any for longer than this, are
    /// not confirmed by the queue.
    pub unconfirmed: usize,
    pub unconfirmed_for: Duration,
}

impl Settings {
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            clock: Clock::boot_time(),
            committers: 4,
            commit_messages: 32,
            commit_octets: 1 << 20,
            lanes: 2,
            pace: Duration::from_millis(2),
            linger: Duration::from_millis(2),
            poll: Duration::from_millis(250),
            grants_per_call: 16,
            tasks_per_grant: 8,
            cache_octets: 16 << 20,
            unconfirmed: 32,
            unconfirmed_for: Duration::from_secs(1),
        }
    }
}

impl Worker {
    /// Starts the worker's tasks on the current runtime. It never fails: whatever the back end is
    /// up to, the worker keeps trying until `stop`, which ends it at once (see [`Worker::drain`]).
    pub fn start(queue: Arc<dyn Queue>, settings: Settings, stop: CancellationToken) -> Self {
        let (pending, committing) = mpsc::unbounded_channel();
        let (begins, beginning) = mpsc::unbounded_channel();
        let (reads, reading) = mpsc::unbounded_channel();
        let (unstages, unstaging) = mpsc::channel(UNSTAGES);
        let (work_out, work) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            lease: lease::Lease::new(settings.clock.clone(), settings.timing),
            inbox: inbox::Inbox::new(&settings),
            ledger: ledger::Ledger::new(settings.unconfirmed, settings.unconfirmed_for),
            cache: cache::Cache::new(settings.cache_octets),
            status: watch::Sender::new(Status::unknown()),
            pending,
            begins,
            reads,
            unstages,
            work: work_out,
            stop,
            tasks: TaskTracker::new(),
            queue,
            settings,
        });
        shared.spawn(heart::run(Arc::clone(&shared)));
        shared.spawn(expiry::run(Arc::clone(&shared)));
        shared.spawn(gather::run_begins(Arc::clone(&shared), beginning));
        shared.spawn(gather::run_reads(Arc::clone(&shared), reading));
        shared.spawn(gather::run_unstages(Arc::clone(&shared), unstaging));
        let committing = Arc::new(Mutex::new(committing));
        let lanes = shared.settings.lanes;
        for lane in 0..lanes {
            shared.spawn(lane::run(Arc::clone(&shared), lane));
        }
        for lane in lanes..lanes + shared.settings.committers {
            shared.spawn(commit::run(
                Arc::clone(&shared),
                lane,
                Arc::clone(&committing),
            ));
        }
        Self {
            shared,
            work: Arc::new(Mutex::new(work)),
        }
    }

    /// How the back end is doing, now and from now on.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// The id the queue knows this process by, while it is a member.
    pub fn id(&self) -> Option<WorkerId> {
        self.shared.lease.current()
    }

    /// Commits `message` together with whoever waits. `Ok` means it is in the queue at the
    /// declared level of durability.
    ///
    /// # Errors
    /// Nothing is kept, or (an unknown outcome whose taking back fails) a duplicate is possible.
    pub async fn enqueue(&self, message: NewMessage) -> Result<(), EnqueueError> {
        commit::enqueue(&self.shared, message).await
    }

    /// Puts a chunk, from 0, of the content of `message` aside, before the message is enqueued.
    ///
    /// # Errors
    /// The message cannot be enqueued then: it is to be given up, see [`Worker::unstage`].
    pub async fn stage(
        &self,
        message: MessageId,
        number: u32,
        chunk: Bytes,
    ) -> Result<(), EnqueueError> {
        let staged = self.shared.queue.stage(message, number, chunk).await;
        staged.map_err(EnqueueError::of)
    }

    /// Has the chunks of a message dropped that is given up, soon. If it has been enqueued for all its
    /// caller knows, nothing happens.
    pub fn unstage(&self, message: MessageId) {
        // Where too much waits, they expire.
        let _ = self.shared.unstages.try_send(message);
    }

    /// Asks for `grants` more grants. Each piece of [`Work::Deliver`] uses up one.
    pub fn want(&self, grants: usize) {
        self.shared.inbox.want(grants);
    }

    /// The next piece of work; `None` when the worker has been stopped.
    pub async fn work(&self) -> Option<Work> {
        let mut work = self.work.lock().await;
        tokio::select! {
            work = work.recv() => work,
            () = self.shared.stop.cancelled() => None,
        }
    }

    /// Whether this process claims tasks. It accepts messages either way.
    pub fn set_claiming(&self, claiming: bool) {
        self.shared.inbox.set_claiming(claiming);
    }

    pub fn is_claiming(&self) -> bool {
        self.shared.inbox.is_claiming()
    }

    /// Tasks this process holds a claim on, or has settled without confirmation yet.
    pub fn claims(&self) -> usize {
        self.shared.ledger.len()
    }

    /// What the back end holds, by its own count.
    ///
    /// # Errors
    /// As the back end says.
    pub async fn counts(&self) -> Result<crate::operation::Counts, crate::QueueError> {
        self.shared.queue.counts().await
    }

    /// Up to `max` entries of the journal of outcomes behind `after`, the oldest first.
    ///
    /// # Errors
    /// As the back end says.
    pub async fn journal(
        &self,
        after: Option<JournalId>,
        max: u16,
    ) -> Result<Vec<Journaled>, crate::QueueError> {
        self.shared.queue.journal(after, max).await
    }

    /// Writes the limits of sites into the queue, unless newer ones are there.
    ///
    /// # Errors
    /// As the back end says; it may be repeated.
    pub async fn set_limits(
        &self,
        limits: &crate::operation::Limits,
    ) -> Result<(), crate::QueueError> {
        self.shared.queue.set_limits(limits).await
    }

    /// Suspends some queues for all workers, or changes their suspension.
    ///
    /// # Errors
    /// As the back end says; it may be repeated.
    pub async fn suspend(&self, suspension: &Suspension) -> Result<(), crate::QueueError> {
        self.shared.queue.suspend(suspension).await
    }

    /// Ends a suspension; whether there was one.
    ///
    /// # Errors
    /// As the back end says; it may be repeated.
    pub async fn resume(&self, scope: &Scope) -> Result<bool, crate::QueueError> {
        let was_suspended = self.shared.queue.resume(scope).await?;
        self.shared.inbox.nudge();
        Ok(was_suspended)
    }

    /// The suspensions in force.
    ///
    /// # Errors
    /// As the back end says.
    pub async fn suspensions(&self) -> Result<Vec<Suspension>, crate::QueueError> {
        self.shared.queue.suspensions().await
    }

    /// Makes all tasks of `route` due that wait for a later attempt, as it leads somewhere else now.
    /// Returns how many.
    ///
    /// # Errors
    /// As the back end says; it may be repeated.
    pub async fn hasten(&self, route: &str) -> Result<usize, crate::QueueError> {
        let mut hastened = 0;
        loop {
            let some = self.shared.queue.hasten(route, HASTENED_AT_ONCE).await?;
            hastened += usize::from(some);
            if some < HASTENED_AT_ONCE {
                self.shared.inbox.nudge();
                return Ok(hastened);
            }
        }
    }

    /// Claims nothing more, waits until every outcome is confirmed, every slot released and every
    /// commit answered, at most for `within`, and ends the worker. Returns whether nothing was left.
    pub async fn drain(&self, within: Duration) -> bool {
        self.shared.inbox.close();
        let drained = tokio::time::timeout(within, async {
            tokio::select! {
                () = self.emptied() => {}
                () = self.drop_work() => {}
            }
        });
        let drained = drained.await.is_ok();
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        drained
    }

    async fn emptied(&self) {
        let Shared { ledger, inbox, .. } = &*self.shared;
        loop {
            ledger.emptied().await;
            inbox.emptied().await;
            // The last call may have brought something.
            if ledger.is_empty() && inbox.is_empty() {
                return;
            }
        }
    }

    /// What was claimed and is picked up by nobody goes back by being dropped.
    async fn drop_work(&self) {
        let mut work = self.work.lock().await;
        while work.recv().await.is_some() {}
    }
}

/// What the worker's tasks share.
struct Shared {
    queue: Arc<dyn Queue>,
    settings: Settings,
    lease: lease::Lease,
    inbox: inbox::Inbox,
    ledger: ledger::Ledger,
    cache: cache::Cache,
    status: watch::Sender<Status>,
    pending: mpsc::UnboundedSender<commit::Pending>,
    begins: mpsc::UnboundedSender<gather::Begin>,
    reads: mpsc::UnboundedSender<gather::Read>,
    unstages: mpsc::Sender<MessageId>,
    work: mpsc::UnboundedSender<Work>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Shared {
    fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// A pause that a task makes before it tries again what the back end did not answer.
    async fn back_off(&self, failures: u32) {
        let first = self.settings.timing.beat / 50;
        tokio::time::sleep(first * 2u32.pow(failures.min(4))).await;
    }
}

/// Messages given up whose chunks are still to be dropped, at most.
const UNSTAGES: usize = 1024;
/// Tasks of one step, so that no step holds the others up.
const HASTENED_AT_ONCE: u16 = 500;
