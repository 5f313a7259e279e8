//! The back ends under test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use queue::embedded::EmbeddedQueue;
use queue::id::MessageId;
use queue::model::{ModelQueue, Remains};
use queue::operation::{Beat, Counts, HeldExpiry, Limits, Rate};
use queue::record::Record;
use queue::{Queue, RecordError};
use tempfile::TempDir;

use crate::caller::Caller;
use crate::clock::Clock;
use crate::redis_fixture::{JOURNAL_KEEPS, TIMING};

mod served;

pub(crate) use served::Served;

/// An empty queue of one kind, whose time is the test's.
pub(crate) trait Harness: Sized {
    fn start() -> Self;

    fn queue(&self) -> Arc<dyn Queue>;

    fn clock(&self) -> &Clock;

    /// How much is left of everything that has an owner who must delete it.
    async fn remains(&self) -> Remains;

    /// Returns when all that was done is written.
    async fn written(&self) {}

    async fn read(&self, messages: &[MessageId]) -> Vec<Option<Result<Record, RecordError>>> {
        // The record of a message that has just ended may still be there.
        self.written().await;
        self.queue().read(messages).await.expect("records")
    }

    fn pass(&self, time: Duration) {
        self.clock().advance(time);
    }

    async fn caller(&self) -> Caller {
        Caller::register(self.queue()).await
    }

    async fn counts(&self) -> Counts {
        self.queue().counts().await.expect("counts")
    }

    /// Tasks that are due, that wait for their time, that are claimed.
    async fn places(&self) -> (u64, u64, u64) {
        let counts = self.counts().await;
        (counts.ready, counts.deferred, counts.in_flight)
    }

    /// New limits: of every site, and of some.
    async fn limit(&self, default: u32, sites: &[(&str, u32)]) {
        let sites = sites.iter();
        self.write(Limits {
            concurrency_default: default,
            concurrency: sites
                .map(|(domain, limit)| (format!("mx:{domain}"), *limit))
                .collect(),
            ..Limits::default()
        })
        .await;
    }

    /// New rates by site, and a limit of every site.
    async fn pace(&self, concurrency: u32, sites: &[(&str, Rate)]) {
        let sites = sites.iter();
        self.write(Limits {
            concurrency_default: concurrency,
            rates: sites
                .map(|(domain, rate)| (format!("mx:{domain}"), *rate))
                .collect(),
            ..Limits::default()
        })
        .await;
    }

    /// New weights of tenants.
    async fn weigh(&self, tenants: &[(&str, u32)]) {
        let tenants = tenants.iter();
        self.write(Limits {
            concurrency_default: 20,
            weights: tenants
                .map(|(tenant, weight)| ((*tenant).to_owned(), *weight))
                .collect(),
            ..Limits::default()
        })
        .await;
    }

    /// Whether held mail is to be kept beyond its lifetime.
    async fn keep_held(&self) {
        self.write(Limits {
            concurrency_default: 20,
            held: HeldExpiry::Keep,
            ..Limits::default()
        })
        .await;
    }

    /// As the newest generation.
    async fn write(&self, limits: Limits) {
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        let limits = Limits {
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
            ..limits
        };
        self.queue().set_limits(&limits).await.expect("limits");
    }

    /// Time passes while these workers beat. How many claims they took back.
    async fn live(&self, workers: &[&Caller], time: Duration) -> u32 {
        let mut taken_back = 0;
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(TIMING.beat);
            self.pass(step);
            left -= step;
            for worker in workers {
                taken_back += worker.beat_until_drained().await;
            }
        }
        taken_back
    }

    /// Everybody but `survivor` has stopped: it finds out and takes back what they held.
    async fn outlive(&self, survivor: &Caller) -> u32 {
        self.live(&[survivor], TIMING.lease * 2).await
    }
}

pub(crate) struct Model {
    clock: Clock,
    queue: Arc<ModelQueue>,
}

impl Harness for Model {
    fn start() -> Self {
        Self::by(Clock::new())
    }

    fn queue(&self) -> Arc<dyn Queue> {
        self.queue.clone()
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }

    async fn remains(&self) -> Remains {
        self.queue.remains()
    }
}

impl Model {
    pub(crate) fn by(clock: Clock) -> Self {
        let queue = Arc::new(ModelQueue::new(&TIMING, clock.wall()));
        queue.keep_journal(JOURNAL_KEEPS);
        Self { clock, queue }
    }
}

pub(crate) struct Embedded {
    clock: Clock,
    queue: Arc<EmbeddedQueue>,
    _directory: TempDir,
}

impl Harness for Embedded {
    fn start() -> Self {
        Self::by(Clock::new())
    }

    fn queue(&self) -> Arc<dyn Queue> {
        self.queue.clone()
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }

    async fn remains(&self) -> Remains {
        self.queue.remains().await.expect("a file that can be read")
    }

    async fn written(&self) {
        self.remains().await;
    }
}

impl Embedded {
    pub(crate) fn by(clock: Clock) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("queue");
        let queue = EmbeddedQueue::open_with(&path, &TIMING, clock.wall()).expect("a new file");
        queue.keep_journal(JOURNAL_KEEPS);
        Self {
            clock,
            queue: Arc::new(queue),
            _directory: directory,
        }
    }
}

impl Caller {
    async fn beat_until_drained(&self) -> u32 {
        let mut taken_back = 0;
        loop {
            match self.beat().await {
                Beat::Renewed { reaped, more, .. } => {
                    taken_back += reaped;
                    if !more {
                        return taken_back;
                    }
                }
                Beat::Reaped => panic!("a worker that beats in time was reaped"),
            }
        }
    }
}
