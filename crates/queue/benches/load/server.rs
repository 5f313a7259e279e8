//! A pod's cycle on a real Redis, and what it cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use queue::Queue;
use queue::id::{Call, WorkerId};
use queue::operation::Taken;
use queue::record::NewMessage;
use queue::redis::{Locator, Redis, Settings};
use tokio::sync::{Semaphore, mpsc};

use crate::load::{TIMING, Tally, dispatch, message};
use crate::redis_server::RedisServer;

/// What a message cost, from its enqueue to its settlement.
pub(crate) struct Cycle {
    pub(crate) rate: f64,
    pub(crate) cpu_us: f64,
    pub(crate) own_cpu_us: f64,
    pub(crate) round_trips: f64,
    pub(crate) tasks_per_grant: f64,
}

pub(crate) fn open(server: &RedisServer) -> Arc<dyn Queue> {
    let locator = Locator::Url(server.url());
    let settings = Settings::new(locator, "bench".into(), "local".into(), TIMING);
    Arc::new(Redis::open(&settings).expect("settings that can be used"))
}

/// `messages` of 10 kB to `queues` domains, in batches and by dispatchers as many as a pod has.
/// Their numbers begin with `first_message`.
pub(crate) async fn cycle(
    server: &RedisServer,
    first_message: usize,
    messages: usize,
    queues: usize,
) -> Cycle {
    let queue = open(server);
    let worker = WorkerId::random();
    queue.register(worker).await.expect("a new worker");
    let tally = Arc::new(Tally::default());
    // As many as there are sessions that wait for their 250 or for delivery.
    let open = Arc::new(Semaphore::new(400));

    let (cpu, own_cpu, started) = (cpu_time(server), cpu_time_of("self"), Instant::now());
    let (batches, receiver) = mpsc::channel::<Vec<NewMessage>>(4);
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    let mut tasks = Vec::new();
    for lane in 1..=4 {
        tasks.push(tokio::spawn(commit(
            Arc::clone(&queue),
            worker,
            lane,
            Arc::clone(&receiver),
            Arc::clone(&tally),
        )));
    }
    for lane in 11..=12 {
        tasks.push(tokio::spawn(dispatch(
            Arc::clone(&queue),
            Call { worker, lane, n: 0 },
            messages,
            Arc::clone(&tally),
            {
                let open = Arc::clone(&open);
                move |settled| open.add_permits(settled)
            },
        )));
    }
    let body = Bytes::from(vec![b'x'; 10_240]);
    for first in (first_message..first_message + messages).step_by(BATCH) {
        open.acquire_many(BATCH as u32)
            .await
            .expect("open")
            .forget();
        let batch = (first..first + BATCH)
            .map(|index| message(index, queues, &body))
            .collect();
        batches.send(batch).await.expect("committers");
    }
    drop(batches);
    for task in tasks {
        task.await.expect("no panic");
    }
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed) as f64;
    let settled = count(&tally.settled);
    Cycle {
        rate: settled / started.elapsed().as_secs_f64(),
        cpu_us: (cpu_time(server) - cpu).as_secs_f64() * 1e6 / settled,
        own_cpu_us: (cpu_time_of("self") - own_cpu).as_secs_f64() * 1e6 / settled,
        round_trips: (count(&tally.commits) + count(&tally.dispatches)) / settled,
        tasks_per_grant: settled / count(&tally.grants),
    }
}

async fn commit(
    queue: Arc<dyn Queue>,
    worker: WorkerId,
    lane: u16,
    batches: Arc<tokio::sync::Mutex<mpsc::Receiver<Vec<NewMessage>>>>,
    tally: Arc<Tally>,
) {
    let mut n = 0;
    loop {
        let Some(batch) = batches.lock().await.recv().await else {
            return;
        };
        n += 1;
        let taken = queue
            .enqueue(Call { worker, lane, n }, &batch)
            .await
            .expect("a commit");
        assert_eq!(taken, Taken::Ran(()));
        tally.commits.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn cpu_time(server: &RedisServer) -> Duration {
    let info: String = redis::cmd("INFO")
        .arg("server")
        .query(&mut server.client())
        .expect("an answer");
    let id = info
        .lines()
        .find_map(|line| line.strip_prefix("process_id:"));
    cpu_time_of(id.expect("a process").trim())
}

/// User and system time of a process, as the kernel counts it (in steps of 10 ms).
fn cpu_time_of(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("Linux");
    let (_, after_name) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks = after_name.split_whitespace().skip(11).take(2);
    Duration::from_millis(
        ticks
            .map(|ticks| ticks.parse::<u64>().expect("ticks") * 10)
            .sum(),
    )
}

const BATCH: usize = 8;
