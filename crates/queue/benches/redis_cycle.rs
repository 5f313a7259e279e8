//! What a message costs a real Redis with the file synced always: committed in batches, claimed,
//! begun and settled, beside `redis-benchmark SET` of the same size in the same run.
//!
//! `cargo bench -p queue --bench redis_cycle [-- messages [queues]]` prints a line for each case and
//! ends with an error when a budget is missed.
#![allow(
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "figures are small, and shown"
)]

use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use queue::Queue;
use queue::id::{Call, WorkerId};
use queue::operation::Taken;
use queue::record::NewMessage;
use queue::redis::{Redis, Settings};
use tokio::sync::{Semaphore, mpsc};

use load::{TIMING, Tally, dispatch, message};
use redis_server::RedisServer;

mod load;

#[path = "../tests/conformance/redis_server.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod redis_server;

fn main() -> ExitCode {
    let arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let mut numbers = arguments.map(|argument| argument.parse::<usize>().expect("a number"));
    let messages = numbers.next().unwrap_or(20_000);
    let cases: Vec<_> = numbers
        .next()
        .map_or_else(|| vec![1, 20, 1000], |queues| vec![queues]);

    let server = RedisServer::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut met = true;
    for queues in cases {
        let (sets, set_cpu) = redis_benchmark(&server, messages);
        let cycle = runtime.block_on(cycle(&server, messages, queues));
        let share = cycle.rate / sets * 100.0;
        println!(
            "{queues} queues: {:.0} cycles/s = {share:.0} % of {sets:.0} SET/s, Redis CPU {:.1} us a \
             message (SET {set_cpu:.1} us) and {:.1} us here, {:.3} round trips, {:.1} tasks a grant",
            cycle.rate, cycle.cpu_us, cycle.own_cpu_us, cycle.round_trips, cycle.tasks_per_grant,
        );
        // The budgets are those of mail in few queues.
        met &= queues > 100 || (share >= 35.0 && cycle.cpu_us <= 40.0 && cycle.round_trips <= 0.3);
    }
    if met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

struct Cycle {
    rate: f64,
    cpu_us: f64,
    own_cpu_us: f64,
    round_trips: f64,
    tasks_per_grant: f64,
}

async fn cycle(server: &RedisServer, messages: usize, queues: usize) -> Cycle {
    redis::cmd("FLUSHALL")
        .exec(&mut server.client())
        .expect("an empty server");
    let settings = Settings::new(server.url(), "bench".into(), "local".into(), TIMING);
    let queue: Arc<dyn Queue> =
        Arc::new(Redis::open(&settings).expect("settings that can be used"));
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
    for first in (0..messages).step_by(BATCH) {
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

/// SETs a second at fifty connections, and microseconds of the server's CPU for each.
fn redis_benchmark(server: &RedisServer, requests: usize) -> (f64, f64) {
    let cpu = cpu_time(server);
    let output = Command::new("redis-benchmark")
        .args([
            "-p",
            &server.port().to_string(),
            "-t",
            "set",
            "-c",
            "50",
            "-d",
            "10240",
        ])
        .args(["-n", &requests.to_string(), "-r", "1000", "--csv"])
        .output()
        .expect("redis-benchmark is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("\"SET\",\"")?
                .split('"')
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or_else(|| panic!("redis-benchmark said {text}"));
    (
        rate,
        (cpu_time(server) - cpu).as_secs_f64() * 1e6 / requests as f64,
    )
}

fn cpu_time(server: &RedisServer) -> Duration {
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
