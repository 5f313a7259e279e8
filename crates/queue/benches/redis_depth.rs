//! What a long queue costs a real Redis with the file synced always: the same cycle beside none and
//! beside many deferred messages, in the same run, and the memory that these take.
//!
//! `cargo bench -p queue --bench redis_depth [-- queued [messages]]`, a million and 20,000 unless it
//! is said. It takes minutes and some 2 GB, and ends with an error when a budget is missed.
#![allow(
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "figures are small, and shown"
)]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use queue::Queue;
use queue::id::{Call, WorkerId};
use queue::operation::{Claim, List, Next, PlaceName, Rest, Settlement, Taken};

use load::message;
use redis_server::RedisServer;
use server::{cycle, open};

#[allow(dead_code, reason = "other benchmarks use more of it")]
mod load;

#[path = "load/server.rs"]
#[allow(dead_code, reason = "other benchmarks show more of it")]
mod server;

#[path = "../tests/conformance/redis_server.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod redis_server;

fn main() -> ExitCode {
    let arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let mut numbers = arguments.map(|argument| argument.parse::<usize>().expect("a number"));
    let queued = numbers.next().unwrap_or(1_000_000);
    let messages = numbers.next().unwrap_or(20_000);

    let server = RedisServer::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    // The first run of all makes connections and warms caches.
    runtime.block_on(cycle(&server, 0, messages, 20));
    let empty = runtime.block_on(cycle(&server, messages, messages, 20));
    let before = used_memory(&server);
    let started = Instant::now();
    let stored = runtime.block_on(fill(&open(&server), queued));
    let each = (used_memory(&server) - before) as f64 / queued as f64;
    println!(
        "{queued} deferred in {:.0} s: {each:.0} octets each in memory, {stored} stored",
        started.elapsed().as_secs_f64()
    );
    let page = runtime.block_on(slowest_page(&open(&server)));
    println!(
        "a page of {PAGE} of them: {:.1} ms at most",
        page.as_secs_f64() * 1000.0
    );
    let full = runtime.block_on(cycle(&server, 2 * messages, messages, 20));
    let share = full.rate / empty.rate * 100.0;
    println!(
        "cycles/s: {:.0} beside none, {:.0} beside {queued} = {share:.0} %; Redis CPU {:.1} and {:.1} us a message",
        empty.rate, full.rate, empty.cpu_us, full.cpu_us,
    );
    let memory_met = each <= 1.25 * stored as f64 + 600.0;
    if share >= 80.0 && memory_met && page <= Duration::from_millis(50) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Messages of 1 kB to a thousand domains, each tried once and due again in an hour. Returns the
/// octets that are stored of one.
async fn fill(queue: &Arc<dyn Queue>, queued: usize) -> usize {
    let worker = WorkerId::random();
    queue.register(worker).await.expect("a new worker");
    let body = Bytes::from(vec![b'x'; 1_000]);
    let (mut enqueued, mut deferred) = (0, 0);
    let (mut commits, mut call) = (
        Call {
            worker,
            lane: 1,
            n: 0,
        },
        Call {
            worker,
            lane: 2,
            n: 0,
        },
    );
    let mut settlements = Vec::new();
    let mut releases = Vec::new();
    while deferred < queued {
        let batch: Vec<_> = (enqueued..queued.min(enqueued + 256))
            // Far from the numbers of the cycles.
            .map(|index| message(1 << 32 | index, 1_000, &body))
            .collect();
        enqueued += batch.len();
        if !batch.is_empty() {
            commits.n += 1;
            let taken = queue.enqueue(commits, &batch).await.expect("a commit");
            assert_eq!(taken, Taken::Ran(()));
        }
        call.n += 1;
        let next = Next {
            call,
            settlements: std::mem::take(&mut settlements),
            releases: std::mem::take(&mut releases),
            claim: Some(Claim {
                grants: 256,
                tasks_per_grant: 8,
                withheld: vec![],
                by_name: vec![],
            }),
        };
        deferred += next.settlements.len();
        let Taken::Ran(reply) = queue.next(&next).await.expect("a reply") else {
            panic!("a lane of its own is never refused")
        };
        for grant in reply.grants {
            releases.push(grant.slot);
            settlements.extend(grant.tasks.into_iter().map(|task| Settlement {
                handle: task.handle,
                delivered: vec![],
                failed: vec![],
                recipients: 1,
                rest: Rest::Deferred {
                    due_in: Duration::from_secs(3600),
                    notes: Bytes::from_static(NOTES),
                },
                notification: None,
                journal: Bytes::new(),
            }));
        }
    }
    let prefix = message(0, 1_000, &body).prefix().expect("a prefix");
    prefix.len() + body.len() + NOTES.len()
}

/// What a list costs with the headers that it shows: page by page, of what is not there, and of a tenant.
async fn slowest_page(queue: &Arc<dyn Queue>) -> Duration {
    let all = List {
        looks: PAGE,
        ..List::default()
    };
    let held = List {
        place: Some(PlaceName::Held),
        ..all.clone()
    };
    let tenant = List {
        tenant: Some("nobody".to_owned()),
        ..all.clone()
    };
    let mut slowest = Duration::ZERO;
    for mut list in [all, held, tenant] {
        for _ in 0..100 {
            let started = Instant::now();
            let page = queue.list(&list).await.expect("a page");
            let messages: Vec<_> = page
                .tasks
                .iter()
                .map(|seen| seen.handle.task.message)
                .collect();
            queue.headers(&messages).await.expect("headers");
            slowest = slowest.max(started.elapsed());
            list.after = page.next;
            if list.after.is_none() {
                break;
            }
        }
    }
    slowest
}

fn used_memory(server: &RedisServer) -> u64 {
    let info: String = redis::cmd("INFO")
        .arg("memory")
        .query(&mut server.client())
        .expect("an answer");
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    used.and_then(|used| used.trim().parse().ok())
        .expect("a number of octets")
}

const PAGE: u16 = 100;
/// As long as those of a greylisting host.
const NOTES: &[u8] = br#"{"firstMs":1700000000000,"lastMs":1700000000000,"answers":[{"recipients":[0],"status":"4.2.0","text":"450 4.2.0 greylisted, come back later","isReply":true,"host":"mx1.example.net"}]}"#;
