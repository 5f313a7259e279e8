//! Health and metrics of every replica, leader or not.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use telemetry::metrics::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves until `stop`. `[::]` falls back to IPv4 on a host without IPv6.
pub(crate) async fn serve(
    address: SocketAddr,
    registry: Arc<Registry>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let listener = match TcpListener::bind(address).await {
        Err(_) if address.ip().is_unspecified() => {
            TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, address.port())).await?
        }
        other => other?,
    };
    axum::serve(listener, router(registry))
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

fn router(registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(|| async { "ok" }))
        .route("/metrics", get(metrics))
        .with_state(registry)
}

async fn metrics(State(registry): State<Arc<Registry>>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, telemetry::metrics::CONTENT_TYPE)],
        registry.encode(),
    )
}
