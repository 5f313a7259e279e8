//! Steps at which whatever goes by is held, so that a process can be ended at exactly that one.

use std::time::Duration;

use anyhow::Result;
use tokio::sync::watch;

use crate::eventually::{eventually, holds};

/// Where octets of a relay are looked at, and by whom they can be held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Between relay and Redis: the commit of messages has not reached Redis.
    Commit,
    /// Redis has executed it, the relay does not know.
    Committed,
    /// Redis has given claims, the relay does not know.
    Claimed,
    /// The relay has sent an outcome that has not reached Redis.
    Settle,
    /// Redis has noted it, the relay does not know.
    Settled,
    /// The relay takes messages back, Redis has not heard.
    Abort,
    /// Redis has taken them back, the relay does not know.
    Aborted,
    /// At the next hop: RCPT has come, its reply has not gone.
    Rcpt,
    /// The whole message is in the next hop's socket buffer, and not read.
    Buffered,
    /// It was taken; the reply to its last octet has not gone.
    Dot,
}

/// What is to be done with what was held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pass {
    On,
    /// The connection ends, and it with it.
    Cut,
    /// The connection ends for the relay; what it sent arrives later, when [`Gate::deliver`] says.
    Late,
}

#[derive(Clone, Copy, Debug)]
struct State {
    armed: Option<Step>,
    /// How many more are held.
    room: usize,
    /// For those that are held when it is given.
    verdict: (u64, Pass),
    caught: usize,
    deliveries: usize,
    delivered: usize,
}

impl State {
    fn arm(&mut self, step: Step, count: usize) {
        self.armed = Some(step);
        self.room = count;
        self.caught = 0;
    }

    fn judge(&mut self, pass: Pass) {
        self.armed = None;
        self.verdict = (self.verdict.0 + 1, pass);
    }
}

pub(crate) struct Gate(watch::Sender<State>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(State {
            armed: None,
            room: 0,
            verdict: (0, Pass::On),
            caught: 0,
            deliveries: 0,
            delivered: 0,
        }))
    }

    /// Holds whatever gets to `step` from now on.
    pub(crate) fn arm(&self, step: Step) {
        self.arm_for(step, usize::MAX);
    }

    /// Holds the first `count` that get to `step`.
    pub(crate) fn arm_for(&self, step: Step, count: usize) {
        self.0.send_modify(|state| state.arm(step, count));
    }

    pub(crate) fn is_armed(&self, step: Step) -> bool {
        let state = self.0.borrow();
        state.armed == Some(step) && state.room > 0
    }

    /// Lets go what is held, and holds no more.
    pub(crate) fn open(&self) {
        self.judge(Pass::On);
    }

    pub(crate) fn cut(&self) {
        self.judge(Pass::Cut);
    }

    pub(crate) fn make_late(&self) {
        self.judge(Pass::Late);
    }

    /// Cuts what is held, and holds the first that gets to `step` after that.
    pub(crate) fn cut_and_arm(&self, step: Step) {
        self.0.send_modify(|state| {
            state.judge(Pass::Cut);
            state.arm(step, 1);
        });
    }

    fn judge(&self, pass: Pass) {
        self.0.send_modify(|state| state.judge(pass));
    }

    /// Lets what was made late arrive, and waits until it has.
    pub(crate) fn deliver(&self, limit: Duration) -> Result<()> {
        self.0.send_modify(|state| state.deliveries += 1);
        eventually("what is late arrives", limit, || {
            holds(self.0.borrow().delivered > 0, "nothing has")
        })
    }

    /// Waits until `count` have been held.
    pub(crate) fn caught(&self, count: usize, limit: Duration) -> Result<()> {
        let what = format!("{count} at {:?}", self.0.borrow().armed);
        eventually(&what, limit, || {
            let caught = self.0.borrow().caught;
            holds(caught >= count, format_args!("{caught} of {count}"))
        })
    }

    /// Goes by `step`, when it may.
    pub(crate) async fn pass(&self, step: Step) -> Pass {
        let mut state = self.0.subscribe();
        let mut verdict = None;
        self.0.send_if_modified(|state| {
            let is_held = state.armed == Some(step) && state.room > 0;
            if is_held {
                state.room -= 1;
                state.caught += 1;
                verdict = Some(state.verdict.0);
            }
            is_held
        });
        let Some(before) = verdict else {
            return Pass::On;
        };
        let judged = state.wait_for(|state| state.verdict.0 != before);
        judged.await.map_or(Pass::Cut, |state| state.verdict.1)
    }

    pub(crate) async fn delivery(&self) {
        let mut state = self.0.subscribe();
        let before = state.borrow_and_update().deliveries;
        let _ = state.wait_for(|state| state.deliveries > before).await;
    }

    pub(crate) fn delivered(&self) {
        self.0.send_modify(|state| state.delivered += 1);
    }
}
