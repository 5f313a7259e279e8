//! A running relay: what is started in which order, and how it goes away.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use config::Loaded;
use queue::Queue;
use queue::operation::Timing;
use queue::worker::Worker;
use telemetry::metrics::Registry;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::active::{Active, CompileError};
use crate::admin::{self, Admin, AdminListener, RecentCounts, Security};
use crate::config_watch::{self, ConfigWatch};
use crate::delivery::{Delivery, Outcome, Outcomes};
use crate::listener;
use crate::listener::limits::Connections;
use crate::metrics::{Metrics, Observation, Observed};
use crate::reception::{Reception, Uploads};
use crate::tls::Resumption;

/// What a relay is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub loaded: Loaded,
    /// Where `loaded` was read from, to follow its changes.
    pub config_file: Option<PathBuf>,
    /// How this process is called in logs, spans and records: the pod's name in a cluster.
    pub pod_name: String,
    /// What the operator knows the pod by.
    pub pod_uid: String,
    pub version: &'static str,
    pub revision: &'static str,
}

/// Runs a relay until `stop`, and then as long as going away in order takes.
///
/// # Errors
/// When it cannot be started.
pub async fn run(
    settings: Settings,
    queue: Arc<dyn Queue>,
    stop: CancellationToken,
) -> Result<(), StartError> {
    let relay = Relay::start(settings, queue).await?;
    stop.cancelled().await;
    relay.drain().await;
    Ok(())
}

/// A relay at work. Dropping it leaves its tasks running; [`Relay::drain`] ends them.
pub struct Relay {
    active: watch::Receiver<Arc<Active>>,
    addresses: Vec<(String, SocketAddr)>,
    outcomes: Outcomes,
    draining: Arc<AtomicBool>,
    /// Listeners accept until this.
    closing: CancellationToken,
    /// Idle sessions are told to go from this on.
    idle: CancellationToken,
    /// Sessions that are still there end with this.
    cut_off: CancellationToken,
    /// Everything else ends with this.
    ended: CancellationToken,
    sessions: TaskTracker,
    delivery: Delivery,
    worker: Worker,
}

impl Relay {
    /// Binds, joins the queue and begins to accept and deliver.
    ///
    /// A queue that cannot be reached is no error: the relay starts, answers 451, and tries on.
    ///
    /// # Errors
    /// When a certificate cannot be used or an address cannot be bound.
    pub async fn start(settings: Settings, queue: Arc<dyn Queue>) -> Result<Self, StartError> {
        let resumption = Resumption::new().map_err(StartError::Tls)?;
        let seen = settings
            .config_file
            .as_ref()
            .map(|file| config_watch::fingerprints(file, &settings.loaded.config));
        let active = Active::compile(settings.loaded, &resumption)?;
        // All sockets before all else: whoever cannot have them has not touched the queue.
        let mut bound = Bound::open(&active)?;
        let addresses = bound.addresses()?;

        let active = Arc::new(active);
        let start = Arc::clone(&active);
        let (active_sender, active) = watch::channel(active);
        let (rejection_sender, rejection) = watch::channel(None);
        let ended = CancellationToken::new();
        let mut registry = Registry::new(settings.version, settings.revision);
        let metrics = Metrics::register(&mut registry);
        let outcomes = Outcomes::new();
        let worker = Worker::start(
            queue,
            worker_settings(&start.loaded),
            CancellationToken::new(),
        );
        let counts = Arc::new(RecentCounts::new(worker.clone()));
        let delivery = Delivery::start(
            worker.clone(),
            crate::delivery_settings::follow(active.clone(), settings.pod_name.clone(), &ended),
            outcomes.clone(),
            &mut registry,
        )
        .map_err(StartError::Delivery)?;

        let connections = Arc::new(Connections::default());
        let draining = Arc::new(AtomicBool::new(false));
        registry.register_collector(Observed(observation(
            Arc::clone(&connections),
            worker.clone(),
            Arc::clone(&counts),
            rejection.clone(),
            Arc::clone(&draining),
        )));
        if let Some((file, seen)) = settings.config_file.zip(seen) {
            let watch = ConfigWatch {
                file,
                resumption,
                seen,
                start,
                active: active_sender,
                rejection: rejection_sender,
                metrics: metrics.clone(),
            };
            tokio::spawn(watch.run(ended.clone()));
        } else {
            // Nothing changes; the channels live as long as the relay.
            let ended = ended.clone();
            tokio::spawn(async move {
                ended.cancelled().await;
                drop((active_sender, rejection_sender));
            });
        }

        let admin = Arc::new(Admin {
            active: active.clone(),
            rejection,
            worker: worker.clone(),
            delivery: delivery.clone(),
            counts,
            registry,
            draining: Arc::clone(&draining),
            pod_uid: settings.pod_uid,
            version: settings.version,
        });
        let reception = Arc::new(Reception {
            active: active.clone(),
            queue: worker.status(),
            worker: worker.clone(),
            connections,
            outcomes: outcomes.clone(),
            metrics,
            drain: CancellationToken::new(),
            cut_off: CancellationToken::new(),
            pod_name: settings.pod_name,
            uploads: Uploads::default(),
        });
        let (idle, cut_off) = (reception.drain.clone(), reception.cut_off.clone());
        let (closing, sessions) = (CancellationToken::new(), TaskTracker::new());
        bound.serve_admin(&admin, &ended)?;
        for (name, listener) in bound.smtp {
            let (reception, closing) = (Arc::clone(&reception), closing.clone());
            let accept =
                listener::accept(reception, name.into(), listener, closing, sessions.clone());
            tokio::spawn(accept);
        }
        for (name, address) in &addresses {
            tracing::info!(listener = name, %address, "listening");
        }
        Ok(Self {
            active,
            addresses,
            outcomes,
            draining,
            closing,
            idle,
            cut_off,
            ended,
            sessions,
            delivery,
            worker,
        })
    }

    /// Where a listener, or `health`, `status` or `management`, can be reached: of use where the
    /// configuration says port 0.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.addresses
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, address)| *address)
    }

    /// What happens to messages from now on, for those who watch.
    pub fn outcomes(&self) -> broadcast::Receiver<Arc<Outcome>> {
        self.outcomes.subscribe()
    }

    /// How the queue is doing.
    pub fn queue_status(&self) -> watch::Receiver<queue::worker::Status> {
        self.worker.status()
    }

    /// Goes away in order: not ready; accept a while more, for clients that have not heard of it;
    /// no new connections, 421 to idle sessions, open transactions finish; deliveries finish and
    /// claims go back; all within the configured deadline.
    pub async fn drain(self) {
        let drain = self.active.borrow().loaded.config.drain;
        let deadline = Instant::now() + drain.deadline;
        tracing::info!("draining");
        self.draining.store(true, Ordering::Relaxed);
        tokio::time::sleep(drain.accept_for).await;

        self.closing.cancel();
        self.idle.cancel();
        self.sessions.close();
        let sessions = async {
            if tokio::time::timeout_at(deadline, self.sessions.wait())
                .await
                .is_err()
            {
                tracing::warn!(sessions = self.sessions.len(), "sessions are cut off");
                self.cut_off.cancel();
            }
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let deliveries = async {
            if !self.delivery.drain(left).await {
                tracing::warn!("deliveries are cut off, their claims go back");
            }
        };
        tokio::join!(sessions, deliveries);
        // What sessions committed last is confirmed, and outcomes that came last are settled.
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(LAST_CALLS);
        if !self.worker.drain(left).await {
            tracing::warn!("some outcomes are not confirmed by the queue");
        }
        self.ended.cancel();
        tracing::info!("drained");
    }
}

/// Sockets that are open and not served yet.
struct Bound {
    smtp: Vec<(String, TcpListener)>,
    health: Option<TcpListener>,
    status: Option<TcpListener>,
    management: Option<TcpListener>,
}

impl Bound {
    fn open(active: &Active) -> Result<Self, StartError> {
        let config = &active.loaded.config;
        let mut smtp = Vec::new();
        for configured in &config.listeners {
            let socket = bind(&configured.name, configured.address)?;
            smtp.push((configured.name.clone(), socket));
        }
        let admin = &config.admin;
        // One address for both is one socket for both.
        let shared = admin.management.is_some() && admin.management == admin.health;
        let management = admin.management.filter(|_| !shared);
        let open = |name: &str, address: Option<SocketAddr>| {
            address.map(|address| bind(name, address)).transpose()
        };
        Ok(Self {
            smtp,
            health: open("health", admin.health)?,
            status: open("status", admin.status.as_ref().map(|status| status.address))?,
            management: open("management", management)?,
        })
    }

    fn addresses(&self) -> Result<Vec<(String, SocketAddr)>, StartError> {
        let admin = [
            ("health", &self.health),
            ("status", &self.status),
            ("management", &self.management),
        ];
        let admin = admin
            .into_iter()
            .filter_map(|(name, socket)| Some((name, socket.as_ref()?)));
        let smtp = self
            .smtp
            .iter()
            .map(|(name, socket)| (name.as_str(), socket));
        smtp.chain(admin)
            .map(|(name, socket)| match socket.local_addr() {
                Ok(address) => Ok((name.to_owned(), address)),
                Err(source) => Err(StartError::Socket {
                    name: name.to_owned(),
                    source,
                }),
            })
            .collect()
    }

    fn serve_admin(
        &mut self,
        admin: &Arc<Admin>,
        ended: &CancellationToken,
    ) -> Result<(), StartError> {
        if let Some(socket) = self.health.take() {
            let mut router = admin::health(Arc::clone(admin));
            if self.management.is_none() && management_is_shared(admin) {
                router = router.merge(admin::management(Arc::clone(admin)));
            }
            serve(socket, router, || Security::Clear, ended)?;
        }
        if let Some(socket) = self.management.take() {
            serve(
                socket,
                admin::management(Arc::clone(admin)),
                || Security::Clear,
                ended,
            )?;
        }
        if let Some(socket) = self.status.take() {
            let active = admin.active.clone();
            let security = move || match &active.borrow().status_tls {
                Some(config) => Security::Mutual(Arc::clone(config)),
                None => Security::Missing,
            };
            serve(socket, admin::status(Arc::clone(admin)), security, ended)?;
        }
        Ok(())
    }
}

fn management_is_shared(admin: &Admin) -> bool {
    let active = admin.active.borrow();
    let addresses = &active.loaded.config.admin;
    addresses.management.is_some() && addresses.management == addresses.health
}

fn bind(name: &str, address: SocketAddr) -> Result<TcpListener, StartError> {
    listener::bind(address).map_err(|source| StartError::Bind {
        name: name.to_owned(),
        address,
        source,
    })
}

fn serve(
    socket: TcpListener,
    router: Router,
    security: impl Fn() -> Security + Send + Sync + 'static,
    ended: &CancellationToken,
) -> Result<(), StartError> {
    let listener = AdminListener::start(socket, security, ended.clone()).map_err(|source| {
        StartError::Socket {
            name: "admin".to_owned(),
            source,
        }
    })?;
    let ended = ended.clone().cancelled_owned();
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router)
            .with_graceful_shutdown(ended)
            .await
        {
            tracing::error!(%error, "an administrative listener ended");
        }
    });
    Ok(())
}

/// Why a relay could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("listener {name:?}: {address} cannot be bound: {source}")]
    Bind {
        name: String,
        address: SocketAddr,
        source: io::Error,
    },
    #[error(transparent)]
    Config(#[from] CompileError),
    #[error("deliveries cannot be started: {0}")]
    Delivery(#[source] crate::delivery::StartError),
    #[error("listener {name:?}: {source}")]
    Socket { name: String, source: io::Error },
    #[error("TLS cannot be set up: {0}")]
    Tls(#[source] rustls::Error),
}

fn worker_settings(loaded: &Loaded) -> queue::worker::Settings {
    queue::worker::Settings::new(timing(&loaded.config.timing))
}

/// The timing of leases as the queue's back ends take it.
pub fn timing(configured: &config::queue::Timing) -> Timing {
    Timing {
        lease: configured.lease,
        beat: configured.beat,
        claim: configured.claim,
        begun: configured.begun,
        safety_wake: configured.safety_wake,
    }
}

fn observation(
    connections: Arc<Connections>,
    worker: Worker,
    counts: Arc<RecentCounts>,
    rejection: watch::Receiver<Option<config::status::Rejection>>,
    draining: Arc<AtomicBool>,
) -> impl Fn() -> Observation + Send + Sync + 'static {
    let status = worker.status();
    move || {
        let status = status.borrow();
        Observation {
            connections: connections.open(),
            claims: worker.claims(),
            queue_reachable: status.reachable,
            durability: status.durability.verified(),
            config_rejected: rejection.borrow().is_some(),
            draining: draining.load(Ordering::Relaxed),
            counts: counts.latest(),
        }
    }
}

/// What the last settlements get even when the deadline has passed.
const LAST_CALLS: std::time::Duration = std::time::Duration::from_secs(1);
