use bytes::Bytes;

use super::Worker;
use crate::id::{Handle, MessageId};
use crate::operation::{Act, Acted, List, Page, Seen};
use crate::record::{Body, ChunkError, Header, Record};
use crate::{QueueError, RecordError};

/// What administrators ask of the queue. None of it is the business of this worker alone.
impl Worker {
    /// Some of the tasks there are.
    ///
    /// # Errors
    /// As the back end says; it may be repeated.
    pub async fn list(&self, list: &List) -> Result<Page, QueueError> {
        self.shared.queue.list(list).await
    }

    /// These tasks where they are; at most 500.
    ///
    /// # Errors
    /// As the back end says; it may be repeated.
    pub async fn look(&self, handles: &[Handle]) -> Result<Vec<Option<Seen>>, QueueError> {
        self.shared.queue.look(handles).await
    }

    /// What the records of these messages say of them.
    ///
    /// # Errors
    /// As the back end says; it may be repeated.
    pub async fn headers(
        &self,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Result<Header, RecordError>>>, QueueError> {
        self.shared.queue.headers(messages).await
    }

    /// The record of a message, with content that is not in chunks.
    ///
    /// # Errors
    /// As the back end says; it may be repeated.
    pub async fn record(
        &self,
        message: MessageId,
    ) -> Result<Option<Result<Record, RecordError>>, QueueError> {
        let records = self.shared.queue.read(&[message]).await?;
        Ok(records.into_iter().next().flatten())
    }

    /// One chunk of the content of `message`, from 0, whose record has this `body`.
    ///
    /// # Errors
    /// As [`Body::chunk`].
    pub async fn chunk(
        &self,
        body: &Body,
        message: MessageId,
        number: u32,
    ) -> Result<Bytes, ChunkError> {
        body.chunk(&*self.shared.queue, message, number).await
    }

    /// Does this to single tasks, at most 500; what became of each. Whatever may be claimed after that
    /// is looked for at once.
    ///
    /// # Errors
    /// As the back end says; it may be repeated.
    pub async fn act(&self, acts: &[Act]) -> Result<Vec<Acted>, QueueError> {
        let acted = self.shared.queue.act(acts).await?;
        self.shared.inbox.nudge();
        Ok(acted)
    }
}
