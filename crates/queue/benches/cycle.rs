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
use queue::id::{Call, WorkerId};
use queue::model::{ModelQueue, WallClock};
use queue::operation::Taken;
use queue::record::NewMessage;
use tokio::sync::{Mutex, mpsc, oneshot};

use load::{TIMING, Tally, dispatch, message};

mod load;

/// Durable cycles a second of the queue in a file.
const BUDGET: f64 = 20_000.0;
const SESSIONS: usize = 200;
const COMMITTERS: u16 = 4;
const DISPATCHERS: u16 = 2;
const BATCH: usize = 32;
const QUEUES: usize = 20;

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
            |_| {},
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
                    .send((message(index, QUEUES, &body), confirm))
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
        batch: count / tally.commits.load(Ordering::Relaxed) as f64,
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
        tally.commits.fetch_add(1, Ordering::Relaxed);
        for confirm in confirms {
            confirm.send(()).expect("a session that waits");
        }
    }
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
