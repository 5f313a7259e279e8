use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::gather::{Begin, Read, Ticket};
use super::inbox::Outgoing;
use crate::id::{Handle, QueueId, SlotId, WorkerId};
use crate::operation::{Begun, Claimed, Rest, Settlement};
use crate::record::{ChunkError, NewMessage, Record, TaskState};
use crate::{QueueError, RecordError};

/// What the worker hands out.
#[derive(Debug)]
pub enum Work {
    /// Tasks to deliver over one connection.
    Deliver(Grant),
    /// A task whose message has outlived its lifetime: it is to be settled, not attempted.
    Expire(Claim),
}

/// A connection slot at a site, and tasks of one queue for it. Dropping it releases the slot and
/// gives back the tasks that were not taken.
#[derive(Debug)]
pub struct Grant {
    pub site: String,
    pub queue: QueueId,
    tasks: VecDeque<Claim>,
    // After the tasks, so that it is dropped after them: the release has the call made at once,
    // and what the tasks' end has to say goes along.
    slot: Slot,
}

struct Slot {
    shared: Arc<Shared>,
    worker: WorkerId,
    slot: SlotId,
    term: CancellationToken,
}

impl Grant {
    pub(super) fn new(
        shared: &Arc<Shared>,
        worker: WorkerId,
        slot: SlotId,
        site: String,
        queue: QueueId,
        mut tasks: VecDeque<Claim>,
    ) -> Self {
        // In this order: a term that ends in between is noticed by one of the two.
        let term = shared.lease.term();
        if shared.lease.current() != Some(worker) {
            tasks.clear();
        }
        Self {
            site,
            queue,
            tasks,
            slot: Slot {
                shared: Arc::clone(shared),
                worker,
                slot,
                term,
            },
        }
    }

    /// The next task. Records of those behind it are fetched meanwhile.
    pub fn take(&mut self) -> Option<Claim> {
        let claim = self.tasks.pop_front();
        for ahead in self.tasks.iter_mut().take(READ_AHEAD) {
            ahead.fetch();
        }
        claim
    }

    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Marks `first` and the tasks that are still here begun, in one call; meant to be called when
    /// a connection is ready for the first of them. It does not wait: the answer is looked at
    /// before the last octet.
    pub fn begin(&mut self, first: &mut Claim) {
        let shared = &self.slot.shared;
        let ticket = watch::Sender::new(None);
        let mut handles = Vec::with_capacity(1 + self.tasks.len());
        for claim in std::iter::once(first).chain(&mut self.tasks) {
            if claim.begun.is_none() {
                claim.begun = Some((handles.len(), ticket.subscribe()));
                handles.push(claim.handle.clone());
            }
        }
        if let Some(worker) = (!handles.is_empty()).then_some(self.slot.worker) {
            let _ = shared.begins.send(Begin {
                worker,
                handles,
                ticket,
            });
        }
    }

    /// Cancelled when the queue has given this process up: whatever awaits no reply is to end.
    pub fn fenced(&self) -> CancellationToken {
        self.slot.term.clone()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.inbox.release(self.worker, self.slot);
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.slot.fmt(f)
    }
}

/// A task in this process' claim set. Dropping it gives it back.
pub struct Claim {
    shared: Arc<Shared>,
    worker: WorkerId,
    serial: u64,
    handle: Handle,
    state: TaskState,
    /// By the worker's clock; zero when the message had expired at the claim.
    expires_at: Duration,
    /// Until when the claim is good if it is not begun, counted from sending it.
    deadline: Duration,
    /// The store's when the claim was sent.
    epoch: u64,
    /// Position in the call that begins it, and its answer.
    begun: Option<(usize, Ticket)>,
    record: Option<oneshot::Receiver<Fetched>>,
    settled: bool,
}

pub(super) type Fetched = Result<Arc<Record>, RecordUnavailable>;

/// When a call left, by the worker's clock, and in which epoch of the store.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    pub(super) at: Duration,
    pub(super) epoch: u64,
}

/// Why a claimed task's record cannot be had.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordUnavailable {
    #[error("there is no record of this message")]
    Missing,
    #[error(transparent)]
    Undecodable(RecordError),
    #[error("the record cannot be read now: {0}")]
    Unreachable(String),
}

/// What became of a task in one attempt. Recipients are named by their index in the task.
#[derive(Debug)]
pub struct Outcome {
    /// The next hop answered 2yz to the final dot.
    pub delivered: Vec<u16>,
    pub failed: Vec<u16>,
    /// How many recipients the task has.
    pub recipients: u16,
    /// What becomes of the others.
    pub rest: Rest,
    /// Tells the sender about `failed`; enqueued in the same step.
    pub notification: Option<NewMessage>,
    /// What the journal says of it; nothing where it is empty.
    pub journal: Bytes,
}

impl Claim {
    pub(super) fn new(
        shared: &Arc<Shared>,
        claimed: Claimed,
        worker: WorkerId,
        serial: u64,
        sent: Sent,
    ) -> Self {
        let expires_at = match claimed.expires_in {
            Duration::ZERO => Duration::ZERO,
            lifetime => sent.at + lifetime,
        };
        Self {
            shared: Arc::clone(shared),
            worker,
            serial,
            handle: claimed.handle,
            state: claimed.state,
            expires_at,
            deadline: sent.at + shared.settings.timing.claim,
            epoch: sent.epoch,
            begun: None,
            record: None,
            settled: false,
        }
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    pub fn state(&self) -> &TaskState {
        &self.state
    }

    /// How long the message may still wait; zero when its lifetime is over.
    pub fn expires_in(&self) -> Duration {
        self.expires_at
            .saturating_sub(self.shared.settings.clock.now())
    }

    /// The message.
    ///
    /// # Errors
    /// It is gone, no program of this version can read it, or the back end does not answer.
    pub async fn record(&mut self) -> Result<Arc<Record>, RecordUnavailable> {
        let cache = &self.shared.cache;
        if self.record.is_none()
            && let Some(record) = cache.take(self.handle.task.message).await
        {
            return Ok(record);
        }
        self.request();
        match self.record.take() {
            Some(reply) => reply
                .await
                .unwrap_or_else(|_| Err(RecordUnavailable::stopped())),
            None => Err(RecordUnavailable::stopped()),
        }
    }

    /// One chunk of the message's content, from 0, where `record` says that it is in chunks. Waits some
    /// seconds for a back end that does not answer: the next hop waits too.
    ///
    /// # Errors
    /// As [`Body::chunk`](crate::record::Body::chunk).
    pub async fn chunk(&self, record: &Record, number: u32) -> Result<Bytes, ChunkError> {
        let message = self.handle.task.message;
        let mut failures = 0;
        loop {
            let read = record
                .header
                .body
                .chunk(&*self.shared.queue, message, number);
            match read.await {
                Err(ChunkError::Queue(error))
                    if failures < CHUNK_FAILURES && self.shared.lease.is_fresh() =>
                {
                    tracing::debug!(%error, "a chunk could not be read");
                }
                read => return read,
            }
            self.shared.back_off(failures).await;
            failures += 1;
        }
    }

    /// Whether an attempt may be started with it: the lease is fresh and the claim's deadline has
    /// not passed. It says nothing about the last octet.
    pub fn may_start(&self) -> bool {
        match self.begun_at() {
            Some(Ok(sent)) => self.is_held(Some(sent)),
            _ => self.is_held(None),
        }
    }

    /// The dot check. `Some(true)`: the last octet may be written now, and not later; `Some(false)`:
    /// never. `None`: there is something to wait for, see [`Claim::last_octet`].
    pub fn last_octet_now(&self) -> Option<bool> {
        let begun_at = match self.begun_at()? {
            Ok(sent) => sent,
            Err(NotBegun) => return Some(false),
        };
        if !self.is_held(Some(begun_at)) {
            return Some(false);
        }
        let now = self.shared.settings.clock.now();
        let is_local = !self.state.reclaimed_begun && !self.is_of_another_epoch();
        (is_local && self.shared.ledger.admits_dot(now)).then_some(true)
    }

    /// The dot check, waiting for what it takes. To be asked immediately before the write.
    ///
    /// An earlier owner may have sent the last octet of a task that it began and did not settle;
    /// for such a task the back end itself is asked, by the same call that would lose a race. So it is
    /// for a claim that was made before the back end's epoch changed.
    pub async fn last_octet(&self) -> bool {
        loop {
            let mut changed = std::pin::pin!(self.shared.ledger.changed());
            changed.as_mut().enable();
            if let Some(answer) = self.last_octet_now() {
                return answer;
            }
            if self.begun_at().is_none() {
                if !self.begin_answered().await {
                    return false;
                }
                continue;
            }
            let now = self.shared.settings.clock.now();
            if self.shared.ledger.admits_dot(now) {
                let held = match self.is_of_another_epoch() {
                    true => self.begin_again().await,
                    false => {
                        let held = self.shared.queue.check(self.worker, &self.handle).await;
                        matches!(held, Ok(true))
                    }
                };
                // The answer is old by now; what can be known here is asked again.
                return held && self.is_held_as_begun();
            }
            // Acknowledgements are unconfirmed. They may stay so for long: look at the lease again.
            let _ = tokio::time::timeout(self.shared.settings.timing.beat / 5, changed).await;
        }
    }

    fn is_of_another_epoch(&self) -> bool {
        self.shared.queue.epoch() != self.epoch
    }

    /// What took the place of the store that confirmed claim and begin may have neither. One without
    /// the mark would let whoever takes the task over end its message unasked, so it is made anew.
    async fn begin_again(&self) -> bool {
        let handles = std::slice::from_ref(&self.handle);
        let begun = self.shared.queue.begin(self.worker, handles).await;
        begun.is_ok_and(|begun| begun == [Begun::Begun])
    }

    /// Hands the outcome to the queue, where it arrives with the next call.
    pub fn settle(mut self, outcome: Outcome) {
        if !outcome.delivered.is_empty() {
            self.note_delivery();
        }
        self.settled = true;
        self.hand_over(
            Settlement {
                handle: self.handle.clone(),
                delivered: outcome.delivered,
                failed: outcome.failed,
                recipients: outcome.recipients,
                rest: outcome.rest,
                notification: outcome.notification,
                journal: outcome.journal,
            },
            None,
        );
    }

    /// Tells the queue who of the task's `recipients` has the message by now, and waits until it has
    /// taken note: whoever takes the task over leaves them out. The claim goes on; false when it is
    /// not certain any more.
    pub async fn delivered(&self, delivered: Vec<u16>, recipients: u16) -> bool {
        self.note_delivery();
        let (goes_on, confirmed) = oneshot::channel();
        let term = self.shared.lease.term();
        self.hand_over(
            Settlement {
                handle: self.handle.clone(),
                delivered,
                failed: Vec::new(),
                recipients,
                rest: Rest::Kept,
                notification: None,
                journal: Bytes::new(),
            },
            Some(goes_on),
        );
        tokio::select! {
            confirmed = confirmed => confirmed.is_ok() && self.may_start(),
            () = term.cancelled() => false,
            () = self.shared.stop.cancelled() => false,
        }
    }

    fn note_delivery(&self) {
        let now = self.shared.settings.clock.now();
        self.shared.ledger.delivered(self.serial, now);
    }

    fn hand_over(&self, settlement: Settlement, goes_on: Option<oneshot::Sender<()>>) {
        self.shared.inbox.settle(Outgoing {
            settlement,
            worker: self.worker,
            serial: self.serial,
            goes_on,
        });
    }

    /// Starts reading the record unless it is at hand.
    fn fetch(&mut self) {
        if !self.shared.cache.has(self.handle.task.message) {
            self.request();
        }
    }

    fn request(&mut self) {
        if self.record.is_none() {
            let (reply, record) = oneshot::channel();
            let message = self.handle.task.message;
            let _ = self.shared.reads.send(Read { message, reply });
            self.record = Some(record);
        }
    }

    /// `None` while the answer is on its way. A task that nobody begins is never allowed its last
    /// octet.
    fn begun_at(&self) -> Option<Result<Duration, NotBegun>> {
        let Some((position, ticket)) = &self.begun else {
            return Some(Err(NotBegun));
        };
        let answer = ticket.borrow();
        match answer.as_deref() {
            // Past the claim's deadline the queue may have taken the task back, and even have given
            // it to this process anew: what was begun then is not this claim.
            Some(answer)
                if answer.begun.get(*position) == Some(&Begun::Begun)
                    && answer.sent < self.deadline =>
            {
                Some(Ok(answer.sent))
            }
            Some(_) => Some(Err(NotBegun)),
            // The gatherer is gone, and with it the answer.
            None if ticket.has_changed().is_err() => Some(Err(NotBegun)),
            None => None,
        }
    }

    /// Waits for the answer; false when it is not going to come in time.
    async fn begin_answered(&self) -> bool {
        let Some((_, ticket)) = &self.begun else {
            return false;
        };
        let mut ticket = ticket.clone();
        let term = self.shared.lease.term();
        tokio::select! {
            answered = ticket.wait_for(Option::is_some).map(|answer| answer.is_ok()) => answered,
            () = term.cancelled() => false,
        }
    }

    fn is_held_as_begun(&self) -> bool {
        matches!(self.begun_at(), Some(Ok(sent)) if self.is_held(Some(sent)))
    }

    /// By what this process knows: trusted as a member, the claim's deadline, counted from sending
    /// what set it, has not passed, and the queue has not handed the task out again.
    fn is_held(&self, begun_at: Option<Duration>) -> bool {
        let deadline = match begun_at {
            Some(sent) => sent + self.shared.settings.timing.begun,
            None => self.deadline,
        };
        self.shared.lease.is_trusted(self.worker)
            && self.shared.settings.clock.now() < deadline
            && !self.shared.ledger.is_revoked(self.serial)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.settled {
            self.hand_over(
                Settlement {
                    handle: self.handle.clone(),
                    delivered: Vec::new(),
                    failed: Vec::new(),
                    recipients: u16::MAX,
                    rest: Rest::GivenBack,
                    notification: None,
                    journal: Bytes::new(),
                },
                None,
            );
        }
    }
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim")
            .field("handle", &self.handle)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl RecordUnavailable {
    fn stopped() -> Self {
        Self::Unreachable("the worker has been stopped".to_owned())
    }

    pub(super) fn unread(error: &QueueError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

struct NotBegun;

/// So often the read of a chunk fails before it is given up: some ten seconds.
const CHUNK_FAILURES: u32 = 10;
/// Records fetched ahead of the task that is being delivered: four, of at most 256 KiB and a bit.
const READ_AHEAD: usize = 4;
