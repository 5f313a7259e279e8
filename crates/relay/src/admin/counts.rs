//! The queue's counts, asked for when somebody wants to see them, and not more than once a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use queue::operation::Counts;
use queue::worker::Worker;
use tokio::time::Instant;

pub(crate) struct RecentCounts {
    worker: Worker,
    /// Held while asking, so that everybody who comes meanwhile gets the same answer.
    asking: tokio::sync::Mutex<()>,
    last: Mutex<Option<(Instant, Option<Counts>)>>,
}

impl RecentCounts {
    pub(crate) fn new(worker: Worker) -> Self {
        Self {
            worker,
            asking: tokio::sync::Mutex::new(()),
            last: Mutex::new(None),
        }
    }

    /// Asks the queue, unless the last answer is fresh. `None` when it does not answer in time.
    pub(crate) async fn refresh(&self) -> Option<Counts> {
        let _asking = self.asking.lock().await;
        if let Some((at, counts)) = self.last()
            && at.elapsed() < FRESH
        {
            return counts;
        }
        let answer = tokio::time::timeout(PATIENCE, self.worker.counts()).await;
        let counts = answer.ok().and_then(Result::ok);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), counts));
        counts
    }

    /// What the last refresh brought.
    pub(crate) fn latest(&self) -> Option<Counts> {
        self.last().and_then(|(_, counts)| counts)
    }

    fn last(&self) -> Option<(Instant, Option<Counts>)> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const FRESH: Duration = Duration::from_secs(1);
/// The operator and Prometheus wait longer.
const PATIENCE: Duration = Duration::from_secs(2);
