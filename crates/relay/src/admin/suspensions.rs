//! Suspensions of the shared queue. Who makes or ends one finds a line in the log for it.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use queue::QueueError;
use queue::id::Scope;
use queue::operation::Suspension;
use serde::{Deserialize, Serialize};

use super::Admin;

/// `GET /v1/suspensions`: those in force.
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Response {
    match admin.worker.suspensions().await {
        Ok(suspensions) => {
            let documents = suspensions.into_iter().map(Document::from);
            Json(documents.collect::<Vec<_>>()).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

/// `PUT /v1/suspensions`: makes one, or changes the one of this scope.
pub(super) async fn suspend(
    State(admin): State<Arc<Admin>>,
    Json(document): Json<Document>,
) -> Response {
    if document.reason.len() > MAX_REASON {
        let why = format!("reason: at most {MAX_REASON} octets\n");
        return (StatusCode::UNPROCESSABLE_ENTITY, why).into_response();
    }
    let suspension = Suspension {
        scope: document.scope,
        lasts: document.for_seconds.map(Duration::from_secs),
        reason: document.reason,
    };
    match admin.worker.suspend(&suspension).await {
        Ok(()) => {
            tracing::info!(
                target: "audit",
                action = "suspend",
                scope = %suspension.scope,
                for_seconds = document.for_seconds,
                reason = suspension.reason,
                "part of the queue was suspended"
            );
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => unavailable(&error),
    }
}

/// `DELETE /v1/suspensions/<scope>`: ends one.
pub(super) async fn resume(State(admin): State<Arc<Admin>>, Path(scope): Path<String>) -> Response {
    let scope: Scope = match scope.parse() {
        Ok(scope) => scope,
        Err(error) => {
            let why = format!("scope: {error}\n");
            return (StatusCode::UNPROCESSABLE_ENTITY, why).into_response();
        }
    };
    match admin.worker.resume(&scope).await {
        Ok(true) => {
            tracing::info!(
                target: "audit",
                action = "resume",
                %scope,
                "part of the queue was resumed"
            );
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(false) => (StatusCode::NOT_FOUND, "it was not suspended\n").into_response(),
        Err(error) => unavailable(&error),
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Document {
    /// `all`, `tenant:<tenant>` or `site:<route>`.
    scope: Scope,
    /// Until it is resumed where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    for_seconds: Option<u64>,
    #[serde(default)]
    reason: String,
}

impl From<Suspension> for Document {
    fn from(suspension: Suspension) -> Self {
        Self {
            scope: suspension.scope,
            for_seconds: suspension.lasts.map(|lasts| lasts.as_secs()),
            reason: suspension.reason,
        }
    }
}

fn unavailable(error: &QueueError) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response()
}

const MAX_REASON: usize = 1024;
