use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;

use super::Shared;
use super::gather::everybody_else;
use crate::QueueError;
use crate::id::{Call, Handle, MessageId, TaskId};
use crate::operation::{Aborted, Taken};
use crate::record::{NewMessage, Record};

/// Why a message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    #[error("the queue's store is full: {0}")]
    Full(String),
    #[error("the queue's store is not durable as declared: {0}")]
    NotDurable(String),
    /// The store has lost chunks of the body, or dropped them when their time was over.
    #[error("the body of the message has been lost")]
    BodyLost,
    #[error("the queue is not available: {0}")]
    Unavailable(String),
}

/// A message and whoever waits for it to be safe.
pub(super) struct Pending {
    message: NewMessage,
    reply: Reply,
}

pub(super) async fn enqueue(shared: &Shared, message: NewMessage) -> Result<(), EnqueueError> {
    let (reply, answer) = oneshot::channel();
    // Ended by the committer: a caller that goes away leaves a commit that is still under way.
    shared.ledger.commit_waits();
    if shared.pending.send(Pending { message, reply }).is_err() {
        shared.ledger.commit_answered();
        return Err(EnqueueError::stopped());
    }
    tokio::select! {
        answer = answer => answer.unwrap_or_else(|_| Err(EnqueueError::stopped())),
        () = shared.stop.cancelled() => Err(EnqueueError::stopped()),
    }
}

/// One of several committers. Whoever comes first takes what waits; what comes while all are at it
/// waits for the next, so groups grow with the load and there is no timer.
pub(super) async fn run(
    shared: Arc<Shared>,
    lane: u16,
    pending: Arc<Mutex<mpsc::UnboundedReceiver<Pending>>>,
) {
    let mut committer = Committer { shared, lane, n: 0 };
    loop {
        let Some(group) = committer.gather(&pending).await else {
            return;
        };
        committer.commit(group).await;
    }
}

struct Committer {
    shared: Arc<Shared>,
    lane: u16,
    n: u64,
}

#[derive(Default)]
struct Group {
    messages: Vec<NewMessage>,
    replies: Vec<Reply>,
}

type Reply = oneshot::Sender<Result<(), EnqueueError>>;

/// What became of a group that was submitted.
enum Submitted {
    All,
    /// Nothing of it is there: the body of this one is not.
    Not(MessageId),
}

impl Committer {
    async fn gather(&self, pending: &Mutex<mpsc::UnboundedReceiver<Pending>>) -> Option<Group> {
        let settings = &self.shared.settings;
        let mut pending = pending.lock().await;
        let mut next = Some(pending.recv().await?);
        // Sessions that were answered together come back together: whoever can run now gets to
        // hand in its message before the first one is off alone.
        everybody_else().await;
        let mut group = Group::default();
        let mut octets = 0;
        while let Some(Pending { message, reply }) = next {
            octets += message.content.iter().map(bytes::Bytes::len).sum::<usize>();
            group.messages.push(message);
            group.replies.push(reply);
            let has_room =
                group.messages.len() < settings.commit_messages && octets < settings.commit_octets;
            next = has_room.then(|| pending.try_recv().ok()).flatten();
        }
        Some(group)
    }

    async fn commit(&mut self, group: Group) {
        let shared = Arc::clone(&self.shared);
        let Group { messages, replies } = group;
        shared
            .cache
            .committing(messages.iter().map(|message| message.id));
        let (messages, replies, result) = self.submit_complete(messages, replies).await;
        match &result {
            Ok(()) => {
                shared.cache.insert(messages.into_iter().map(|message| {
                    let NewMessage {
                        id,
                        header,
                        content,
                    } = message;
                    (id, Record { header, content })
                }));
                shared.inbox.nudge();
            }
            Err(_) => shared
                .cache
                .forget(messages.iter().map(|message| message.id)),
        }
        for reply in replies {
            // The client may have gone; its message is in the queue all the same.
            let _ = reply.send(result.clone());
            shared.ledger.commit_answered();
        }
    }

    /// Submits those of the group whose bodies are whole: the others are answered here.
    async fn submit_complete(
        &mut self,
        mut messages: Vec<NewMessage>,
        mut replies: Vec<Reply>,
    ) -> (Vec<NewMessage>, Vec<Reply>, Result<(), EnqueueError>) {
        while !messages.is_empty() {
            let incomplete = match self.submit(&messages).await {
                Ok(Submitted::All) => return (messages, replies, Ok(())),
                Ok(Submitted::Not(incomplete)) => incomplete,
                Err(error) => return (messages, replies, Err(error)),
            };
            let position = messages.iter().position(|message| message.id == incomplete);
            let Some(position) = position else {
                let error = QueueError::Incomplete(incomplete);
                return (messages, replies, Err(EnqueueError::of(error)));
            };
            messages.swap_remove(position);
            self.shared.cache.forget([incomplete]);
            let _ = replies
                .swap_remove(position)
                .send(Err(EnqueueError::BodyLost));
            self.shared.ledger.commit_answered();
        }
        (messages, replies, Ok(()))
    }

    /// Submits the group, again only when it surely did not run.
    async fn submit(&mut self, messages: &[NewMessage]) -> Result<Submitted, EnqueueError> {
        let shared = Arc::clone(&self.shared);
        let give_up = Instant::now() + shared.settings.timing.beat;
        loop {
            let worker = match shared.lease.current() {
                Some(worker) => worker,
                // Asked for already and not answered: the client need not wait to hear it.
                None if shared.status.borrow().error.is_some() => return Err(shared.unavailable()),
                None => tokio::time::timeout_at(give_up, shared.lease.member())
                    .await
                    .map_err(|_| shared.unavailable())?,
            };
            // Whatever becomes of the call: what was not written may have used its number up.
            self.n += 1;
            let call = Call {
                worker,
                lane: self.lane,
                n: self.n,
            };
            match shared.queue.enqueue(call, messages).await {
                Ok(Taken::Ran(())) => return Ok(Submitted::All),
                Ok(Taken::Expired) => {
                    tokio::time::timeout_at(give_up, shared.lease.renew(worker))
                        .await
                        .map_err(|_| shared.unavailable())?;
                }
                Ok(Taken::Reaped) => {
                    shared.lease.reaped(worker);
                }
                Err(QueueError::Incomplete(message)) => return Ok(Submitted::Not(message)),
                Err(
                    error @ (QueueError::Full(_)
                    | QueueError::NotDurable(_)
                    | QueueError::Unreachable(_)),
                ) => return Err(EnqueueError::of(error)),
                Ok(Taken::Refused) => {
                    return Err(self
                        .take_back(call, messages, "the call's number is used up")
                        .await);
                }
                Err(error) => {
                    let why = error.to_string();
                    return Err(self.take_back(call, messages, &why).await);
                }
            }
        }
    }

    /// Nobody knows whether `call` ran or is still going to. A duplicate beats a loss, but mostly
    /// there need be neither: the messages are taken back and the call is barred.
    async fn take_back(&self, call: Call, messages: &[NewMessage], why: &str) -> EnqueueError {
        tracing::warn!(
            error = why,
            messages = messages.len(),
            "outcome of a commit is unknown"
        );
        let shared = Arc::clone(&self.shared);
        let handles: Vec<(MessageId, Vec<Handle>)> = messages
            .iter()
            .map(|message| (message.id, handles(message)))
            .collect();
        // The caller hears soon, the taking back goes on.
        let aborting = shared.tasks.spawn({
            let shared = Arc::clone(&shared);
            async move {
                tokio::select! {
                    () = abort(&shared, call, &handles) => {}
                    () = shared.stop.cancelled() => {}
                }
            }
        });
        let patience = shared.settings.timing.beat;
        let _ = tokio::time::timeout(patience, aborting).await;
        EnqueueError::Unavailable(why.to_owned())
    }
}

async fn abort(shared: &Shared, call: Call, messages: &[(MessageId, Vec<Handle>)]) {
    // Past the lease the lane is barred by the reaper.
    let give_up = Instant::now() + shared.settings.timing.lease;
    let mut failures = 0;
    for (message, handles) in messages {
        loop {
            match shared.queue.abort(call, *message, handles).await {
                Ok(Aborted::Gone) => break,
                Ok(Aborted::Held) => {
                    tracing::warn!(queue_id = %message, "refused a message that is on its way: a duplicate is possible");
                    break;
                }
                Err(error) if Instant::now() >= give_up => {
                    tracing::warn!(queue_id = %message, %error, "could not take back a refused message: a duplicate is possible");
                    break;
                }
                Err(_) => {}
            }
            shared.back_off(failures).await;
            failures += 1;
        }
    }
}

fn handles(message: &NewMessage) -> Vec<Handle> {
    (0..)
        .zip(&message.header.tasks)
        .map(|(ordinal, task)| Handle::new(TaskId::new(message.id, ordinal), task.queue.clone()))
        .collect()
}

impl EnqueueError {
    fn stopped() -> Self {
        Self::Unavailable("the worker has been stopped".to_owned())
    }

    pub(super) fn of(error: QueueError) -> Self {
        match error {
            QueueError::Full(why) => Self::Full(why),
            QueueError::NotDurable(why) => Self::NotDurable(why),
            QueueError::Incomplete(_) => Self::BodyLost,
            QueueError::Unreachable(why) => Self::Unavailable(why),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl Shared {
    fn unavailable(&self) -> EnqueueError {
        let error = self.status.borrow().error.clone();
        EnqueueError::Unavailable(error.unwrap_or_else(|| "not registered yet".to_owned()))
    }
}
