use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use crate::QueueError;
use crate::durability::Durability;
use crate::id::WorkerId;
use crate::operation::Beat;

/// Keeps the process a member: registers, beats, reaps, and registers anew under another id when
/// it has been reaped itself.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let worker = register(&shared).await;
        beat(&shared, worker).await;
        tracing::warn!(%worker, "the queue has given this worker up; it owns nothing any more");
        shared.lease.reaped(worker);
        shared.ledger.withhold_all();
    }
}

async fn register(shared: &Shared) -> WorkerId {
    let mut failures = 0;
    loop {
        // A new id each time: the call before may have run although nobody answered.
        let worker = WorkerId::random();
        let sent = shared.settings.clock.now();
        let error = match shared.queue.register(worker).await {
            Ok(()) => {
                shared.lease.registered(worker, sent);
                shared.note(None);
                tracing::info!(%worker, "joined the queue");
                return worker;
            }
            Err(error) => error,
        };
        shared.note(Some(&error));
        shared.back_off(failures).await;
        failures += 1;
    }
}

/// Returns when `worker` is no member any more.
async fn beat(shared: &Shared, worker: WorkerId) {
    let timing = shared.settings.timing;
    let mut failures = 0;
    loop {
        if shared.lease.current() != Some(worker) {
            return;
        }
        let sent = shared.settings.clock.now();
        let pause = match shared.queue.beat(worker).await {
            Ok(Beat::Reaped) => return,
            Ok(Beat::Renewed {
                late,
                reaped,
                held,
                more,
                next_foreign_expiry,
            }) => {
                failures = 0;
                shared.lease.renewed(sent);
                shared.note(None);
                if late {
                    tracing::warn!("the lease had run out before it was renewed");
                }
                if reaped > 0 {
                    tracing::info!(tasks = reaped, "took back what was claimed and not settled");
                    shared.inbox.nudge();
                }
                for task in held {
                    tracing::error!(%task, "held: too many who began it did not settle it");
                }
                if more {
                    continue;
                }
                // Just past it, so that the reap finds it run out.
                let expiry = next_foreign_expiry.map(|left| left + Duration::from_millis(5));
                expiry.map_or(timing.beat, |left| left.min(timing.beat))
            }
            Err(error) => {
                shared.note(Some(&error));
                shared.back_off(failures).await;
                failures += 1;
                continue;
            }
        };
        ask_durability(shared).await;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.lease.urge.notified() => {}
        }
    }
}

async fn ask_durability(shared: &Shared) {
    let durability = match shared.queue.durability().await {
        Ok(durability) => durability,
        Err(error) => {
            tracing::debug!(%error, "durability could not be asked");
            Durability::Unknown
        }
    };
    let fill = shared.queue.fill();
    shared.status.send_if_modified(|status| {
        let refilled = status.fill != fill;
        status.fill = fill;
        let changed = status.durability != durability;
        if changed {
            if let Durability::Unmet { reason, remedy } = &durability {
                tracing::error!(reason, remedy, "the queue is not durable as declared");
            }
            status.durability = durability;
        }
        changed || refilled
    });
}

impl Shared {
    fn note(&self, failure: Option<&QueueError>) {
        let worker = self.lease.current();
        let failure = failure.map(ToString::to_string);
        self.status.send_if_modified(|status| {
            let was = status.reachable;
            let changed = status.note(failure, worker);
            match (was, status.reachable) {
                (true, false) => {
                    tracing::error!(error = status.error, "the queue cannot be reached");
                }
                (false, true) => tracing::info!("the queue can be reached"),
                _ => {}
            }
            changed
        });
    }
}
