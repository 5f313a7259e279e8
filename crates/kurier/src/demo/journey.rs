//! What the queue's outcomes say of each message, put together as they happen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use queue::id::MessageId;
use relay::delivery::{Outcome, OutcomeKind};
use tokio::sync::broadcast;

use super::plan::{Due, Plan};
use super::receiver::Receiver;

#[derive(Clone, Default)]
pub(super) struct Journeys(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    queue_ids: BTreeMap<u32, String>,
    outcomes: BTreeMap<String, Vec<Arc<Outcome>>>,
    /// Outcomes that came faster than they could be followed.
    missed: u64,
}

impl Journeys {
    /// Follows the outcomes from now on.
    pub(super) fn follow(mut outcomes: broadcast::Receiver<Arc<Outcome>>) -> Self {
        let journeys = Self::default();
        let followed = journeys.clone();
        tokio::spawn(async move {
            loop {
                match outcomes.recv().await {
                    Ok(outcome) => followed.note(outcome),
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        followed.known().missed += missed;
                    }
                    Err(broadcast::error::RecvError::Closed) => break,
                }
            }
        });
        journeys
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, outcome: Arc<Outcome>) {
        self.known()
            .outcomes
            .entry(outcome.message.to_string())
            .or_default()
            .push(outcome);
    }

    pub(super) fn accepted(&self, number: u32, queue_id: &str) {
        self.known().queue_ids.insert(number, queue_id.to_owned());
    }

    pub(super) fn accepted_count(&self) -> usize {
        self.known().queue_ids.len()
    }

    pub(super) fn missed(&self) -> u64 {
        self.known().missed
    }

    pub(super) fn queue_id(&self, number: u32) -> Option<String> {
        self.known().queue_ids.get(&number).cloned()
    }

    /// The steps of one message in their order. That it was accepted may be announced after its
    /// first delivery: both follow the same commit.
    pub(super) fn steps(&self, number: u32) -> Vec<Arc<Outcome>> {
        let known = self.known();
        let id = known.queue_ids.get(&number);
        let mut steps = id
            .and_then(|id| known.outcomes.get(id))
            .cloned()
            .unwrap_or_default();
        steps.sort_by_key(|step| step.kind != OutcomeKind::Accepted);
        steps
    }

    /// How many submitted messages have come to an end.
    pub(super) fn ended(&self) -> usize {
        let known = self.known();
        let of = |id: &String| known.outcomes.get(id).map_or(&[][..], Vec::as_slice);
        known
            .queue_ids
            .values()
            .filter(|id| of(id).iter().any(|step| is_end(&step.kind)))
            .count()
    }

    /// Whether nothing more is to come: every message has ended and every notice has arrived.
    pub(super) fn complete(&self, plan: &Plan, receiver: &Receiver) -> bool {
        let notices = plan
            .iter()
            .filter(|message| matches!(message.due, Due::Bounced | Due::Expired))
            .count();
        self.ended() == plan.len() && receiver.notices().len() >= notices
    }
}

fn is_end(kind: &OutcomeKind) -> bool {
    matches!(
        kind,
        OutcomeKind::Delivered { .. } | OutcomeKind::Failed { .. } | OutcomeKind::Expired { .. }
    )
}

/// The notification that a message's failure made, if it made one.
pub(super) fn notification(steps: &[Arc<Outcome>]) -> Option<MessageId> {
    steps.iter().find_map(|step| match step.kind {
        OutcomeKind::Notified { notification } => Some(notification),
        _ => None,
    })
}
