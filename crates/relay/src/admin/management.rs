//! The management API. It asks nobody who they are: its address is on loopback, and in a cluster
//! the right to forward a port to the pod is the right to use it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use queue::id::JournalId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Admin;

/// `GET /v1/queue`: what is in the shared queue, and what this process has of it.
pub(super) async fn queue(State(admin): State<Arc<Admin>>) -> Response {
    let Some(counts) = admin.counts.refresh().await else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the queue does not answer\n",
        )
            .into_response();
    };
    Json(QueueReport {
        ready: counts.ready,
        deferred: counts.deferred,
        in_flight: counts.in_flight,
        held: counts.held,
        oldest_ready_seconds: counts.oldest_ready.map(|oldest| oldest.as_secs()),
        worker: admin.worker.id().map(|worker| worker.to_string()),
        claims: admin.worker.claims(),
        durability: super::status::durability(&admin.worker.status().borrow().durability),
    })
    .into_response()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct QueueReport {
    ready: u64,
    deferred: u64,
    in_flight: u64,
    held: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_ready_seconds: Option<u64>,
    /// Whom the queue knows this process as, while it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    /// Tasks claimed by this process.
    claims: usize,
    /// The level in force, or why the declared one is not.
    durability: config::status::Durability,
}

/// `GET /v1/journal?after=POSITION&limit=N`: outcomes, the oldest first, in entries with the position to go
/// on from. 100 entries, at most 1000.
pub(super) async fn journal(
    State(admin): State<Arc<Admin>>,
    Query(wanted): Query<JournalWanted>,
) -> Response {
    let limit = wanted.limit.unwrap_or(100).min(1000);
    match admin.worker.journal(wanted.after, limit).await {
        Ok(entries) => {
            let entries = entries.into_iter().map(|entry| JournalEntry {
                id: entry.id,
                outcomes: entry.outcomes.iter().filter_map(outcome_of).collect(),
            });
            Json(entries.collect::<Vec<_>>()).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

/// As whoever settled wrote it; a release that writes something else may have.
fn outcome_of(octets: &Bytes) -> Option<Box<RawValue>> {
    serde_json::from_slice(octets).ok()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JournalWanted {
    after: Option<JournalId>,
    limit: Option<u16>,
}

#[derive(Serialize)]
struct JournalEntry {
    id: JournalId,
    outcomes: Vec<Box<RawValue>>,
}

/// `PUT /v1/claiming`: whether this process delivers, or only accepts.
pub(super) async fn set_claiming(
    State(admin): State<Arc<Admin>>,
    Json(claiming): Json<Claiming>,
) -> Json<Claiming> {
    admin.worker.set_claiming(claiming.enabled);
    tracing::info!(enabled = claiming.enabled, "claiming was set");
    Json(claiming)
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Claiming {
    enabled: bool,
}
