//! The operator as a process: serves always, writes while it holds the Lease.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::channel::mpsc;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::controller::Config;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client};
use telemetry::metrics::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::context::{Context, Stores};
use crate::leader::{Election, Leadership, StoredLease};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::{credential, http, relay, route};

/// Runs until `stop`, then finishes what it is doing and gives the Lease up.
///
/// # Errors
/// When there is no cluster to talk to, or the port for health and metrics is taken.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<(), RunError> {
    let client = Client::try_default()
        .await
        .map_err(|error| RunError::Cluster(Box::new(error)))?;
    let mut registry = Registry::new(settings.version, settings.revision);
    let metrics = Arc::new(Metrics::register(&mut registry));
    let http = tokio::spawn(http::serve(
        settings.listen,
        Arc::new(registry),
        stop.clone(),
    ));
    let mut lead = std::pin::pin!(lead(client, settings, metrics, stop.clone()));
    tokio::select! {
        // A port that is taken shows at once, not when somebody misses the metrics.
        served = http => match served {
            Ok(Err(error)) => return Err(RunError::Listen(error)),
            _ if !stop.is_cancelled() => return Err(RunError::Stopped),
            _ => {}
        },
        () = &mut lead => return Ok(()),
    }
    // The Lease is given up before the process ends.
    lead.await;
    Ok(())
}

/// Takes part in the election, and looks after everything while it is won.
async fn lead(client: Client, settings: Settings, metrics: Arc<Metrics>, stop: CancellationToken) {
    let leadership = Leadership::default();
    let (leading, mut won) = watch::channel(false);
    let (at_work, mut resting) = watch::channel(false);
    let election = Election {
        store: StoredLease {
            api: Api::namespaced(client.clone(), &settings.namespace),
            name: settings.lease_name.clone(),
        },
        name: settings.lease_name.clone(),
        identity: settings.identity.clone(),
        timing: settings.lease,
        leadership: leadership.clone(),
        leading,
    };
    let election = tokio::spawn({
        let stop = stop.clone();
        async move {
            let released = async {
                // Only an end of the other side ends it early, and then nobody writes either.
                let _ = resting.wait_for(|working| !working).await;
            };
            election.run(stop, released).await;
        }
    });
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            changed = won.wait_for(|leading| *leading) => if changed.is_err() { break },
        }
        at_work.send_replace(true);
        metrics.leader.set(1);
        let end = stop.child_token();
        let work = look_after(&client, &settings, &metrics, &leadership, end.clone());
        let mut work = std::pin::pin!(work);
        tokio::select! {
            () = &mut work => {}
            _ = won.wait_for(|leading| !leading) => {
                end.cancel();
                work.await;
            }
        }
        metrics.leader.set(0);
        at_work.send_replace(false);
        if stop.is_cancelled() {
            break;
        }
    }
    at_work.send_replace(false);
    // It gives the Lease up, which is bounded.
    let _ = election.await;
}

/// All controllers, until `end`.
async fn look_after(
    client: &Client,
    settings: &Settings,
    metrics: &Arc<Metrics>,
    leadership: &Leadership,
    end: CancellationToken,
) {
    let reporter = Reporter {
        controller: api::names::MANAGER.to_owned(),
        instance: Some(settings.identity.clone()),
    };
    let cluster = Cluster::new(
        client.clone(),
        leadership.clone(),
        Recorder::new(client.clone(), reporter),
        metrics.clone(),
    );
    let any = watcher::Config::default;
    let config = || {
        Config::default()
            .debounce(DEBOUNCE)
            .concurrency(CONCURRENCY)
    };
    let pods = any().labels(&format!(
        "{}={},{}={}",
        api::names::MANAGED_BY,
        api::names::MANAGER,
        api::names::COMPONENT,
        api::names::RELAY_COMPONENT
    ));
    let (relay_triggers, relay_triggered) = mpsc::unbounded();
    let (credential_triggers, credential_triggered) = mpsc::unbounded();
    let (route_triggers, route_triggered) = mpsc::unbounded();

    let relays = Controller::new(cluster.everywhere(), any())
        .with_config(config())
        .owns::<Deployment>(cluster.everywhere(), any())
        .watches(
            cluster.everywhere::<Pod>(),
            pods,
            crate::watch::pod_to_relay,
        )
        .watches(
            cluster.everywhere(),
            any(),
            crate::watch::credential_to_relay,
        )
        .watches(cluster.everywhere(), any(), crate::watch::route_to_relays)
        .reconcile_on(relay_triggered)
        .graceful_shutdown_on(end.clone().cancelled_owned());
    let relay_store = relays.store();
    let credentials = Controller::new(cluster.everywhere(), any()).with_config(config());
    let credential_store = credentials.store();
    let known = credential_store.clone();
    let credentials = credentials
        .watches(cluster.everywhere(), any(), move |relay| {
            crate::watch::relay_to_credentials(&relay, &known)
        })
        .reconcile_on(credential_triggered)
        .graceful_shutdown_on(end.clone().cancelled_owned());
    let routes = Controller::new(cluster.everywhere(), any()).with_config(config());
    let route_store = routes.store();
    let known = route_store.clone();
    let routes = routes
        .watches(cluster.everywhere(), any(), move |relay| {
            crate::watch::relay_to_routes(&relay, &known)
        })
        .reconcile_on(route_triggered)
        .graceful_shutdown_on(end.clone().cancelled_owned());

    let secrets = crate::watch::secrets(
        cluster.everywhere::<PartialObjectMeta<Secret>>(),
        relay_store.clone(),
        relay_triggers,
        credential_triggers.clone(),
    );
    let context = Arc::new(Context::new(
        cluster,
        settings.clone(),
        metrics.clone(),
        Stores {
            relays: relay_store,
            credentials: credential_store,
            routes: route_store,
        },
        credential_triggers,
        route_triggers,
    ));
    // Failures are counted, logged and retried where they happen.
    let relays = relays
        .run(relay::reconcile, relay::after_error, context.clone())
        .for_each(|_| std::future::ready(()));
    let credentials = credentials
        .run(
            credential::reconcile,
            credential::after_error,
            context.clone(),
        )
        .for_each(|_| std::future::ready(()));
    let routes = routes
        .run(route::reconcile, route::after_error, context.clone())
        .for_each(|_| std::future::ready(()));
    let controllers = futures::future::join3(relays, credentials, routes);
    tokio::select! {
        _ = controllers => {}
        () = secrets => {}
        () = context.keep_forgetting() => {}
        // Whoever still works then works on the Lease of another: its writes are refused.
        () = async { end.cancelled().await; tokio::time::sleep(GRACE).await } => {}
    }
}

/// How long to wait for more changes of the same object.
const DEBOUNCE: Duration = Duration::from_millis(250);
/// Objects of one kind at a time.
const CONCURRENCY: u16 = 8;
/// How long a round that has begun may take to end.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    #[error("no cluster can be reached: {0}")]
    Cluster(Box<kube::Error>),
    #[error("health and metrics cannot be served: {0}")]
    Listen(std::io::Error),
    #[error("the server of health and metrics ended by itself")]
    Stopped,
}
