use std::sync::Arc;

use super::Shared;
use crate::QueueError;
use crate::id::{Handle, MessageId, TaskId};
use crate::record::Record;

/// Finds messages that have outlived their lifetime where they wait, and has their tasks claimed
/// by name: mail that cannot be claimed in turn gets its bounce all the same. Tasks that are
/// claimed expire with their owner.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(shared.settings.timing.beat).await;
        if let Err(error) = look(&shared).await {
            tracing::debug!(%error, "expired messages could not be looked for");
        }
    }
}

async fn look(shared: &Shared) -> Result<(), QueueError> {
    loop {
        let fresh = shared.lease.is_fresh() && shared.lease.current().is_some();
        // What this process found before comes first; others look as well.
        if !fresh || !shared.inbox.is_claiming() || shared.inbox.waits_for_named() {
            return Ok(());
        }
        let messages = shared.queue.expiring(MESSAGES_PER_CALL).await?;
        if messages.is_empty() {
            return Ok(());
        }
        let records = shared.queue.read(&messages).await?;
        for (message, record) in messages.iter().zip(records) {
            match record {
                Some(Ok(record)) => {
                    shared.inbox.claim_by_name(handles(*message, &record));
                    shared.cache.insert([(*message, record)]);
                }
                Some(Err(error)) => {
                    tracing::warn!(queue_id = %message, %error, "an expired message cannot be read");
                }
                // Its last task has just been settled.
                None => {}
            }
        }
        if messages.len() < usize::from(MESSAGES_PER_CALL) {
            return Ok(());
        }
    }
}

fn handles(message: MessageId, record: &Record) -> impl Iterator<Item = Handle> {
    (0..)
        .zip(&record.header.tasks)
        .map(move |(ordinal, task)| Handle::new(TaskId::new(message, ordinal), task.queue.clone()))
}

/// Each comes with its whole record, for the notification returns the content.
const MESSAGES_PER_CALL: u16 = 8;
