use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Shared;
use super::claim::{Fetched, RecordUnavailable};
use crate::QueueError;
use crate::id::{Handle, MessageId, WorkerId};
use crate::operation::Begun;

/// Tasks of one grant to be marked begun.
pub(super) struct Begin {
    pub(super) worker: WorkerId,
    pub(super) handles: Vec<Handle>,
    pub(super) ticket: watch::Sender<Option<Arc<BeginReply>>>,
}

pub(super) type Ticket = watch::Receiver<Option<Arc<BeginReply>>>;

pub(super) struct BeginReply {
    /// When the call was sent: deadlines count from then.
    pub(super) sent: Duration,
    /// Of the grant's handles, in order.
    pub(super) begun: Vec<Begun>,
}

/// A record that somebody waits for.
pub(super) struct Read {
    pub(super) message: MessageId,
    pub(super) reply: oneshot::Sender<Fetched>,
}

/// Begins what all grants ask for in as few calls as the pace makes of it.
pub(super) async fn run_begins(shared: Arc<Shared>, mut begins: mpsc::UnboundedReceiver<Begin>) {
    let mut last_call = None;
    while let Some(first) = begins.recv().await {
        keep_pace(&mut last_call, shared.settings.pace / 2).await;
        let worker = first.worker;
        let mut handles = Vec::new();
        let mut asked = Vec::new();
        let mut next = Some(first);
        let mut of_another_term = Vec::new();
        while let Some(begin) = next {
            if begin.worker == worker {
                handles.extend_from_slice(&begin.handles);
                asked.push(begin);
            } else {
                of_another_term.push(begin);
            }
            next = (handles.len() < BEGINS_PER_CALL)
                .then(|| begins.try_recv().ok())
                .flatten();
        }
        begin(&shared, worker, &handles, &asked).await;
        for other in of_another_term {
            begin(&shared, other.worker, &other.handles.clone(), &[other]).await;
        }
    }
}

/// Repeats the call, which changes nothing but the deadline, until it is answered or too late.
async fn begin(shared: &Shared, worker: WorkerId, handles: &[Handle], asked: &[Begin]) {
    let mut failures = 0;
    let (sent, begun) = loop {
        let sent = shared.settings.clock.now();
        if !shared.lease.is_trusted(worker) {
            break (sent, Vec::new());
        }
        match shared.queue.begin(worker, handles).await {
            Ok(begun) => break (sent, begun),
            Err(error) => tracing::debug!(%error, "begin was not answered"),
        }
        shared.back_off(failures).await;
        failures += 1;
    };
    let mut begun = begun.into_iter();
    for begin in asked {
        let of_grant = begun.by_ref().take(begin.handles.len()).collect();
        begin.ticket.send_replace(Some(Arc::new(BeginReply {
            sent,
            begun: of_grant,
        })));
    }
}

/// Reads what is asked for, several records a call.
pub(super) async fn run_reads(shared: Arc<Shared>, mut reads: mpsc::UnboundedReceiver<Read>) {
    let mut last_call = None;
    while let Some(first) = reads.recv().await {
        keep_pace(&mut last_call, shared.settings.pace / 2).await;
        let mut asked = vec![first];
        while asked.len() < READS_PER_CALL
            && let Ok(read) = reads.try_recv()
        {
            asked.push(read);
        }
        read(&shared, asked).await;
    }
}

async fn read(shared: &Shared, asked: Vec<Read>) {
    let messages: Vec<_> = asked.iter().map(|read| read.message).collect();
    let mut failures = 0;
    let records = loop {
        match shared.queue.read(&messages).await {
            Ok(records) => break records,
            // Claims do not outlive the lease, so nor does the wish to read for them.
            Err(error) if !shared.lease.is_fresh() => {
                for read in asked {
                    let _ = read.reply.send(Err(RecordUnavailable::unread(&error)));
                }
                return;
            }
            Err(error) => tracing::debug!(%error, "records could not be read"),
        }
        shared.back_off(failures).await;
        failures += 1;
    };
    let short = || RecordUnavailable::unread(&QueueError::Protocol("fewer records".to_owned()));
    let mut records = records.into_iter();
    for read in asked {
        let fetched = match records.next() {
            Some(Some(Ok(record))) => Ok(Arc::new(record)),
            Some(Some(Err(error))) => Err(RecordUnavailable::Undecodable(error)),
            Some(None) => Err(RecordUnavailable::Missing),
            None => Err(short()),
        };
        // Whoever asked may have gone.
        let _ = read.reply.send(fetched);
    }
}

/// Drops chunks of messages that were given up. What it cannot drop expires.
pub(super) async fn run_unstages(shared: Arc<Shared>, mut given_up: mpsc::Receiver<MessageId>) {
    while let Some(message) = given_up.recv().await {
        for failures in 0..UNSTAGE_ATTEMPTS {
            match shared.queue.unstage(message).await {
                Ok(()) => break,
                Err(error) => tracing::debug!(queue_id = %message, %error, "chunks are left"),
            }
            shared.back_off(failures).await;
        }
    }
}

/// Waits until `pace` has passed since the last call, and until whoever can run now has asked too:
/// nothing for the idle.
async fn keep_pace(last_call: &mut Option<Instant>, pace: Duration) {
    if let Some(last) = *last_call {
        tokio::time::sleep_until(last + pace).await;
    }
    everybody_else().await;
    *last_call = Some(Instant::now());
}

/// Gives a turn to everybody who can run. It takes no time when nobody can.
pub(super) async fn everybody_else() {
    for _ in 0..2 {
        tokio::task::yield_now().await;
    }
}

const BEGINS_PER_CALL: usize = 256;
const UNSTAGE_ATTEMPTS: u32 = 3;
/// Bounds the reply: content of a record is at most 256 KiB.
const READS_PER_CALL: usize = 8;
