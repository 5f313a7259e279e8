//! What the benchmarks of a cycle put on a queue: messages of one recipient, and dispatchers that
//! claim, begin and settle.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use queue::Queue;
use queue::id::{Call, MessageId, QueueId};
use queue::operation::{Claim, Next, Rest, Settlement, Taken, Timing};
use queue::record::{Body, Form, Header, NewMessage, Recipient, Task};

pub(crate) const TIMING: Timing = Timing {
    lease: Duration::from_secs(300),
    beat: Duration::from_secs(50),
    claim: Duration::from_secs(120),
    begun: Duration::from_secs(1800),
    safety_wake: Duration::from_secs(30),
};

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) commits: AtomicUsize,
    /// Round trips of dispatchers.
    pub(crate) dispatches: AtomicUsize,
    pub(crate) grants: AtomicUsize,
    pub(crate) settled: AtomicUsize,
}

/// Works until `messages` have been settled, by all dispatchers together. Tells `settled` how many
/// each call has settled.
pub(crate) async fn dispatch(
    queue: Arc<dyn Queue>,
    call: Call,
    messages: usize,
    tally: Arc<Tally>,
    settled: impl Fn(usize),
) {
    let claim = Claim {
        grants: 20,
        tasks_per_grant: 8,
        withheld: vec![],
        by_name: vec![],
    };
    let mut next = Next {
        call,
        settlements: vec![],
        releases: vec![],
        claim: Some(claim),
    };
    while tally.settled.load(Ordering::Relaxed) < messages {
        next.call.n += 1;
        let Taken::Ran(reply) = queue.next(&next).await.expect("a reply") else {
            panic!("a lane of its own is never refused")
        };
        assert!(reply.stale.is_empty());
        tally
            .settled
            .fetch_add(next.settlements.len(), Ordering::Relaxed);
        settled(next.settlements.len());
        tally.dispatches.fetch_add(1, Ordering::Relaxed);
        tally
            .grants
            .fetch_add(reply.grants.len(), Ordering::Relaxed);
        next.releases = reply.grants.iter().map(|grant| grant.slot).collect();
        let tasks = reply.grants.into_iter().flat_map(|grant| grant.tasks);
        let handles: Vec<_> = tasks.map(|task| task.handle).collect();
        if handles.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        } else {
            queue.begin(call.worker, &handles).await.expect("begun");
            tally.dispatches.fetch_add(1, Ordering::Relaxed);
        }
        let delivered = handles.into_iter().map(|handle| Settlement {
            handle,
            delivered: vec![0],
            failed: vec![],
            recipients: 1,
            rest: Rest::None,
            notification: None,
            journal: Bytes::new(),
        });
        next.settlements = delivered.collect();
    }
}

/// To one of `queues` domains.
pub(crate) fn message(index: usize, queues: usize, body: &Bytes) -> NewMessage {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&(index as u64).to_be_bytes());
    let domain = format!("d{}.example", index % queues);
    let queue = QueueId {
        tenant: "default".into(),
        class: String::new(),
        egress: String::new(),
        route: format!("mx:{domain}"),
    };
    let recipients = vec![Recipient {
        address: format!("user@{domain}"),
    }];
    NewMessage {
        id: MessageId::new(1_700_000_000_000, random),
        header: Header {
            reverse_path: "sender@example.org".into(),
            tenant: "default".into(),
            received_unix_ms: 1_700_000_000_000,
            lifetime_ms: 432_000_000,
            trace: None,
            accepted_by: "relay-0".into(),
            tasks: vec![Task { queue, recipients }],
            body: Body {
                form: Form::DotStuffed,
                stored: body.len() as u64,
                size: body.len() as u64,
                sha256: "0".repeat(64),
                eight_bit: false,
                chunks: 0,
            },
        },
        content: vec![body.clone()],
    }
}
