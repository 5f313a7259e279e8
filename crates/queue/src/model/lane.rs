//! Lanes: each is one sequential caller of a worker. The number of a call decides whether octets
//! that arrive late, or again, still change anything.

use super::Scheduler;
use super::state::Ms;
use crate::id::{Call, WorkerId};
use crate::operation::{NextReply, Resolved, Taken};

impl Scheduler {
    /// Whether a call runs. `late`: also after the lease has run out, as long as nobody reaped.
    pub(super) fn admit(&self, now: Ms, call: Call, late: bool) -> Taken<()> {
        if call.n <= self.last_of(call.worker, call.lane) {
            return Taken::Refused;
        }
        match self.expiry_of(call.worker) {
            None => Taken::Reaped,
            Some(expires) if expires <= now && !late => Taken::Expired,
            Some(_) => Taken::Ran(()),
        }
    }

    /// After a lost reply. There is no guessing by what the worker seems to own: another lane may
    /// be in flight. Either the reply is here, or the call will never run.
    pub fn resolve(&mut self, call: Call) -> Resolved {
        if self.expiry_of(call.worker).is_none() {
            return Resolved::Reaped;
        }
        if let Some(lane) = self
            .workers
            .get(&call.worker)
            .and_then(|member| member.lanes.get(&call.lane))
            && lane.n == call.n
            && let Some(reply) = &lane.reply
        {
            return Resolved::Ran(reply.clone());
        }
        if call.n > self.last_of(call.worker, call.lane) {
            self.record(call, None);
        }
        Resolved::Barred
    }

    /// Notes that `call` ran, or never will.
    pub(super) fn record(&mut self, call: Call, reply: Option<NextReply>) {
        if let Some(member) = self.workers.get_mut(&call.worker) {
            let lane = member.lanes.entry(call.lane).or_default();
            if lane.n <= call.n {
                lane.n = call.n;
                lane.reply = reply;
            }
        }
    }

    pub(super) fn last_of(&self, worker: WorkerId, lane: u16) -> u64 {
        self.workers
            .get(&worker)
            .and_then(|member| member.lanes.get(&lane))
            .map_or(0, |lane| lane.n)
    }
}
