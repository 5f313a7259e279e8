//! What a record says of its content, and of the chunks that hold it where it is large.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::MessageId;
use crate::queue::{Queue, QueueError};

/// Content of up to about this many octets follows the header of its record; larger content is in
/// chunks.
pub const INLINE: usize = 256 << 10;

/// Octets of every chunk but the last. What an allocator adds to a value of 512 KiB takes it over a
/// size class, which costs a quarter more in Redis and as much again in the embedded file; 4 KiB
/// less, it costs nothing.
pub const CHUNK: usize = 508 << 10;

/// Far above what any configuration takes: of a record that is not what it seems to be.
const MAX_CHUNKS: u32 = 4096;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Body {
    pub form: Form,
    /// Octets stored, after the header or in chunks.
    pub stored: u64,
    /// Octets of the raw (un-stuffed) form.
    pub size: u64,
    /// SHA-256 of the raw form, hex.
    pub sha256: String,
    /// Declared with BODY=8BITMIME, or found to hold octets above 127.
    #[serde(default)]
    pub eight_bit: bool,
    /// How many chunks hold the content; 0 where it follows the header.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub chunks: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Form {
    /// Came by DATA: dot-stuffed, without the terminating dot line.
    DotStuffed,
    /// Came by BDAT or HTTP.
    Raw,
}

/// Why a chunk of a body cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    #[error("chunk {0} of the body is missing")]
    Missing(u32),
    #[error("chunk {number} of the body has {found} octets instead of {expected}")]
    Length {
        number: u32,
        found: usize,
        expected: usize,
    },
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Body {
    /// Octets that follow the header of the record.
    pub fn inline(&self) -> u64 {
        if self.chunks == 0 { self.stored } else { 0 }
    }

    /// How many chunks content of `stored` octets makes.
    pub fn chunks_of(stored: u64) -> u32 {
        u32::try_from(stored.div_ceil(CHUNK as u64)).unwrap_or(u32::MAX)
    }

    /// Whether the number of chunks is that of the octets.
    pub(super) fn is_consistent(&self) -> bool {
        self.chunks == 0 || self.chunks <= MAX_CHUNKS && self.chunks == Self::chunks_of(self.stored)
    }

    /// Octets of chunk `number`, from 0.
    fn length_of(&self, number: u32) -> usize {
        let before = u64::from(number) * CHUNK as u64;
        self.stored.saturating_sub(before).min(CHUNK as u64) as usize
    }

    /// Reads one chunk of the content of `message`, from 0, and sees to it that it is whole.
    ///
    /// # Errors
    /// [`ChunkError::Missing`] and [`ChunkError::Length`] where what is stored is not what the record
    /// says, [`ChunkError::Queue`] where it cannot be read now.
    pub async fn chunk(
        &self,
        queue: &dyn Queue,
        message: MessageId,
        number: u32,
    ) -> Result<Bytes, ChunkError> {
        let chunk = queue.read_chunk(message, number).await?;
        let chunk = chunk.ok_or(ChunkError::Missing(number))?;
        let expected = self.length_of(number);
        if number >= self.chunks || chunk.len() != expected {
            return Err(ChunkError::Length {
                number,
                found: chunk.len(),
                expected,
            });
        }
        Ok(chunk)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(chunks: &u32) -> bool {
    *chunks == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_the_octets() {
        let chunk = CHUNK as u64;
        for (stored, lengths) in [
            (1, &[1][..]),
            (chunk, &[CHUNK]),
            (chunk + 1, &[CHUNK, 1]),
            (3 * chunk - 1, &[CHUNK, CHUNK, CHUNK - 1]),
        ] {
            let body = Body {
                form: Form::DotStuffed,
                stored,
                size: stored,
                sha256: String::new(),
                eight_bit: false,
                chunks: Body::chunks_of(stored),
            };
            let found: Vec<_> = (0..body.chunks)
                .map(|number| body.length_of(number))
                .collect();
            assert_eq!(found, lengths, "{stored}");
            assert_eq!(body.length_of(body.chunks), 0);
            assert!(body.is_consistent());
            for chunks in [body.chunks - 1, body.chunks + 1] {
                let other = Body {
                    chunks,
                    ..body.clone()
                };
                assert_eq!(other.is_consistent(), chunks == 0, "{stored}: {chunks}");
            }
        }
    }
}
