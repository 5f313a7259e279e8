use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::Clock;
use crate::id::WorkerId;
use crate::operation::Timing;

/// This process' membership: which id, since when unanswered, until when it counts.
///
/// One *term* is the time under one id. A reaped id never comes back; the heart takes a new one.
pub(super) struct Lease {
    clock: Clock,
    /// How long after sending the last good beat the worker still trusts itself: two thirds of
    /// the lease, so that clocks may differ in speed and a write may be slow.
    trust: Duration,
    state: Mutex<Term>,
    current: watch::Sender<Option<WorkerId>>,
    beats: watch::Sender<u64>,
    /// The heart is to beat, or to register, now.
    pub(super) urge: Notify,
}

struct Term {
    renewed: Duration,
    ended: CancellationToken,
}

impl Lease {
    pub(super) fn new(clock: Clock, timing: Timing) -> Self {
        Self {
            clock,
            trust: timing.lease * 2 / 3,
            state: Mutex::new(Term {
                renewed: Duration::ZERO,
                ended: CancellationToken::new(),
            }),
            current: watch::Sender::new(None),
            beats: watch::Sender::new(0),
            urge: Notify::new(),
        }
    }

    pub(super) fn current(&self) -> Option<WorkerId> {
        *self.current.borrow()
    }

    /// Whether `worker` is a member and may start things and end messages.
    pub(super) fn is_trusted(&self, worker: WorkerId) -> bool {
        self.current() == Some(worker) && self.is_fresh()
    }

    /// Whether the last good beat was sent recently enough.
    pub(super) fn is_fresh(&self) -> bool {
        let renewed = self.state().renewed;
        self.clock.now().saturating_sub(renewed) < self.trust
    }

    /// Cancelled when the current term ends.
    pub(super) fn term(&self) -> CancellationToken {
        self.state().ended.clone()
    }

    /// Waits until this process is a member.
    pub(super) async fn member(&self) -> WorkerId {
        let mut current = self.current.subscribe();
        loop {
            if let Some(worker) = *current.borrow_and_update() {
                return worker;
            }
            if current.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub(super) fn registered(&self, worker: WorkerId, sent: Duration) {
        *self.state() = Term {
            renewed: sent,
            ended: CancellationToken::new(),
        };
        self.current.send_replace(Some(worker));
    }

    /// Notes a good beat; it counts from when it was sent.
    pub(super) fn renewed(&self, sent: Duration) {
        self.state().renewed = sent;
        self.beats.send_modify(|beats| *beats += 1);
    }

    /// Ends the term of `worker`, if it is the current one.
    pub(super) fn reaped(&self, worker: WorkerId) -> bool {
        let ended = self.current.send_if_modified(|current| {
            let is_current = *current == Some(worker);
            if is_current {
                *current = None;
            }
            is_current
        });
        if ended {
            self.state().ended.cancel();
            self.urge.notify_one();
        }
        ended
    }

    /// Has the heart beat, and waits for a good beat or for the end of `worker`'s term.
    pub(super) async fn renew(&self, worker: WorkerId) {
        let mut beats = self.beats.subscribe();
        let mut current = self.current.subscribe();
        if *current.borrow_and_update() != Some(worker) {
            return;
        }
        self.urge.notify_one();
        tokio::select! {
            _ = beats.changed() => {}
            _ = current.changed() => {}
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Term> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
