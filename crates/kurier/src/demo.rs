//! `kurier demo`: the main job, shown on one machine.
//!
//! The procedure, in order:
//! 1. [`site`] makes a throw-away folder with a certificate and a configuration, and starts a relay
//!    on the embedded queue in this process;
//! 2. [`receiver`] listens as the next hop and fails some deliveries as [`plan`] says;
//! 3. [`sender`] submits every message over TCP with STARTTLS;
//! 4. [`journey`] puts together what the queue's outcomes say of each message, and [`report`]
//!    compares that with the plan and with the receiver's own log.
//!
//! The exit status is 0 only if every message reached the end that it was due.

mod journey;
mod plan;
mod receiver;
mod report;
mod sender;
mod site;

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use self::journey::Journeys;
use self::plan::Plan;
use self::receiver::Receiver;

#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Arguments {
    /// How many messages to send.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    messages: u32,
    /// Let the receiving server lose this message after its 250, to see that the demo notices.
    #[arg(long, value_name = "NUMBER")]
    swallow: Option<u32>,
}

/// Whether every message reached its due end.
///
/// # Errors
/// What kept the demo from running at all.
pub(crate) async fn run(arguments: Arguments) -> Result<bool> {
    let started = Instant::now();
    let plan = Arc::new(Plan::new(arguments.messages));
    let folder = tempfile::Builder::new().prefix("kurier-demo").tempdir()?;
    let certificate = site::certificate(folder.path())?;
    let receiver = Receiver::start(Arc::clone(&plan), arguments.swallow, &certificate).await?;
    let site = site::Site::start(folder.path(), &certificate, receiver.address).await?;
    writeln!(
        io::stdout(),
        "relay on {} (STARTTLS, embedded queue in a throw-away folder), receiving server on {}",
        site.address,
        receiver.address
    )?;
    let journeys = Journeys::follow(site.outcomes());
    let work = async {
        sender::submit_all(&plan, &site, &certificate, &journeys).await?;
        let elapsed = started.elapsed().as_secs_f64();
        writeln!(io::stdout(), "{elapsed:5.1} s  all submitted")?;
        let submitted = Instant::now();
        while !journeys.complete(&plan, &receiver) && submitted.elapsed() < LIMIT {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    let progress = || {
        // Whoever does not want to see it is told by the next line that matters.
        let _ = writeln!(
            io::stdout(),
            "{:5.1} s  {} of {} accepted, {} ended, {} notices received",
            started.elapsed().as_secs_f64(),
            journeys.accepted_count(),
            plan.len(),
            journeys.ended(),
            receiver.notices().len()
        );
    };
    meanwhile(work, Duration::from_secs(1), progress).await?;
    site.stop().await;
    let mut out = io::stdout().lock();
    Ok(report::write(
        &mut out,
        &plan,
        &journeys,
        &receiver,
        started.elapsed(),
    )?)
}

/// Works to the end, and shows the progress again and again meanwhile.
async fn meanwhile<T>(
    work: impl Future<Output = T>,
    every: Duration,
    mut progress: impl FnMut(),
) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(every, &mut work).await {
            Ok(done) => return done,
            Err(_) => progress(),
        }
    }
}

/// After the last message was submitted: by then every one has had its retry, and the one that expires
/// has expired.
const LIMIT: Duration = Duration::from_secs(55);

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn progress_is_shown_while_the_work_goes_on() {
        let (show, mut shown) = mpsc::unbounded_channel();
        let work = async {
            for _ in 0..3 {
                shown.recv().await;
            }
            "done"
        };
        let progress = || show.send(()).unwrap();
        let all = meanwhile(work, Duration::from_millis(1), progress);
        let ended = tokio::time::timeout(Duration::from_secs(60), all).await;
        assert_eq!(ended, Ok("done"));
    }
}
