//! A large message on its way into the queue, of which little more than a chunk is held at a time.

use bytes::{Bytes, BytesMut};
use queue::id::MessageId;
use queue::record::{Body, CHUNK};
use queue::worker::{EnqueueError, Worker};

use super::intake::Head;
use crate::body::Describing;

/// Chunks that are put aside until the message is enqueued. Dropped before that, it has them dropped.
pub(super) struct Upload {
    pub(super) head: Head,
    worker: Worker,
    describing: Describing,
    chunk: BytesMut,
    /// Of the next chunk.
    number: u32,
    is_enqueued: bool,
}

impl Upload {
    /// Begins with the trace fields.
    pub(super) fn new(mut head: Head, worker: Worker) -> Self {
        let trace = std::mem::take(&mut head.trace);
        let mut upload = Self {
            head,
            worker,
            describing: Describing::default(),
            chunk: BytesMut::new(),
            number: 0,
            is_enqueued: false,
        };
        for piece in trace.into_chunks() {
            upload.describing.add(&piece);
            upload.chunk.extend_from_slice(&piece);
        }
        upload
    }

    pub(super) fn id(&self) -> MessageId {
        self.head.id
    }

    /// Octets so far.
    pub(super) fn stored(&self) -> u64 {
        self.describing.stored()
    }

    /// Takes a part, and puts every chunk aside that it fills.
    pub(super) async fn add(&mut self, part: Vec<Bytes>) -> Result<(), EnqueueError> {
        for mut piece in part {
            self.describing.add(&piece);
            while !piece.is_empty() {
                if self.chunk.capacity() < CHUNK {
                    self.chunk.reserve(CHUNK - self.chunk.len());
                }
                let fits = piece.split_to(piece.len().min(CHUNK - self.chunk.len()));
                self.chunk.extend_from_slice(&fits);
                if self.chunk.len() == CHUNK {
                    self.stage().await?;
                }
            }
        }
        Ok(())
    }

    /// Puts the rest aside.
    pub(super) async fn finish(&mut self) -> Result<Body, EnqueueError> {
        if !self.chunk.is_empty() {
            self.stage().await?;
        }
        Ok(std::mem::take(&mut self.describing).finish())
    }

    /// The chunks belong to a message from now on.
    pub(super) fn enqueued(&mut self) {
        self.is_enqueued = true;
    }

    async fn stage(&mut self) -> Result<(), EnqueueError> {
        let chunk = std::mem::take(&mut self.chunk).freeze();
        let number = self.number;
        self.number += 1;
        self.worker.stage(self.id(), number, chunk).await
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.is_enqueued && self.number > 0 {
            self.worker.unstage(self.id());
        }
    }
}
