//! The administrative interface: health and metrics in clear, the status report over mutual TLS,
//! and the management API on loopback.
//!
//! Ready means that this pod can answer clients. A queue that cannot be reached is no reason to
//! turn them away: they get 451 and come again, where a refused connection might be taken for the
//! end of the service. So `/readyz` fails only while draining; a process without a configuration
//! has not come this far.

mod counts;
mod listener;
mod management;
mod messages;
mod status;
mod suspensions;

pub(crate) use counts::RecentCounts;
pub(crate) use listener::{AdminListener, Security};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{delete, get, post, put};
use config::status::Rejection;
use queue::worker::Worker;
use telemetry::metrics::{CONTENT_TYPE, Registry};
use tokio::sync::watch;

use crate::active::Active;
use crate::delivery::Delivery;

/// What the interface shows and sets.
pub(crate) struct Admin {
    pub(crate) active: watch::Receiver<Arc<Active>>,
    pub(crate) rejection: watch::Receiver<Option<Rejection>>,
    pub(crate) worker: Worker,
    pub(crate) delivery: Delivery,
    pub(crate) counts: Arc<RecentCounts>,
    pub(crate) registry: Registry,
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) pod_uid: String,
    pub(crate) version: &'static str,
}

/// `/healthz`, `/readyz`, `/metrics`.
pub(crate) fn health(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

/// `/v1/status`.
pub(crate) fn status(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/v1/status", get(status::status))
        .with_state(admin)
}

/// `/v1/queue`, `/v1/journal`, `/v1/claiming`, `/v1/suspensions`, `/v1/messages`.
pub(crate) fn management(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/v1/queue", get(management::queue))
        .route("/v1/journal", get(management::journal))
        .route("/v1/claiming", put(management::set_claiming))
        .route(
            "/v1/suspensions",
            get(suspensions::list).put(suspensions::suspend),
        )
        .route("/v1/suspensions/{*scope}", delete(suspensions::resume))
        .route("/v1/messages", get(messages::list))
        .route("/v1/messages/{id}", get(messages::show))
        .route("/v1/messages/{id}/content", get(messages::content))
        .route("/v1/messages/{id}/{action}", post(messages::act))
        .with_state(admin)
}

async fn readyz(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    if admin.draining.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    // The gauges of the queue are read from what this leaves.
    admin.counts.refresh().await;
    (
        [(header::CONTENT_TYPE, CONTENT_TYPE)],
        admin.registry.encode(),
    )
}
