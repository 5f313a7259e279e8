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

use redis_server::RedisServer;
use server::{cpu_time, cycle};

mod load;

#[path = "load/server.rs"]
mod server;

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
        redis::cmd("FLUSHALL")
            .exec(&mut server.client())
            .expect("an empty server");
        let cycle = runtime.block_on(cycle(&server, 0, messages, queues));
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
