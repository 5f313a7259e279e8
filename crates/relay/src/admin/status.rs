//! The report to the operator.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use config::Status;
use config::status::{Counts, Durability, DurabilityReason, Reachability};
use jiff::Timestamp;

use super::Admin;

/// `GET /v1/status`.
pub(super) async fn status(State(admin): State<Arc<Admin>>) -> Json<Status> {
    let counts = admin.counts.refresh().await;
    let queue = admin.worker.status().borrow().clone();
    let active = Arc::clone(&admin.active.borrow());
    Json(Status {
        pod_uid: admin.pod_uid.clone(),
        schema: config::SCHEMA,
        version: admin.version.to_owned(),
        config_hash: Some(active.reported.config_hash.clone()),
        config_rejected: admin.rejection.borrow().clone(),
        attachments: active.reported.shards.clone(),
        certificates: Some(active.certificates()),
        durability: durability(&queue.durability),
        redis: Reachability {
            reachable: queue.reachable,
            since: queue.since,
            error: queue.error.clone(),
        },
        counts: counts.map(|counts| Counts {
            ready: counts.ready,
            deferred: counts.deferred,
            in_flight: counts.in_flight,
        }),
        oldest_ready_time: counts
            .and_then(|counts| counts.oldest_ready)
            .and_then(|oldest| Timestamp::now().checked_sub(oldest).ok()),
    })
}

pub(super) fn durability(known: &queue::durability::Durability) -> Durability {
    use queue::durability::{Durability as Known, Level};
    match known {
        Known::Verified(Level::Memory) => Durability::Memory,
        Known::Verified(Level::Fsync) => Durability::Fsync,
        Known::Verified(Level::Replicated { acks }) => Durability::Replicated { acks: *acks },
        Known::Verified(Level::FsyncReplicated { acks }) => {
            Durability::FsyncReplicated { acks: *acks }
        }
        Known::Unknown => Durability::Unknown,
        Known::Unmet { reason, remedy } => Durability::Unmet {
            reason: durability_reason(reason),
            remedy: remedy.clone(),
        },
    }
}

fn durability_reason(reason: &str) -> DurabilityReason {
    match reason {
        "AofOff" => DurabilityReason::AofOff,
        "Evicting" => DurabilityReason::Evicting,
        "FailoverCanLose" => DurabilityReason::FailoverCanLose,
        "FsyncPausedOnRewrite" => DurabilityReason::FsyncPausedOnRewrite,
        "NotFsyncAlways" => DurabilityReason::NotFsyncAlways,
        "TooFewReplicas" => DurabilityReason::TooFewReplicas,
        _ => DurabilityReason::NotVerified,
    }
}
