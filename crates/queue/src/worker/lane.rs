use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::Shared;
use super::claim::{Claim, Grant, Sent, Work};
use super::inbox::{Batch, Outgoing};
use crate::QueueError;
use crate::id::{Call, WorkerId};
use crate::operation::{Claimed, Next, NextReply, Resolved, Rest, Settlement, Taken, Then};

/// A dispatch lane: one strictly sequential caller of next. Its calls are numbered; where a reply
/// is lost it learns what became of the call before it makes another.
pub(super) async fn run(shared: Arc<Shared>, lane: u16) {
    let mut lane = Lane { shared, lane, n: 0 };
    loop {
        let batch = lane.shared.inbox.gather().await;
        lane.carry(batch).await;
    }
}

struct Lane {
    shared: Arc<Shared>,
    lane: u16,
    n: u64,
}

/// How one call ended.
enum Went {
    Ran(NextReply),
    /// It did not run: the same again, under this or another number.
    Again,
    /// It did not run, and not for a reason that passes by itself.
    Refused(QueueError),
}

impl Lane {
    /// Makes the calls that it takes until one has run with what `batch` holds.
    async fn carry(&mut self, mut batch: Batch) {
        let mut failures = 0;
        let mut refusals = 0;
        // Who can still beat by then is not refused for the sake of the way there.
        let give_up = Instant::now() + self.shared.settings.timing.lease;
        loop {
            let worker = self.shared.lease.member().await;
            self.adapt(&mut batch, worker);
            let next = self.compose(&batch, worker);
            let is_nothing =
                next.settlements.is_empty() && next.releases.is_empty() && next.claim.is_none();
            if is_nothing {
                self.shared
                    .inbox
                    .answered(&batch, batch.grants, Then::Empty);
                return;
            }
            let sent = Sent {
                at: self.shared.settings.clock.now(),
                epoch: self.shared.queue.epoch(),
            };
            match self.call(&next, &mut failures).await {
                Went::Ran(reply) => return self.accept(batch, next, reply, sent),
                Went::Again => {}
                Went::Refused(error) => {
                    refusals += 1;
                    if refusals % REFUSALS == 0
                        && !self.shared.inbox.part(&mut batch)
                        && Instant::now() >= give_up
                    {
                        self.give_up(&mut batch, &error);
                    }
                }
            }
        }
    }

    /// Leaves what is left of a batch to the claims' deadlines: the lane is needed for others.
    fn give_up(&self, batch: &mut Batch, error: &QueueError) {
        for outgoing in batch.settlements.drain(..) {
            let task = outgoing.settlement.handle.task;
            tracing::error!(%task, %error, "an outcome cannot be settled");
            self.shared.ledger.close(task, outgoing.serial);
        }
        batch.releases.clear();
        batch.named.clear();
    }

    /// Fits what was meant for an earlier term to the one of `worker`: deliveries count under any
    /// id, nothing else does, and the earlier id's slots are gone with it.
    fn adapt(&self, batch: &mut Batch, worker: WorkerId) {
        batch.releases.retain(|(owner, _)| *owner == worker);
        let ledger = &self.shared.ledger;
        batch.settlements.retain_mut(|outgoing| {
            if outgoing.worker == worker {
                return true;
            }
            let settlement = &mut outgoing.settlement;
            settlement.failed.clear();
            settlement.rest = Rest::None;
            settlement.notification = None;
            let counts = !settlement.delivered.is_empty();
            if !counts {
                ledger.close(settlement.handle.task, outgoing.serial);
            }
            counts
        });
    }

    fn compose(&self, batch: &Batch, worker: WorkerId) -> Next {
        let shared = &self.shared;
        // Past two thirds of the lease nothing is started, closed or not.
        let may_claim = shared.lease.is_trusted(worker) && shared.inbox.is_claiming();
        let claim = (may_claim && (batch.grants > 0 || !batch.named.is_empty())).then(|| {
            let open = |handle: &&crate::id::Handle| !shared.ledger.is_open(handle.task);
            crate::operation::Claim {
                grants: u16::try_from(batch.grants).unwrap_or(u16::MAX),
                tasks_per_grant: shared.settings.tasks_per_grant,
                withheld: shared.ledger.withheld(),
                by_name: batch.named.iter().filter(open).cloned().collect(),
            }
        });
        Next {
            call: Call {
                worker,
                lane: self.lane,
                n: self.n + 1,
            },
            settlements: batch
                .settlements
                .iter()
                .map(|o| o.settlement.clone())
                .collect(),
            releases: batch.releases.iter().map(|(_, slot)| *slot).collect(),
            claim,
        }
    }

    async fn call(&mut self, next: &Next, failures: &mut u32) -> Went {
        let shared = Arc::clone(&self.shared);
        let worker = next.call.worker;
        match shared.queue.next(next).await {
            Ok(Taken::Ran(reply)) => {
                self.n = next.call.n;
                return Went::Ran(reply);
            }
            Ok(Taken::Expired) => shared.lease.renew(worker).await,
            Ok(Taken::Reaped) => {
                shared.lease.reaped(worker);
            }
            // Nothing was written: the number is still free.
            Err(
                error @ (QueueError::Unreachable(_)
                | QueueError::Full(_)
                | QueueError::NotDurable(_)),
            ) => {
                tracing::debug!(%error, "dispatch call did not run");
                shared.back_off(*failures).await;
                *failures += 1;
            }
            // A number that is taken: either an earlier life of this call ran, or it was barred.
            Ok(Taken::Refused) => return self.resolve(next.call).await,
            Err(error) => {
                tracing::warn!(%error, "outcome of a dispatch call is unknown");
                let went = self.resolve(next.call).await;
                if !matches!(went, Went::Again) {
                    return went;
                }
                shared.back_off(*failures).await;
                *failures += 1;
                if matches!(error, QueueError::Protocol(_) | QueueError::Conflict(_)) {
                    return Went::Refused(error);
                }
            }
        }
        Went::Again
    }

    /// Learns what became of `call`; afterwards it has run or never will.
    async fn resolve(&mut self, call: Call) -> Went {
        let mut failures = 0;
        loop {
            let error = match self.shared.queue.resolve(call).await {
                Ok(Resolved::Ran(reply)) => {
                    self.n = call.n;
                    return Went::Ran(reply);
                }
                Ok(Resolved::Barred) => {
                    self.n = call.n;
                    return Went::Again;
                }
                Ok(Resolved::Reaped) => {
                    self.shared.lease.reaped(call.worker);
                    return Went::Again;
                }
                Err(error) => error,
            };
            tracing::debug!(%error, "reply of a dispatch call cannot be had yet");
            self.shared.back_off(failures).await;
            failures += 1;
            // A reaped term answers everything: whatever the call did was taken back.
            if self.shared.lease.current() != Some(call.worker) {
                return Went::Again;
            }
        }
    }

    fn accept(&self, mut batch: Batch, next: Next, reply: NextReply, sent: Sent) {
        let shared = &self.shared;
        for stale in &reply.stale {
            if let Some(outgoing) = batch.settlements.get(*stale as usize) {
                tracing::warn!(
                    task = %outgoing.settlement.handle.task,
                    "settled a task that was another's by then; of it only deliveries count"
                );
            }
        }
        for outgoing in batch.settlements.drain(..) {
            match outgoing.goes_on {
                // Who does not wait any more has given the claim up.
                Some(confirmed) => {
                    shared.ledger.confirmed(outgoing.serial);
                    let _ = confirmed.send(());
                }
                None => {
                    let task = outgoing.settlement.handle.task;
                    shared.ledger.close(task, outgoing.serial);
                }
            }
        }
        let worker = next.call.worker;
        let granted = reply.grants.len();
        for grant in reply.grants {
            let tasks = grant
                .tasks
                .into_iter()
                .filter_map(|claimed| self.open(claimed, worker, sent))
                .collect();
            let grant = Grant::new(shared, worker, grant.slot, grant.site, grant.queue, tasks);
            // Nobody listens any more: dropping gives the grant back.
            let _ = shared.work.send(Work::Deliver(grant));
        }
        for claimed in reply.named {
            if let Some(claim) = self.open(claimed, worker, sent) {
                let _ = shared.work.send(Work::Expire(claim));
            }
        }
        let unused = batch.grants.saturating_sub(granted);
        let then = if next.claim.is_some() {
            reply.then
        } else {
            Then::Empty
        };
        shared.inbox.answered(&batch, unused, then);
    }

    fn open(&self, claimed: Claimed, worker: WorkerId, sent: Sent) -> Option<Claim> {
        let shared = &self.shared;
        let task = claimed.handle.task;
        match shared.ledger.open(task, claimed.state.reclaimed_begun) {
            Some(serial) => Some(Claim::new(shared, claimed, worker, serial, sent)),
            None => {
                // Its deadline passed while this process still has a transaction for it: one at a
                // time, so the second claim goes back, and the task is withheld from now on.
                shared.inbox.settle(Outgoing {
                    settlement: Settlement {
                        handle: claimed.handle,
                        delivered: Vec::new(),
                        failed: Vec::new(),
                        recipients: u16::MAX,
                        rest: Rest::GivenBack,
                        notification: None,
                        journal: Bytes::new(),
                    },
                    worker,
                    serial: NO_SERIAL,
                    goes_on: None,
                });
                None
            }
        }
    }
}

/// So often a call is refused before its parts go separately.
const REFUSALS: u32 = 3;
/// Of settlements that belong to no open claim.
const NO_SERIAL: u64 = 0;
