//! How many large messages are under way at once: with what each may hold, that is what all of them
//! together take of a pod's memory.

use std::sync::Arc;
use std::time::Duration;

use queue::record::{CHUNK, INLINE};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Refused, queue_full};

/// Room for large messages.
#[derive(Debug)]
pub(crate) struct Uploads(Arc<Semaphore>);

/// Room for one, until it is dropped.
#[derive(Debug)]
pub(super) struct Reservation(#[allow(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Uploads {
    /// As many as `octets` of memory allow, one at least.
    pub(crate) fn within(octets: usize) -> Self {
        Self(Arc::new(Semaphore::new((octets / EACH).max(1))))
    }

    /// At once, for a client that has said how much it is going to send.
    pub(super) fn reserve(&self) -> Result<Reservation, Refused> {
        let permit = Arc::clone(&self.0).try_acquire_owned();
        permit.map(Reservation).map_err(|_| queue_full())
    }

    /// For one that has not: it is not read from meanwhile.
    pub(super) async fn wait(&self) -> Result<Reservation, Refused> {
        let permit = Arc::clone(&self.0).acquire_owned();
        match tokio::time::timeout(PATIENCE, permit).await {
            Ok(Ok(permit)) => Ok(Reservation(permit)),
            Ok(Err(_)) | Err(_) => Err(queue_full()),
        }
    }
}

impl Default for Uploads {
    fn default() -> Self {
        Self::within(OCTETS)
    }
}

/// Of all large messages that are under way.
const OCTETS: usize = 64 << 20;
/// The chunk that is being filled or written, its copy on the way, and what has been read for the
/// next.
const EACH: usize = 2 * CHUNK + INLINE;
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn room_is_bounded_and_comes_back() {
        let uploads = Uploads::within(2 * EACH + 1);
        let (first, second) = (uploads.reserve().unwrap(), uploads.wait().await.unwrap());
        assert_eq!(uploads.reserve().unwrap_err().1.code().value(), 452);
        // Who has begun waits a while, and then hears the same.
        assert_eq!(uploads.wait().await.unwrap_err().1.code().value(), 452);
        drop(first);
        let third = uploads.reserve().unwrap();
        let waiting = uploads.wait();
        drop((second, third));
        assert!(waiting.await.is_ok());
        assert!(Uploads::within(0).reserve().is_ok(), "one at least");
    }
}
