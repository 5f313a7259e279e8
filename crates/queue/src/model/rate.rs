//! How fast mail may go to a site: the generic cell rate algorithm, exactly.
//!
//! A site's theoretical arrival time says when its tokens would be full again. A task is one interval
//! (`per / messages`) later; tasks may be granted while that is not more than `burst` intervals ahead
//! of the clock. Times are kept in ms and parts of `1 / messages` ms, so nothing is ever rounded; what
//! lies behind the clock by less than its own tick, a millisecond, is kept, or it would be lost each time.

use super::Scheduler;
use super::state::Ms;
use crate::operation::Rate;

/// A [`Rate`] as the arithmetic has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pace {
    messages: i64,
    per: i64,
    burst: i64,
}

/// A point of time: ms, and parts of `1 / messages` ms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Arrival {
    ms: i64,
    part: i64,
}

impl Arrival {
    /// By a tick of the clock or more: it is as if it had never been.
    fn has_passed(self, now: i64) -> bool {
        self <= Self {
            ms: now - 1,
            part: 0,
        }
    }
}

impl Pace {
    pub(super) fn of(rate: &Rate) -> Self {
        let (messages, per, burst) = rate.bounded();
        Self {
            messages: messages.into(),
            per: per as i64,
            burst: burst.into(),
        }
    }

    /// As it is when it has not been needed for long, or the clock went back: no token was saved up
    /// beyond the burst, and none is more than two bursts away.
    fn clamp(self, stored: Option<Arrival>, now: i64) -> Arrival {
        let full = Arrival { ms: now, part: 0 };
        let Some(stored) = stored.filter(|stored| !stored.has_passed(now)) else {
            return full;
        };
        stored.min(self.shift(full, 2 * self.burst))
    }

    /// Written under another rate, it may have other parts.
    fn fit(self, stored: Arrival) -> Arrival {
        Arrival {
            part: stored.part.min(self.messages - 1),
            ..stored
        }
    }

    fn shift(self, arrival: Arrival, tasks: i64) -> Arrival {
        let parts = arrival.part + tasks * self.per;
        Arrival {
            ms: arrival.ms + parts.div_euclid(self.messages),
            part: parts.rem_euclid(self.messages),
        }
    }

    /// How many tasks may go now.
    fn tokens(self, arrival: Arrival, now: i64) -> usize {
        let parts = (now - arrival.ms) * self.messages + self.burst * self.per - arrival.part;
        usize::try_from(parts.div_euclid(self.per).min(self.burst)).unwrap_or(0)
    }

    /// From when one task may go.
    fn first(self, arrival: Arrival) -> i64 {
        let parts = self.per - self.burst * self.per + arrival.part;
        arrival.ms - (-parts).div_euclid(self.messages)
    }
}

impl Scheduler {
    /// How many tasks the rate of `site` lets go now; `None` where there is no rate.
    pub(super) fn tokens(&mut self, now: Ms, site: &str) -> Option<usize> {
        let pace = self.limits.pace_of(site)?;
        Some(pace.tokens(self.arrival(now, pace, site), now as i64))
    }

    /// Takes tokens of `site` for tasks that go there; whether it has a rate.
    pub(super) fn charge(&mut self, now: Ms, site: &str, tasks: usize) -> bool {
        let Some(pace) = self.limits.pace_of(site) else {
            return false;
        };
        let arrival = pace.shift(self.arrival(now, pace, site), tasks as i64);
        self.set_arrival(now, site, arrival);
        if self.turn.is_blocked(site) {
            self.wake_at_rate(now, site);
        }
        true
    }

    /// A token of `site` was not used: it is there again, and whoever waits for one need not wait
    /// any longer.
    pub(super) fn refund(&mut self, now: Ms, site: &str) {
        let Some(pace) = self.limits.pace_of(site) else {
            return;
        };
        let arrival = pace.shift(self.arrival(now, pace, site), -1);
        self.set_arrival(now, site, arrival);
        if self.turn.is_blocked(site) {
            self.wake_at_rate(now, site);
        }
    }

    /// Wakes the site when its next token is there. One wake for all that wait: who is first then is
    /// a question of turn, not of who woke.
    pub(super) fn wake_at_rate(&mut self, now: Ms, site: &str) {
        if let Some(pace) = self.limits.pace_of(site) {
            let first = pace.first(self.arrival(now, pace, site)) as Ms;
            self.turn.wake_site(site, first.max(now));
        }
    }

    pub(super) fn forget_arrivals(&mut self, now: Ms) {
        self.turn
            .arrivals
            .retain(|_, arrival| !arrival.has_passed(now as i64));
    }

    /// It is noted where it was too far away, or it would stay that far from a clock that goes on.
    fn arrival(&mut self, now: Ms, pace: Pace, site: &str) -> Arrival {
        let stored = self.turn.arrivals.get(site).map(|stored| pace.fit(*stored));
        let arrival = pace.clamp(stored, now as i64);
        if stored.is_some_and(|stored| stored > arrival) {
            self.set_arrival(now, site, arrival);
        }
        arrival
    }

    fn set_arrival(&mut self, now: Ms, site: &str, arrival: Arrival) {
        if arrival.has_passed(now as i64) {
            self.turn.arrivals.remove(site);
        } else {
            self.turn.arrivals.insert(site.to_owned(), arrival);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pace(messages: u32, per_ms: u64, burst: u32) -> Pace {
        Pace::of(&Rate {
            messages,
            per: Duration::from_millis(per_ms),
            burst,
        })
    }

    /// When each of `tasks` goes that are granted one by one as soon as they may.
    fn granted_at(pace: Pace, tasks: usize) -> Vec<i64> {
        let mut now = 1_000_000;
        let mut stored = None;
        (0..tasks)
            .map(|_| {
                let arrival = pace.clamp(stored, now);
                let first = pace.first(arrival).max(now);
                if first > now {
                    assert_eq!(pace.tokens(arrival, first - 1), 0);
                }
                now = first;
                let arrival = pace.clamp(stored, now);
                assert_ne!(pace.tokens(arrival, now), 0);
                stored = Some(pace.shift(arrival, 1));
                now - 1_000_000
            })
            .collect()
    }

    #[test]
    fn an_interval_that_is_no_whole_number_is_exact_over_time() {
        let at = granted_at(pace(7, 3_000, 1), 7_001);
        assert_eq!(at[..8], [0, 429, 858, 1286, 1715, 2143, 2572, 3000]);
        assert_eq!(at[7_000], 3_000_000);
    }

    #[test]
    fn a_burst_goes_at_once_and_then_one_by_one() {
        assert_eq!(
            granted_at(pace(100, 1_000, 5), 8),
            [0, 0, 0, 0, 0, 10, 20, 30]
        );
    }

    #[test]
    fn tokens_are_partly_granted() {
        let pace = pace(100, 1_000, 50);
        let arrival = pace.shift(pace.clamp(None, 1_000), 50);
        assert_eq!(pace.tokens(arrival, 1_000), 0);
        assert_eq!(pace.tokens(arrival, 1_009), 0);
        assert_eq!(pace.tokens(arrival, 1_074), 7);
        assert_eq!(pace.tokens(pace.clamp(Some(arrival), 90_000), 90_000), 50);
    }

    #[test]
    fn the_clock_may_go_back() {
        let pace = pace(10, 1_000, 3);
        let arrival = pace.shift(pace.clamp(None, 1_000_000), 3);
        let arrival = pace.clamp(Some(arrival), 10_000);
        // Two bursts away from being full: four intervals from the next token.
        assert_eq!(pace.first(arrival), 10_400);
    }

    #[test]
    fn the_greatest_numbers_stay_exact_as_fractions_of_53_bits() {
        let pace = pace(u32::MAX, u64::MAX, u32::MAX);
        assert!(2 * pace.burst * pace.per + pace.per < 1 << 53);
        assert!((pace.burst * pace.per / pace.messages + 1) * 2 * pace.messages < 1 << 53);
    }
}
