//! The judge is judged: each thing that can go wrong is seen, and nothing is where all is well.

use super::super::fleet::Task;
use super::*;

const SEED: u64 = 1;

/// The first message of the plan with these fates, in this order.
fn index_with(fates: &[Fate]) -> u32 {
    let of = |index| Planned::new(SEED, index).recipients;
    (0..10_000)
        .find(|index| {
            of(*index)
                .iter()
                .map(|it| Fate::of(it))
                .eq(fates.iter().copied())
        })
        .expect("every fate comes")
}

struct Story {
    evidence: Evidence,
    index: u32,
}

impl Story {
    fn of(fates: &[Fate]) -> Self {
        let evidence = Evidence {
            seed: SEED,
            lease: Duration::from_secs(3),
            submissions: Vec::new(),
            sunk: Seen::default(),
            events: Vec::new(),
            queued: Vec::new(),
        };
        let index = index_with(fates);
        Self { evidence, index }
    }

    fn submitted(mut self, at: u64, reply: &str) -> Self {
        self.evidence.submissions.push(Submission {
            index: self.index,
            slot: 0,
            begun: at,
            ended: at + 10,
            reply: reply.to_owned(),
        });
        self
    }

    fn arrived(mut self, at: u64, relay: &str, queue_id: &str, recipient: usize) -> Self {
        let message = Message::small(&run(SEED), self.index);
        let content = Content::Message {
            sha256: message.digest(),
            id: message.id,
        };
        let recipient = Planned::new(SEED, self.index).recipients[recipient].clone();
        self.note(at, relay, queue_id, recipient, content);
        self
    }

    fn returned(mut self, at: u64, own: &str, original: &str, recipient: usize) -> Self {
        let planned = Planned::new(SEED, self.index);
        let content = Content::Notification {
            original: original.to_owned(),
            failed: vec![planned.recipients[recipient].clone()],
        };
        self.note(at, "r1-1.example", own, planned.sender, content);
        self
    }

    fn note(&mut self, at: u64, relay: &str, queue_id: &str, recipient: String, content: Content) {
        self.evidence.sunk.arrivals.push(Arrival {
            at,
            answered: Some(at),
            relay: relay.to_owned(),
            queue_id: queue_id.to_owned(),
            recipients: vec![recipient],
            content,
        });
    }

    fn event(mut self, kind: Kind, from: u64, until: u64) -> Self {
        let relay = kind.is_of_a_relay().then(|| "r0-1.example".to_owned());
        self.evidence.events.push(Event {
            kind,
            from,
            until,
            slot: relay.as_ref().map(|_| 0),
            relay,
            claims: vec![Task {
                queue_id: "q".to_owned(),
                ordinal: 0,
            }],
            connections: 3,
        });
        self
    }

    fn judged(&self) -> Verdict {
        judge(&self.evidence)
    }
}

fn faults(verdict: &Verdict) -> [usize; 5] {
    [
        verdict.lost.len(),
        verdict.false_250.len(),
        verdict.wrong.len(),
        verdict.notifications.len(),
        verdict.unexplained.len(),
    ]
}

#[test]
fn all_is_well() {
    let story = Story::of(&[Fate::Take, Fate::Refuse])
        .submitted(1_000, "250 2.0.0 q")
        .arrived(2_000, "r0-1.example", "q", 0)
        .returned(2_100, "n", "q", 1);
    let verdict = story.judged();
    assert_eq!(faults(&verdict), [0; 5]);
    assert_eq!(
        (verdict.accepted, verdict.delivered, verdict.returned),
        (1, 1, 1)
    );
}

#[test]
fn what_is_nowhere_is_lost_and_what_is_queued_is_not() {
    let mut story = Story::of(&[Fate::Take]).submitted(1_000, "250 2.0.0 q");
    assert_eq!(faults(&story.judged()), [1, 0, 0, 0, 0]);
    story.evidence.queued.push("q".to_owned());
    assert_eq!(faults(&story.judged()), [0; 5]);
}

#[test]
fn a_failure_is_told_of_once() {
    let told = |times: u64| {
        let mut story = Story::of(&[Fate::Refuse]).submitted(1_000, "250 2.0.0 q");
        for time in 0..times {
            story = story.returned(2_000 + time, &format!("n{time}"), "q", 0);
        }
        faults(&story.judged())
    };
    assert_eq!(told(0), [1, 0, 0, 0, 0]);
    assert_eq!(told(1), [0; 5]);
    assert_eq!(told(2), [0, 0, 0, 1, 0]);
}

#[test]
fn nothing_is_accepted_while_nothing_can_be_kept() {
    let accepted = |at| {
        let story = Story::of(&[Fate::Take])
            .submitted(at, "250 2.0.0 q")
            .arrived(9_000, "r1-1.example", "q", 0)
            .event(Kind::Restart, 1_000, 2_000);
        faults(&story.judged())
    };
    assert_eq!(accepted(1_500), [0, 1, 0, 0, 0]);
    assert_eq!(accepted(995), [0; 5]);
    assert_eq!(accepted(1_995), [0; 5]);
}

#[test]
fn a_duplicate_belongs_to_the_relay_that_could_not_settle() {
    let doubled = |kind, from, until| {
        let story = Story::of(&[Fate::Take])
            .submitted(1_000, "250 2.0.0 q")
            .arrived(5_000, "r0-1.example", "q", 0)
            .arrived(9_000, "r1-1.example", "q", 0)
            .event(kind, from, until);
        let verdict = story.judged();
        (
            verdict.duplicates.values().sum::<usize>(),
            verdict.unexplained.len(),
        )
    };
    assert_eq!(doubled(Kind::Kill, 5_100, 5_110), (1, 0));
    assert_eq!(doubled(Kind::Stop, 4_990, 8_000), (1, 0));
    // Settled long before.
    assert_eq!(doubled(Kind::Kill, 8_100, 8_110), (0, 1));
    // Redis forgets nothing.
    assert_eq!(doubled(Kind::Restart, 5_100, 6_000), (0, 1));
}

#[test]
fn a_stopped_relay_may_send_when_it_goes_on() {
    let story = Story::of(&[Fate::Take])
        .submitted(1_000, "250 2.0.0 q")
        .arrived(5_000, "r1-1.example", "q", 0)
        .arrived(8_010, "r0-1.example", "q", 0)
        .event(Kind::Stop, 2_000, 8_000);
    let verdict = story.judged();
    assert_eq!((verdict.residual, verdict.unexplained.len()), (1, 0));
}

#[test]
fn an_event_has_no_more_duplicates_than_it_may() {
    let mut story = Story::of(&[Fate::Take]).event(Kind::Kill, 5_100, 5_110);
    let bound = bound(&story.evidence.events[0]);
    for message in 0..=bound {
        let queue_id = format!("q{message}");
        story = story
            .submitted(1_000, &format!("250 2.0.0 {queue_id}"))
            .arrived(5_000, "r0-1.example", &queue_id, 0)
            .arrived(9_000, "r1-1.example", &queue_id, 0);
    }
    let verdict = story.judged();
    assert_eq!(verdict.duplicates.values().sum::<usize>(), bound + 1);
    assert_eq!(verdict.unexplained.len(), 1);
}

#[test]
fn what_was_refused_and_arrives_must_have_a_reason() {
    let arrived = |reply: &str, kind| {
        let story = Story::of(&[Fate::Take])
            .submitted(5_000, reply)
            .submitted(7_000, "250 2.0.0 second")
            .arrived(9_000, "r1-1.example", "first", 0)
            .arrived(9_000, "r1-1.example", "second", 0)
            .event(kind, 5_005, 5_006);
        let verdict = story.judged();
        (verdict.resubmitted, verdict.unexplained.len())
    };
    assert_eq!(arrived("connection: closed", Kind::Kill), (1, 0));
    let mut calm = Story::of(&[Fate::Take])
        .submitted(5_000, "451 4.3.0 later")
        .submitted(7_000, "250 2.0.0 second")
        .arrived(9_000, "r1-1.example", "first", 0)
        .arrived(9_000, "r1-1.example", "second", 0);
    assert_eq!(calm.judged().unexplained.len(), 1);
    // Altered on its way.
    calm.evidence.sunk.arrivals[1].content = Content::Message {
        id: "other".to_owned(),
        sha256: String::new(),
    };
    assert_eq!(calm.judged().wrong.len(), 1);
}

#[test]
fn a_take_over_counts_from_the_kill() {
    let story = Story::of(&[Fate::Take])
        .submitted(1_000, "250 2.0.0 q")
        .arrived(8_000, "r1-1.example", "q", 0)
        .event(Kind::Kill, 5_000, 5_001);
    let verdict = story.judged();
    assert_eq!(verdict.take_overs[0].first, Some(3_000));
    assert_eq!(verdict.take_overs[0].all, None, "nobody was seen to begin");
}
