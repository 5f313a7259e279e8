use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::Settings;
use crate::id::{Handle, SlotId, WorkerId};
use crate::operation::{Settlement, Then};

/// What waits for the lanes' next calls: outcomes, slots to release, and the wish for work.
///
/// A call is due at once for a released slot, a task to claim by name, and work that may be there;
/// a lone outcome waits a moment for company, because its grant mostly goes on and ends with a
/// release. Between two calls lies the pace, so that under load a call carries many of each.
pub(super) struct Inbox {
    pace: Duration,
    linger: Duration,
    poll: Duration,
    grants_per_call: usize,
    state: Mutex<State>,
    changed: Notify,
    /// A call was answered.
    quieter: Notify,
}

struct State {
    settlements: Vec<Outgoing>,
    releases: Vec<(WorkerId, SlotId)>,
    named: Vec<Handle>,
    /// When what waits here must go at the latest.
    due: Option<Instant>,
    wanted: usize,
    claiming: bool,
    closed: bool,
    /// When to look for work; `None` while a lane is looking.
    look_at: Option<Instant>,
    /// Counts the events that may have made work: an answer from before the last one is outdated.
    nudges: u64,
    last_call: Option<Instant>,
    /// Batches that lanes have taken and not answered.
    under_way: usize,
}

/// A settlement on its way, with the term and the serial number of its claim.
pub(super) struct Outgoing {
    pub(super) settlement: Settlement,
    pub(super) worker: WorkerId,
    pub(super) serial: u64,
    /// Whoever goes on with the claim waits for this settlement's confirmation.
    pub(super) goes_on: Option<oneshot::Sender<()>>,
}

/// What one call takes along.
pub(super) struct Batch {
    pub(super) settlements: Vec<Outgoing>,
    pub(super) releases: Vec<(WorkerId, SlotId)>,
    pub(super) named: Vec<Handle>,
    /// Grants to ask for; to be given back with [`Inbox::answered`] as far as none came.
    pub(super) grants: usize,
    looks: bool,
    nudges: u64,
}

impl Inbox {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            pace: settings.pace,
            linger: settings.linger,
            poll: settings.poll,
            grants_per_call: usize::from(settings.grants_per_call),
            state: Mutex::new(State {
                settlements: Vec::new(),
                releases: Vec::new(),
                named: Vec::new(),
                due: None,
                wanted: 0,
                claiming: true,
                closed: false,
                look_at: Some(Instant::now()),
                nudges: 0,
                last_call: None,
                under_way: 0,
            }),
            changed: Notify::new(),
            quieter: Notify::new(),
        }
    }

    pub(super) fn settle(&self, outgoing: Outgoing) {
        let mut state = self.state();
        state.settlements.push(outgoing);
        let full = state.settlements.len() == SETTLEMENTS_PER_CALL;
        let wait = if full { Duration::ZERO } else { self.linger };
        self.due_within(state, wait);
    }

    /// Puts a slot on the list of those given up: what waited for it may go.
    pub(super) fn release(&self, worker: WorkerId, slot: SlotId) {
        let mut state = self.state();
        state.releases.push((worker, slot));
        state.nudge();
        self.due_within(state, Duration::ZERO);
    }

    pub(super) fn claim_by_name(&self, handles: impl IntoIterator<Item = Handle>) {
        let mut state = self.state();
        state.named.extend(handles);
        if !state.named.is_empty() {
            self.due_within(state, Duration::ZERO);
        }
    }

    pub(super) fn waits_for_named(&self) -> bool {
        !self.state().named.is_empty()
    }

    pub(super) fn want(&self, grants: usize) {
        self.state().wanted += grants;
        self.changed.notify_one();
    }

    /// Something was enqueued here.
    pub(super) fn nudge(&self) {
        self.state().nudge();
        self.changed.notify_one();
    }

    pub(super) fn set_claiming(&self, claiming: bool) {
        let mut state = self.state();
        state.claiming = claiming;
        state.nudge();
        drop(state);
        self.changed.notify_one();
    }

    pub(super) fn is_claiming(&self) -> bool {
        let state = self.state();
        state.claiming && !state.closed
    }

    /// From now on only outcomes and releases go out.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.named.clear();
    }

    /// Waits until a call is due and takes what it carries.
    pub(super) async fn gather(&self) -> Batch {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let wake_at = {
                let mut state = self.state();
                let now = Instant::now();
                match self.call_at(&state) {
                    Some(at) if at <= now => return self.take(&mut state, now),
                    at => at,
                }
            };
            match wake_at {
                Some(at) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// Notes how a call for `batch` went: `unused` grants were asked for and not given.
    pub(super) fn answered(&self, batch: &Batch, unused: usize, then: Then) {
        let mut state = self.state();
        state.under_way -= 1;
        state.wanted += unused;
        if batch.looks {
            let pause = match then {
                Then::More => Duration::ZERO,
                Then::Sleep(pause) => pause.min(self.poll),
                Then::Empty => self.poll,
            };
            let outdated = state.nudges != batch.nudges;
            let pause = if outdated { Duration::ZERO } else { pause };
            let at = Instant::now() + pause;
            state.look_at = Some(state.look_at.map_or(at, |other| other.min(at)));
        }
        drop(state);
        self.changed.notify_one();
        self.quieter.notify_waiters();
    }

    /// Parts a batch that the queue refuses: what another call may carry waits for it, so that in the
    /// end only what is at fault is refused. False when there is nothing to part.
    pub(super) fn part(&self, batch: &mut Batch) -> bool {
        let mut state = self.state();
        let (outcomes, releases) = (batch.settlements.len(), batch.releases.len());
        if batch.grants > 0 {
            // A claim by itself may be made again and again.
            if outcomes + releases + batch.named.len() > 0 {
                state.wanted += std::mem::take(&mut batch.grants);
            }
            // They are found again.
            batch.named.clear();
        } else if outcomes > 0 && releases > 0 {
            state.releases.append(&mut batch.releases);
        } else if outcomes > 1 {
            let others = batch.settlements.split_off(outcomes / 2);
            state.settlements.splice(..0, others);
        } else {
            return false;
        }
        self.due_within(state, Duration::ZERO);
        true
    }

    /// Waits until everything that was to be said has been said and answered.
    pub(super) async fn emptied(&self) {
        loop {
            let mut quieter = std::pin::pin!(self.quieter.notified());
            quieter.as_mut().enable();
            if self.is_empty() {
                return;
            }
            quieter.await;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        let state = self.state();
        state.under_way == 0 && state.settlements.is_empty() && state.releases.is_empty()
    }

    fn call_at(&self, state: &State) -> Option<Instant> {
        let can_claim = state.claiming && !state.closed && state.wanted > 0;
        let look = state.look_at.filter(|_| can_claim);
        let at = [state.due, look].into_iter().flatten().min()?;
        let paced = state.last_call.map_or(at, |last| last + self.pace);
        Some(at.max(paced))
    }

    fn take(&self, state: &mut State, now: Instant) -> Batch {
        state.last_call = Some(now);
        state.under_way += 1;
        let can_claim = state.claiming && !state.closed;
        let grants = if can_claim {
            state.wanted.min(self.grants_per_call)
        } else {
            0
        };
        state.wanted -= grants;
        let looks = grants > 0;
        if looks {
            state.look_at = None;
        }
        let keep = state.settlements.len().saturating_sub(SETTLEMENTS_PER_CALL);
        let settlements = match keep {
            0 => std::mem::take(&mut state.settlements),
            _ => state.settlements.drain(..SETTLEMENTS_PER_CALL).collect(),
        };
        state.due = (keep > 0).then_some(now);
        let named = state.named.len().min(NAMED_PER_CALL);
        let named = state.named.drain(..named).collect();
        if !state.named.is_empty() {
            state.due = Some(now);
        }
        Batch {
            settlements,
            releases: std::mem::take(&mut state.releases),
            named,
            grants,
            looks,
            nudges: state.nudges,
        }
    }

    fn due_within(&self, mut state: MutexGuard<'_, State>, wait: Duration) {
        let at = Instant::now() + wait;
        let earlier = state.due.is_none_or(|due| at < due);
        if earlier {
            state.due = Some(at);
        }
        drop(state);
        if earlier {
            self.changed.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Work may be there now.
    fn nudge(&mut self) {
        self.nudges += 1;
        self.look_at = Some(Instant::now());
    }
}

const SETTLEMENTS_PER_CALL: usize = 64;
const NAMED_PER_CALL: usize = 32;
