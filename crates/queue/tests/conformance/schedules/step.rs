//! What may happen next.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// `by` is a process; [`PROCESSES`] is one that was taken for dead, or was replaced, and goes on.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Enqueue {
        by: u8,
        lane: u8,
        messages: Vec<Shape>,
        fate: Fate,
    },
    /// One message whose body comes in chunks.
    Body {
        by: u8,
        lane: u8,
        message: Shape,
        chunks: u8,
        damage: Damage,
        fate: Fate,
    },
    Next {
        by: u8,
        lane: u8,
        settlements: Vec<(Pick, Outcome)>,
        releases: Vec<Index>,
        claim: Option<Wanted>,
        fate: Fate,
    },
    /// The last call again, octet by octet.
    Again {
        by: u8,
    },
    Resolve {
        by: u8,
        lane: u8,
        calls_ago: u8,
    },
    Begin {
        by: u8,
        handles: Vec<Pick>,
    },
    Check {
        by: u8,
        handle: Pick,
    },
    Abort {
        by: u8,
        lane: u8,
        message: Index,
        complete: bool,
    },
    /// Looks for expired messages and claims them by name.
    Expire {
        by: u8,
        lane: u8,
        max: u16,
    },
    Read {
        message: Index,
    },
    Beat {
        by: u8,
    },
    /// Its process starts anew under another id.
    Restart {
        by: u8,
    },
    Limit {
        default: u32,
        site: Option<(u8, u32)>,
        rate: Option<Speed>,
        old: bool,
        keep_held: bool,
    },
    Suspend {
        scope: u8,
        lasts_ms: Option<u64>,
    },
    Resume {
        scope: u8,
    },
    Hasten {
        site: u8,
    },
    Act {
        acts: Vec<(Pick, Deed)>,
    },
    List {
        place: Option<u8>,
        looks: u16,
    },
    Pass {
        ms: u64,
    },
    JumpBack {
        ms: u64,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Speed {
    /// Of every site or of one.
    pub(super) site: Option<u8>,
    pub(super) messages: u32,
    pub(super) per_ms: u64,
    pub(super) burst: u32,
}

pub(super) const PROCESSES: u8 = 3;
pub(super) const LANES: u8 = 2;

#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) queues: Vec<u8>,
    pub(super) lifetime_ms: u64,
}

/// What happens to chunks before their message is enqueued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Damage {
    None,
    /// The first never comes.
    Missing,
    GivenUp,
    /// Their time is over.
    Overdue,
}

/// What the network does with a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Answered,
    /// It runs, and its caller has to find out.
    ReplyLost,
    /// It arrives after its caller has found out.
    Late,
}

/// A task: one of the worker's own, or one of all there ever were.
#[derive(Clone, Debug)]
pub(super) struct Pick {
    pub(super) own: bool,
    pub(super) index: Index,
}

#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) grants: u16,
    pub(super) tasks_per_grant: u16,
    pub(super) withhold: bool,
    pub(super) by_name: Vec<Pick>,
}

#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// Recipients, as bits.
    pub(super) delivered: u8,
    pub(super) failed: u8,
    pub(super) rest: Rest,
    pub(super) notify: bool,
}

/// What an administrator does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    Retry,
    Hold,
    Release,
    Drop,
    /// With a notice that knows of so many outcomes.
    DropTelling(u16),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Rest {
    None,
    Held,
    Deferred(u64),
    GivenBack,
    Kept,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (by(), lane(), vec(shape(), 1..4), fate())
            .prop_map(|(by, lane, messages, fate)| Step::Enqueue { by, lane, messages, fate }),
        2 => (by(), lane(), shape(), 1..4u8, damage(), fate()).prop_map(
            |(by, lane, message, chunks, damage, fate)| Step::Body {
                by,
                lane,
                message,
                chunks,
                damage,
                fate,
            }
        ),
        14 => next(),
        1 => by().prop_map(|by| Step::Again { by }),
        1 => (by(), lane(), 0..3u8)
            .prop_map(|(by, lane, calls_ago)| Step::Resolve { by, lane, calls_ago }),
        3 => (by(), vec(pick(), 1..4)).prop_map(|(by, handles)| Step::Begin { by, handles }),
        1 => (by(), pick()).prop_map(|(by, handle)| Step::Check { by, handle }),
        2 => (by(), lane(), any::<Index>(), prop::bool::weighted(0.9))
            .prop_map(|(by, lane, message, complete)| Step::Abort { by, lane, message, complete }),
        2 => (by(), lane(), 0..4u16).prop_map(|(by, lane, max)| Step::Expire { by, lane, max }),
        1 => any::<Index>().prop_map(|message| Step::Read { message }),
        6 => by().prop_map(|by| Step::Beat { by }),
        1 => (0..PROCESSES).prop_map(|by| Step::Restart { by }),
        2 => (
            0..4u32,
            prop::option::of((0..SITES, 0..3u32)),
            prop::option::of(speed()),
            prop::bool::weighted(0.2),
            any::<bool>(),
        )
            .prop_map(|(default, site, rate, old, keep_held)| Step::Limit {
                default,
                site,
                rate,
                old,
                keep_held,
            }),
        1 => (0..SCOPES, prop::option::of(0..60_000u64))
            .prop_map(|(scope, lasts_ms)| Step::Suspend { scope, lasts_ms }),
        1 => (0..SCOPES).prop_map(|scope| Step::Resume { scope }),
        1 => (0..SITES).prop_map(|site| Step::Hasten { site }),
        3 => vec((pick(), deed()), 1..4).prop_map(|acts| Step::Act { acts }),
        1 => (prop::option::of(0..4u8), 1..20u16).prop_map(|(place, looks)| Step::List { place, looks }),
        5 => prop_oneof![0..200u64, 0..8_000u64, 0..130_000u64].prop_map(|ms| Step::Pass { ms }),
        1 => (0..20_000u64).prop_map(|ms| Step::JumpBack { ms }),
    ]
}

fn speed() -> impl Strategy<Value = Speed> {
    (
        prop::option::of(0..SITES),
        1..9u32,
        prop_oneof![1..30u64, 1..20_000u64],
        1..5u32,
    )
        .prop_map(|(site, messages, per_ms, burst)| Speed {
            site,
            messages,
            per_ms,
            burst,
        })
}

fn next() -> impl Strategy<Value = Step> {
    let settlements = vec((pick(), outcome()), 0..4);
    let releases = vec(any::<Index>(), 0..3);
    let claim = prop::option::weighted(0.8, wanted());
    (by(), lane(), settlements, releases, claim, fate()).prop_map(
        |(by, lane, settlements, releases, claim, fate)| Step::Next {
            by,
            lane,
            settlements,
            releases,
            claim,
            fate,
        },
    )
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let by_name = prop_oneof![3 => Just(Vec::new()), 1 => vec(pick(), 1..4)];
    (0..5u16, 0..4u16, any::<bool>(), by_name).prop_map(
        |(grants, tasks_per_grant, withhold, by_name)| Wanted {
            grants,
            tasks_per_grant,
            withhold,
            by_name,
        },
    )
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let whole = |delivered, failed, notify| Outcome {
        delivered,
        failed,
        rest: Rest::None,
        notify,
    };
    let deferral = prop_oneof![Just(0), 0..30_000u64].prop_map(Rest::Deferred);
    let rest = prop_oneof![
        Just(Rest::None),
        deferral.clone(),
        Just(Rest::GivenBack),
        Just(Rest::Held),
        Just(Rest::Kept)
    ];
    prop_oneof![
        3 => Just(whole(7, 0, false)),
        1 => any::<bool>().prop_map(move |notify| whole(0, 7, notify)),
        2 => deferral.prop_map(|rest| Outcome { delivered: 0, failed: 0, rest, notify: false }),
        1 => Just(Outcome { delivered: 0, failed: 0, rest: Rest::GivenBack, notify: false }),
        3 => (0..8u8, 0..8u8, rest, any::<bool>()).prop_map(|(delivered, failed, rest, notify)| {
            Outcome { delivered, failed: failed & !delivered, rest, notify }
        }),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        2 => Just(Deed::Retry),
        4 => Just(Deed::Hold),
        3 => Just(Deed::Release),
        1 => Just(Deed::Drop),
        1 => (0..2u16).prop_map(Deed::DropTelling),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    let lifetime = prop_oneof![1..20_000u64, Just(400_000)];
    (vec(0..QUEUES, 1..4), lifetime).prop_map(|(queues, lifetime_ms)| Shape {
        queues,
        lifetime_ms,
    })
}

fn pick() -> impl Strategy<Value = Pick> {
    (prop::bool::weighted(0.8), any::<Index>()).prop_map(|(own, index)| Pick { own, index })
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Answered),
        1 => Just(Fate::ReplyLost),
        1 => Just(Fate::Late),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        12 => Just(Damage::None),
        2 => Just(Damage::Missing),
        2 => Just(Damage::GivenUp),
        1 => Just(Damage::Overdue),
    ]
}

fn by() -> impl Strategy<Value = u8> {
    prop_oneof![8 => 0..PROCESSES, 1 => Just(PROCESSES)]
}

fn lane() -> impl Strategy<Value = u8> {
    0..LANES
}

pub(super) const QUEUES: u8 = 8;
pub(super) const SITES: u8 = 3;
/// Everything, two tenants, three sites.
pub(super) const SCOPES: u8 = 3 + SITES;
