//! What a message costs the queue in a file, and the scheduler alone: sessions wait for their
//! confirmation, committers take whatever waits, dispatchers claim, begin and settle.
//!
//! `cargo bench -p queue --bench cycle [-- messages [octets [folder]]]` prints a line for each case
//! and ends with an error when the budget is missed.
#![allow(
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "figures are small, and shown"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use queue::Queue;
use queue::embedded::EmbeddedQueue;
use queue::id::{Call, MessageId, QueueId, WorkerId};
use queue::model::{ModelQueue, WallClock};
use queue::operation::{Claim, Next, Rest, Settlement, Taken, Timing};
use queue::record::{Body, Form, Header, NewMessage, Recipient, Task};
use tokio::sync::{Mutex, mpsc, oneshot};

/// Durable cycles a second of the queue in a file.
const BUDGET: f64 = 20_000.0;
const SESSIONS: usize = 200;
const COMMITTERS: u16 = 4;
const DISPATCHERS: u16 = 2;
const BATCH: usize = 32;

fn main() -> ExitCode {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let mut number = |or| {
        arguments
            .next()
            .map_or(or, |text| text.parse().expect("a number"))
    };
    let (messages, octets) = (number(100_000), number(10_240));
    let folder = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder).expect("a folder");

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let model = ModelQueue::new(&TIMING, WallClock::system());
    report(
        "model",
        &runtime.block_on(run(Arc::new(model), messages, octets)),
    );
    let path = folder.path().join("queue.redb");
    let embedded = EmbeddedQueue::open(&path, &TIMING).expect("a new file");
    let cycle = runtime.block_on(run(Arc::new(embedded), messages, octets));
    report("embedded", &cycle);
    println!(
        "file {} MiB",
        path.metadata().expect("the file").len() >> 20
    );
    if cycle.rate >= BUDGET {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

struct Cycle {
    rate: f64,
    cpu_us: f64,
    batch: f64,
    grant: f64,
    /// Median and 99th percentile from submission to confirmation.
    confirmed: [Duration; 2],
}

fn report(name: &str, cycle: &Cycle) {
    println!(
        "{name}: {:.0} cycles/s, {:.1} us CPU a message, {:.1} messages a batch, {:.1} tasks a \
         grant, confirmed in {:.2?} p50 {:.2?} p99",
        cycle.rate, cycle.cpu_us, cycle.batch, cycle.grant, cycle.confirmed[0], cycle.confirmed[1],
    );
}

#[derive(Default)]
struct Tally {
    batches: AtomicUsize,
    grants: AtomicUsize,
    settled: AtomicUsize,
}

type Submitted = (NewMessage, oneshot::Sender<()>);

async fn run(queue: Arc<dyn Queue>, messages: usize, octets: usize) -> Cycle {
    let worker = WorkerId::random();
    queue.register(worker).await.expect("a new worker");
    let tally = Arc::new(Tally::default());
    let (cpu, started) = (cpu_time(), Instant::now());
    let (submit, submitted) = mpsc::channel::<Submitted>(SESSIONS);
    let submitted = Arc::new(Mutex::new(submitted));
    let mut tasks = Vec::new();
    for lane in 0..COMMITTERS {
        let call = Call { worker, lane, n: 0 };
        tasks.push(tokio::spawn(commit(
            queue.clone(),
            call,
            submitted.clone(),
            tally.clone(),
        )));
    }
    for lane in COMMITTERS..COMMITTERS + DISPATCHERS {
        let call = Call { worker, lane, n: 0 };
        tasks.push(tokio::spawn(dispatch(
            queue.clone(),
            call,
            messages,
            tally.clone(),
        )));
    }
    let body = Bytes::from(vec![b'x'; octets]);
    let next = Arc::new(AtomicUsize::new(0));
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        let (submit, body, next) = (submit.clone(), body.clone(), next.clone());
        sessions.push(tokio::spawn(async move {
            let mut waits = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= messages {
                    return waits;
                }
                let (confirm, confirmed) = oneshot::channel();
                let since = Instant::now();
                submit
                    .send((message(index, &body), confirm))
                    .await
                    .expect("committers");
                confirmed.await.expect("a confirmation");
                waits.push(since.elapsed());
            }
        }));
    }
    drop(submit);
    let mut waits = Vec::with_capacity(messages);
    for session in sessions {
        waits.append(&mut session.await.expect("no panic"));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    waits.sort_unstable();
    let count = messages as f64;
    Cycle {
        rate: count / started.elapsed().as_secs_f64(),
        cpu_us: (cpu_time() - cpu).as_secs_f64() * 1e6 / count,
        batch: count / tally.batches.load(Ordering::Relaxed) as f64,
        grant: count / tally.grants.load(Ordering::Relaxed) as f64,
        confirmed: [waits[waits.len() / 2], waits[waits.len() * 99 / 100]],
    }
}

async fn commit(
    queue: Arc<dyn Queue>,
    mut call: Call,
    submitted: Arc<Mutex<mpsc::Receiver<Submitted>>>,
    tally: Arc<Tally>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if submitted.lock().await.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        let (messages, confirms): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        call.n += 1;
        let taken = queue.enqueue(call, &messages).await.expect("a commit");
        assert_eq!(taken, Taken::Ran(()));
        tally.batches.fetch_add(1, Ordering::Relaxed);
        for confirm in confirms {
            confirm.send(()).expect("a session that waits");
        }
    }
}

async fn dispatch(queue: Arc<dyn Queue>, call: Call, messages: usize, tally: Arc<Tally>) {
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
        }
        let delivered = handles.into_iter().map(|handle| Settlement {
            handle,
            delivered: vec![0],
            failed: vec![],
            recipients: 1,
            rest: Rest::None,
            notification: None,
        });
        next.settlements = delivered.collect();
    }
}

fn message(index: usize, body: &Bytes) -> NewMessage {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&(index as u64).to_be_bytes());
    let domain = format!("d{}.example", index % 20);
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
            },
        },
        content: vec![body.clone()],
    }
}

const TIMING: Timing = Timing {
    lease: Duration::from_secs(300),
    beat: Duration::from_secs(50),
    claim: Duration::from_secs(120),
    begun: Duration::from_secs(1800),
    safety_wake: Duration::from_secs(30),
};

/// User and system time of this process.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
