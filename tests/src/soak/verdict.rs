//! What became of every message, against what its client was told and what was planned for it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::fate::{Fate, Planned, index_of};
use super::faults::{Event, Kind};
use super::load::{Submission, run};
use super::sink::{Arrival, Content, Seen};
use crate::corpus::Message;

/// All that was seen from outside.
pub(super) struct Evidence {
    pub(super) seed: u64,
    pub(super) lease: Duration,
    pub(super) submissions: Vec<Submission>,
    pub(super) sunk: Seen,
    pub(super) events: Vec<Event>,
    /// Messages that were still in the queue at the end.
    pub(super) queued: Vec<String>,
}

#[derive(Default)]
pub(super) struct Verdict {
    pub(super) accepted: usize,
    /// Recipients that the message arrived for, and that a notification arrived about.
    pub(super) delivered: usize,
    pub(super) returned: usize,
    /// Accepted, and neither arrived nor returned nor queued.
    pub(super) lost: Vec<String>,
    /// 250 while nothing could be kept.
    pub(super) false_250: Vec<String>,
    /// What arrived is not what was sent, or not where it was to be.
    pub(super) wrong: Vec<String>,
    /// A failed recipient with other than one notification.
    pub(super) notifications: Vec<String>,
    /// Deliveries too many, by the event that explains them.
    pub(super) duplicates: BTreeMap<usize, usize>,
    /// Of those, the ones a stopped process sent when it went on, after another had taken over.
    pub(super) residual: usize,
    /// Duplicates that no event explains, or more than an event may have.
    pub(super) unexplained: Vec<String>,
    /// Messages of clients that got no 250 and sent again.
    pub(super) resubmitted: usize,
    /// By event: from the kill to the first delivery of something the victim had claimed, and to
    /// the moment when all of it had been begun with again.
    pub(super) take_overs: Vec<TakeOver>,
}

pub(super) struct TakeOver {
    pub(super) first: Option<u64>,
    pub(super) all: Option<u64>,
}

/// Who got what, how often: by the relay's name for the message, and the recipient.
type Deliveries<'a> = HashMap<(&'a str, &'a str), Vec<&'a Arrival>>;

pub(super) fn judge(evidence: &Evidence) -> Verdict {
    let accepted: HashMap<&str, u32> = evidence
        .submissions
        .iter()
        .filter_map(|submission| Some((submission.queue_id()?, submission.index)))
        .collect();
    let mut deliveries = Deliveries::new();
    for arrival in &evidence.sunk.arrivals {
        for recipient in &arrival.recipients {
            let key = (arrival.queue_id.as_str(), recipient.as_str());
            deliveries.entry(key).or_default().push(arrival);
        }
    }
    for of_one in deliveries.values_mut() {
        of_one.sort_by_key(|arrival| arrival.at);
    }
    let mut verdict = Verdict {
        accepted: accepted.len(),
        ..Verdict::default()
    };
    verdict.outcomes(evidence, &accepted, &deliveries);
    verdict.contents(evidence, &accepted);
    verdict.answers(evidence);
    verdict.doubled(evidence, &deliveries);
    verdict.taken_over(evidence, &accepted, &deliveries);
    verdict
}

impl Verdict {
    /// Every recipient of what was accepted has got it, or its sender has heard, once.
    fn outcomes(
        &mut self,
        evidence: &Evidence,
        accepted: &HashMap<&str, u32>,
        deliveries: &Deliveries<'_>,
    ) {
        let mut returned: HashMap<(&str, &str), BTreeSet<&str>> = HashMap::new();
        for arrival in &evidence.sunk.arrivals {
            if let Content::Notification { original, failed } = &arrival.content {
                for recipient in failed {
                    let key = (original.as_str(), recipient.as_str());
                    let own = arrival.queue_id.as_str();
                    returned.entry(key).or_default().insert(own);
                }
            }
        }
        let queued: HashSet<&str> = evidence.queued.iter().map(String::as_str).collect();
        for (queue_id, index) in accepted {
            for recipient in Planned::new(evidence.seed, *index).recipients {
                let key = (*queue_id, recipient.as_str());
                let arrived = deliveries.contains_key(&key);
                let notifications = returned.get(&key).map_or(0, BTreeSet::len);
                self.delivered += usize::from(arrived);
                self.returned += usize::from(notifications > 0);
                let name = || format!("{queue_id} for {recipient}");
                if !arrived && notifications == 0 {
                    if !queued.contains(queue_id) {
                        self.lost.push(name());
                    }
                    continue;
                }
                let fails = Fate::of(&recipient).fails();
                if fails == arrived {
                    self.wrong.push(format!("{}: arrived is {arrived}", name()));
                }
                if notifications != usize::from(fails) {
                    self.notifications
                        .push(format!("{}: {notifications} notifications", name()));
                }
            }
        }
    }

    /// What arrived is what was sent, and was accepted or is explained by an answer that was not
    /// heard.
    fn contents(&mut self, evidence: &Evidence, accepted: &HashMap<&str, u32>) {
        let mut unaccepted: HashMap<u32, Vec<&Submission>> = HashMap::new();
        for submission in &evidence.submissions {
            if submission.queue_id().is_none() {
                unaccepted
                    .entry(submission.index)
                    .or_default()
                    .push(submission);
            }
        }
        let run = run(evidence.seed);
        let mut resubmitted = HashSet::new();
        for arrival in &evidence.sunk.arrivals {
            let Content::Message { id, sha256 } = &arrival.content else {
                continue;
            };
            let index = arrival.recipients.iter().find_map(|it| index_of(it));
            let message = Message::small(&run, index.unwrap_or(u32::MAX));
            if message.id != *id || message.digest() != *sha256 {
                self.wrong
                    .push(format!("{} is not what was sent as {id}", arrival.queue_id));
            }
            match accepted.get(arrival.queue_id.as_str()) {
                Some(accepted) if index == Some(*accepted) => {}
                Some(_) => self
                    .wrong
                    .push(format!("{} is not the message {id}", arrival.queue_id)),
                None => {
                    let attempts = index.and_then(|index| unaccepted.get(&index));
                    let explained = attempts.into_iter().flatten().any(|attempt| {
                        let mut events = evidence.events.iter();
                        events.any(|event| cuts_short(event, attempt))
                    });
                    if explained {
                        resubmitted.insert(arrival.queue_id.as_str());
                    } else {
                        self.unexplained.push(format!(
                            "{} ({id}) arrived and was not accepted: {attempts:?}",
                            arrival.queue_id
                        ));
                    }
                }
            }
        }
        self.resubmitted = resubmitted.len();
    }

    /// No 250 to what came and was answered while Redis could keep nothing.
    fn answers(&mut self, evidence: &Evidence) {
        for event in &evidence.events {
            if event.kind.is_of_a_relay() {
                continue;
            }
            for submission in &evidence.submissions {
                if submission.queue_id().is_some()
                    && submission.begun > event.from
                    && submission.ended < event.until
                {
                    self.false_250.push(format!(
                        "{} while {}",
                        submission.reply,
                        event.kind.name()
                    ));
                }
            }
        }
    }

    /// Every delivery too many belongs to one event, and no event has more than it may.
    fn doubled(&mut self, evidence: &Evidence, deliveries: &Deliveries<'_>) {
        for ((queue_id, recipient), of_one) in deliveries {
            for pair in of_one.windows(2) {
                let [earlier, later] = pair else { continue };
                let events = evidence.events.iter().enumerate();
                let why = events
                    .filter_map(|(position, event)| {
                        Some((position, explains(event, earlier, later)?))
                    })
                    .next();
                match why {
                    Some((position, by)) => {
                        *self.duplicates.entry(position).or_default() += 1;
                        self.residual += usize::from(by == By::Later);
                    }
                    None => self.unexplained.push(format!(
                        "{queue_id} for {recipient} arrived by {} at {} (answered {:?}) and by {} at {}",
                        earlier.relay, earlier.at, earlier.answered, later.relay, later.at
                    )),
                }
            }
        }
        for (position, count) in &self.duplicates {
            let event = &evidence.events[*position];
            let bound = bound(event);
            if *count > bound {
                self.unexplained.push(format!(
                    "{count} duplicates of {} ({:?}), which may have {bound}",
                    event.kind.name(),
                    event.relay
                ));
            }
        }
    }

    fn taken_over(
        &mut self,
        evidence: &Evidence,
        accepted: &HashMap<&str, u32>,
        deliveries: &Deliveries<'_>,
    ) {
        let mut touches: HashMap<&str, Vec<(u64, &str)>> = HashMap::new();
        for touch in &evidence.sunk.touches {
            let of_one = touches.entry(touch.recipient.as_str()).or_default();
            of_one.push((touch.at, touch.relay.as_str()));
        }
        for event in &evidence.events {
            if event.kind != Kind::Kill {
                continue;
            }
            let victim = event.relay.as_deref().unwrap_or_default();
            let (mut first, mut all) = (None::<u64>, None::<u64>);
            for task in &event.claims {
                let Some(index) = accepted.get(task.queue_id.as_str()) else {
                    continue;
                };
                let planned = Planned::new(evidence.seed, *index);
                let mut begun = None::<u64>;
                for recipient in planned.of_task(task.ordinal) {
                    let key = (task.queue_id.as_str(), recipient);
                    let arrivals = deliveries.get(&key).into_iter().flatten();
                    let delivered = arrivals
                        .filter(|arrival| arrival.relay != victim && arrival.at > event.from)
                        .map(|arrival| arrival.at - event.from)
                        .min();
                    first = first.into_iter().chain(delivered).min();
                    let touched = touches.get(recipient).into_iter().flatten();
                    let touched = touched
                        .filter(|(at, relay)| *relay != victim && *at > event.from)
                        .map(|(at, _)| at - event.from)
                        .min();
                    begun = begun.into_iter().chain(touched).min();
                }
                all = all.into_iter().chain(begun).max();
            }
            self.take_overs.push(TakeOver { first, all });
        }
    }
}

/// Which of two deliveries an event explains.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    /// The queue did not hear of it.
    Earlier,
    /// It was under way already when another took over.
    Later,
}

fn explains(event: &Event, earlier: &Arrival, later: &Arrival) -> Option<By> {
    if !event.kind.is_of_a_relay() {
        // Redis forgets nothing, and nobody reaps anybody meanwhile.
        return None;
    }
    let relay = event.relay.as_deref();
    // An outcome is settled within a second, or no other message ends before it is.
    let settled = earlier
        .answered
        .map_or(u64::MAX, |answered| answered + UNCONFIRMED + SLACK);
    if relay == Some(&earlier.relay) && event.from <= settled && earlier.at <= event.until + SLACK {
        return Some(By::Earlier);
    }
    let went_on = event.kind == Kind::Stop
        && relay == Some(&later.relay)
        && (event.from..event.until + SLACK).contains(&later.at);
    went_on.then_some(By::Later)
}

/// How many duplicates an event may have: what its process had delivered and not settled, and a
/// final dot without its answer on each connection.
pub(super) fn bound(event: &Event) -> usize {
    match event.kind.is_of_a_relay() {
        true => UNSETTLED + event.connections,
        false => 0,
    }
}

/// Whether a client was not told what became of its message because of this.
fn cuts_short(event: &Event, attempt: &Submission) -> bool {
    let here = !event.kind.is_of_a_relay() || event.slot == Some(attempt.slot);
    here && attempt.begun <= event.until + SLACK && event.from <= attempt.ended + SLACK
}

/// What a relay process may have delivered and not settled, and for how long, in milliseconds.
const UNSETTLED: usize = 33;
const UNCONFIRMED: u64 = 1_000;
/// Milliseconds by which a busy machine may be late to note something.
const SLACK: u64 = 1_500;

#[cfg(test)]
mod tests;
