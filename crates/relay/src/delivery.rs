//! Delivery: tasks out of the queue, over SMTP, to their next hops, and their outcomes back.
//!
//! The procedure, in order:
//! 1. [`Delivery`] asks the [`Worker`] for as many grants as it has agents to spare;
//! 2. an [agent] takes a grant, one connection and some tasks of one queue, and attempts
//!    them one after the other;
//! 3. [`Hosts`](connect::Hosts) finds where the route leads now, and connects to the first host
//!    that takes mail, unless the [pool] has a connection;
//! 4. a [`Connection`](connection::Connection) sends the message; its last octet waits for the dot
//!    check;
//! 5. [`verdict`](disposition::verdict) says what an answer means, for whom;
//! 6. the [report] settles the task: retry, [notification] to the sender, outcome.
//!
//! Invariants:
//! * Every failure goes through one table, [`disposition`].
//! * One transaction carries one task: never several domains.
//! * Of a task that takes several transactions the queue knows the outcome of each before the last
//!   octet of the next: a takeover repeats one at most.
//! * A message's content is never copied on its way from the queue to the socket.
//! * An unsettled claim goes back to the queue, whatever becomes of its agent.
//! * A notification is settled together with the failure that it tells of, and only when there is
//!   somebody to be told.
//!
//! What it does not do: it decides no routes and no limits, and knows neither DANE nor MTA-STS yet.

mod agent;
mod connect;
mod connection;
mod disposition;
mod dropped;
mod journal;
mod load;
pub(crate) mod notes;
mod notification;
mod outcome;
mod pool;
mod report;
mod retry;
mod suspension;
mod tls;
mod trace;

use std::sync::Arc;
use std::time::Duration;

use config::delivery::NextHopTls;
use nexthop::{LocalHost, Resolver};
use queue::QueueError;
use queue::operation::{Limits, Notice, Seen};
use queue::record::Record;
use queue::worker::{Work, Worker};
use rustls::RootCertStore;
use smtp::client::Timeouts;
use smtp::{Domain, HeloName};
use telemetry::metrics::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::routing::Routes;

pub use self::disposition::{Disposition, Scope};
use self::outcome::Metrics;
pub use self::outcome::{Outcome, OutcomeKind, Outcomes};
pub use self::retry::Retry;

/// How mail is delivered. Replaced as a whole when the configuration changes; what is under way
/// goes on as it began.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name this relay has in EHLO and as whoever reports failures.
    pub hostname: Domain,
    pub helo_name: HeloName,
    /// Who does the work, for spans and records.
    pub pod: String,
    pub routes: Arc<Routes>,
    /// What the outside may call this relay, so that mail does not come back.
    pub local: LocalHost,
    /// What mail exchangers must offer.
    pub tls: NextHopTls,
    /// Authorities that certificates must be from where they must be from any; looked at when
    /// delivery starts.
    pub roots: Arc<RootCertStore>,
    /// Whom to ask for mail exchangers and addresses; looked at when delivery starts.
    pub resolver: nexthop::Settings,
    pub retry: Retry,
    /// How old a message is when its sender is told, once for each task, that it is late.
    pub delay_notice: Option<Duration>,
    pub limits: Limits,
    /// Whether outcomes are told to the journal.
    pub journal: bool,
    pub messages_per_connection: u32,
    /// Grants at work in this process at the same time; looked at when delivery starts.
    pub agents: usize,
    pub connect_timeout: Duration,
    pub timeouts: Timeouts,
    /// How long a connection waits for another grant.
    pub idle_for: Duration,
    /// How long a host that took no connection is left alone; looked at when delivery starts.
    pub suspend_for: Duration,
    /// RFC 5321 §4.5.3.1.8: every server takes a hundred.
    pub recipients_per_transaction: usize,
}

impl Settings {
    /// Delivery by mail exchangers, without rules and with what is usual.
    pub fn new(hostname: Domain, helo_name: HeloName) -> Self {
        Self {
            hostname,
            helo_name,
            pod: String::new(),
            routes: Arc::default(),
            local: LocalHost::default(),
            tls: NextHopTls::Opportunistic,
            roots: Arc::new(tls::public_roots()),
            resolver: nexthop::Settings::default(),
            retry: Retry::default(),
            delay_notice: None,
            limits: Limits {
                concurrency_default: 20,
                ..Limits::default()
            },
            journal: false,
            messages_per_connection: 100,
            agents: 256,
            connect_timeout: Duration::from_secs(30),
            timeouts: Timeouts::default(),
            idle_for: Duration::from_secs(5),
            suspend_for: Duration::from_secs(10),
            recipients_per_transaction: 100,
        }
    }
}

/// The delivery of this process. Clones are the same.
#[derive(Clone)]
pub struct Delivery(Arc<Inner>);

/// What all agents share.
struct Inner {
    worker: Worker,
    settings: watch::Receiver<Arc<Settings>>,
    resolver: Resolver,
    tls: tls::Tls,
    pool: pool::Pool,
    suspensions: suspension::Suspensions,
    outcomes: Outcomes,
    metrics: Metrics,
    /// Nothing new is begun.
    draining: CancellationToken,
    /// Everything ends now.
    ended: CancellationToken,
    agents: TaskTracker,
}

impl Delivery {
    /// Starts delivering on the current runtime, until [`Delivery::drain`].
    ///
    /// # Errors
    /// When there is no resolver or no TLS to be had with these settings.
    pub fn start(
        worker: Worker,
        settings: watch::Receiver<Arc<Settings>>,
        outcomes: Outcomes,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let first = Arc::clone(&settings.borrow());
        let roots = RootCertStore::clone(&first.roots);
        let inner = Arc::new(Inner {
            worker,
            settings,
            resolver: Resolver::new(&first.resolver).map_err(StartError::Resolver)?,
            tls: tls::Tls::new(roots).map_err(StartError::Tls)?,
            pool: pool::Pool::default(),
            suspensions: suspension::Suspensions::new(first.suspend_for),
            outcomes,
            metrics: Metrics::register(registry),
            draining: CancellationToken::new(),
            ended: CancellationToken::new(),
            agents: TaskTracker::new(),
        });
        inner.worker.want(first.agents);
        tokio::spawn(hand_out(Arc::clone(&inner)));
        tokio::spawn(keep_limits(Arc::clone(&inner)));
        tokio::spawn(hasten_changed_routes(Arc::clone(&inner)));
        tokio::spawn(sweep(Arc::clone(&inner)));
        Ok(Self(inner))
    }

    /// What tells the sender of `seen` that an administrator drops it, if anybody is to be told.
    pub(crate) fn notice_of_drop(&self, record: &Record, seen: &Seen, why: &str) -> Option<Notice> {
        dropped::notice(&self.0.settings(), record, seen, why)
    }

    /// Grants and expired tasks that are being worked on.
    pub fn agents(&self) -> usize {
        self.0.agents.len()
    }

    /// Begins nothing more and finishes what is under way; claims that were not begun go back at
    /// once, what is not finished after `within` goes back then. Returns whether everything came
    /// to its end. The last outcomes may still be on their way into the queue: [`Worker::drain`]
    /// is to follow.
    pub async fn drain(&self, within: Duration) -> bool {
        let inner = &self.0;
        inner.worker.set_claiming(false);
        inner.draining.cancel();
        inner.agents.close();
        let finished = tokio::time::timeout(within, inner.agents.wait())
            .await
            .is_ok();
        inner.ended.cancel();
        inner.agents.wait().await;
        let idle = inner
            .pool
            .sweep(Duration::ZERO)
            .into_iter()
            .map(connection::Connection::quit);
        let _ = tokio::time::timeout(GOODBYE, futures::future::join_all(idle)).await;
        finished
    }
}

/// Why delivery could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("no resolver can be made of the configuration")]
    Resolver(#[source] nexthop::BuildError),
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

impl Inner {
    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    fn spawn(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        self.agents.spawn(async move {
            tokio::select! {
                () = work => {}
                () = ended.cancelled() => {}
            }
        });
    }
}

/// Gives every piece of work an agent of its own. What comes while draining goes back.
async fn hand_out(inner: Arc<Inner>) {
    while let Some(work) = inner.worker.work().await {
        if inner.draining.is_cancelled() {
            continue;
        }
        match work {
            Work::Deliver(grant) => inner.spawn({
                let inner = Arc::clone(&inner);
                async move {
                    let _want = WantAnother(&inner.worker);
                    agent::run(&inner, grant).await;
                }
            }),
            Work::Expire(claim) => inner.spawn({
                let inner = Arc::clone(&inner);
                async move { load::expire(&inner, claim).await }
            }),
        }
    }
}

/// Asks for another grant when the agent of this one ends, however it ends.
struct WantAnother<'a>(&'a Worker);

impl Drop for WantAnother<'_> {
    fn drop(&mut self) {
        self.0.want(1);
    }
}

/// Writes the limits into the queue, now and whenever they change.
async fn keep_limits(inner: Arc<Inner>) {
    let mut settings = inner.settings.clone();
    loop {
        let limits = settings.borrow_and_update().limits.clone();
        let write = async {
            until_taken(|| inner.worker.set_limits(&limits)).await;
            settings.changed().await
        };
        tokio::select! {
            changed = write => {
                if changed.is_err() {
                    return;
                }
            }
            () = inner.ended.cancelled() => return,
        }
    }
}

/// Makes mail due that waits to be tried again where its route does not lead any more.
async fn hasten_changed_routes(inner: Arc<Inner>) {
    let mut settings = inner.settings.clone();
    let mut known = Arc::clone(&settings.borrow_and_update().routes);
    let work = async {
        while settings.changed().await.is_ok() {
            let routes = Arc::clone(&settings.borrow_and_update().routes);
            for route in routes.changed_from(&known) {
                let tasks = until_taken(|| inner.worker.hasten(&route)).await;
                if tasks > 0 {
                    tracing::info!(route, tasks, "due at once, as the route has changed");
                }
            }
            known = routes;
        }
    };
    tokio::select! {
        () = work => {}
        () = inner.ended.cancelled() => {}
    }
}

/// Asks the queue again and again, until it has done what the configuration wants.
async fn until_taken<T, F>(ask: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, QueueError>>,
{
    loop {
        match ask().await {
            Ok(done) => return done,
            Err(error) => {
                tracing::debug!(%error, "the configuration could not be put into the queue");
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }
}

/// Ends connections that nobody needed for a while.
async fn sweep(inner: Arc<Inner>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            () = inner.ended.cancelled() => return,
        }
        let idle_for = inner.settings.borrow().idle_for;
        for connection in inner.pool.sweep(idle_for) {
            tokio::spawn(connection.quit());
        }
    }
}

const GOODBYE: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_secs(1);
const SWEEP: Duration = Duration::from_secs(1);
