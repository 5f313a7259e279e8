//! Messages whose lifetime has run out. Found without slot or turn, so that mail which cannot be
//! claimed still gets its notification.

use super::Scheduler;
use super::state::Ms;
use crate::id::MessageId;
use crate::operation::{Counts, Expiring};

impl Scheduler {
    /// At most `max`, put off for everybody else: whoever asked has that long to settle them, and
    /// only the end of its last task takes a message out.
    pub fn expiring(&mut self, now: Ms, max: u16) -> Expiring {
        let found: Expiring = self
            .expiry
            .iter()
            .take_while(|(at, _)| *at <= now)
            .take(usize::from(max))
            .map(|(_, message)| *message)
            .collect();
        found
            .iter()
            .for_each(|message| self.put_off_if_expired(now, PUT_OFF, *message));
        found
    }

    pub(super) fn put_off_if_expired(&mut self, now: Ms, by: Ms, id: MessageId) {
        let Some(message) = self.messages.get_mut(&id) else {
            return;
        };
        if message.expired || message.expires <= now {
            self.expiry.remove(&(message.expires, id));
            message.expires = now + by;
            message.expired = true;
            self.expiry.insert((message.expires, id));
        }
    }

    pub fn counts(&self, now: Ms) -> Counts {
        let mut counts = Counts::default();
        let mut oldest = None;
        for queue in self.queues.values() {
            let ready = queue
                .tasks
                .iter()
                .take_while(|(due, _)| *due <= now)
                .count() as u64;
            counts.ready += ready;
            counts.deferred += queue.tasks.len() as u64 - ready;
            let first = queue
                .tasks
                .first()
                .map(|(due, _)| *due)
                .filter(|due| *due <= now);
            oldest = oldest.into_iter().chain(first).min();
        }
        counts.in_flight = self
            .workers
            .values()
            .map(|member| member.claims.len() as u64)
            .sum();
        counts.held = self.held.len() as u64;
        counts.oldest_ready = oldest.map(|due| std::time::Duration::from_millis(now - due));
        counts
    }
}

pub(super) const PUT_OFF: Ms = 30_000;
