use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use queue::Queue;
use queue::id::{MessageId, QueueId};
use queue::model::{ModelQueue, WallClock};
use queue::operation::{Counts, Rest, Timing};
use queue::record::{Body, Form, Header, NewMessage, Recipient, Task};
use queue::worker::{Claim, Clock, Grant, Outcome, Settings, Work, Worker};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::faulty::Faulty;

pub(crate) const TIMING: Timing = Timing {
    lease: Duration::from_secs(30),
    beat: Duration::from_secs(5),
    claim: Duration::from_secs(120),
    begun: Duration::from_secs(1800),
    safety_wake: Duration::from_secs(30),
};

/// A queue and the workers at it.
pub(crate) struct World {
    pub(crate) queue: Arc<Faulty>,
    start: Instant,
}

impl World {
    pub(crate) fn new() -> Self {
        let start = Instant::now();
        let clock = WallClock::new(move || {
            1_700_000_000_000 + u64::try_from(start.elapsed().as_millis()).unwrap()
        });
        let model = Arc::new(ModelQueue::new(&TIMING, clock));
        Self {
            queue: Arc::new(Faulty::new(model)),
            start,
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        let start = self.start;
        Settings {
            clock: Clock::new(move || start.elapsed()),
            ..Settings::new(TIMING)
        }
    }

    /// A worker whose calls go through the faulty queue.
    pub(crate) fn worker(&self) -> Worker {
        self.worker_with(self.settings())
    }

    pub(crate) fn worker_with(&self, settings: Settings) -> Worker {
        let queue: Arc<dyn Queue> = self.queue.clone();
        Worker::start(queue, settings, CancellationToken::new())
    }

    /// Another pod's worker, at the same queue without faults.
    pub(crate) fn other_worker(&self) -> Worker {
        let queue: Arc<dyn Queue> = self.queue.model();
        Worker::start(queue, self.settings(), CancellationToken::new())
    }

    pub(crate) async fn counts(&self) -> Counts {
        self.queue.model().counts().await.unwrap()
    }

    /// Waits until `is` holds of the queue's counts.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Counts) -> bool) {
        for _ in 0..2000 {
            if is(&self.counts().await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{what}: {:?}", self.counts().await);
    }

    pub(crate) async fn until_empty(&self) {
        self.until("empty", |counts| {
            counts.ready + counts.deferred + counts.in_flight == 0
        })
        .await;
    }
}

/// A message to one recipient at `domain`.
pub(crate) fn message(domain: &str) -> NewMessage {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut random = [0; 10];
    random[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let content = Bytes::from_static(b"Subject: x\r\n\r\nx\r\n");
    let size = content.len() as u64;
    let task = |domain: &str| Task {
        queue: QueueId {
            tenant: "t".to_owned(),
            class: String::new(),
            egress: String::new(),
            route: format!("mx:{domain}"),
        },
        recipients: vec![Recipient {
            address: format!("r@{domain}"),
        }],
    };
    NewMessage {
        id: MessageId::new(1_700_000_000_000, random),
        header: Header {
            reverse_path: "s@example.com".to_owned(),
            tenant: "t".to_owned(),
            received_unix_ms: 1_700_000_000_000,
            lifetime_ms: 86_400_000,
            trace: None,
            accepted_by: String::new(),
            tasks: domain.split(' ').map(task).collect(),
            body: Body {
                form: Form::DotStuffed,
                stored: size,
                size,
                sha256: String::new(),
                eight_bit: false,
                chunks: 0,
            },
        },
        content: vec![content],
    }
}

/// The next grant, asked for.
pub(crate) async fn grant(worker: &Worker) -> Grant {
    worker.want(1);
    granted(worker).await
}

/// The next grant, asked for before.
pub(crate) async fn granted(worker: &Worker) -> Grant {
    let work = tokio::time::timeout(Duration::from_secs(300), worker.work()).await;
    match work.expect("work within five minutes") {
        Some(Work::Deliver(grant)) => grant,
        other => panic!("a grant, not {other:?}"),
    }
}

pub(crate) fn delivered() -> Outcome {
    Outcome {
        delivered: vec![0],
        failed: Vec::new(),
        recipients: 1,
        rest: Rest::None,
        notification: None,
        journal: Bytes::new(),
    }
}

pub(crate) fn deferred(due_in: Duration) -> Outcome {
    Outcome {
        delivered: Vec::new(),
        failed: Vec::new(),
        recipients: 1,
        rest: Rest::Deferred {
            due_in,
            notes: Bytes::from_static(b"{}"),
        },
        notification: None,
        journal: Bytes::new(),
    }
}

/// Does to a claim what a delivery does, and returns whether the last octet was allowed.
pub(crate) async fn deliver(grant: &mut Grant, mut claim: Claim) -> bool {
    claim.record().await.expect("a record");
    grant.begin(&mut claim);
    let allowed = claim.last_octet().await;
    if allowed {
        claim.settle(delivered());
    }
    allowed
}
