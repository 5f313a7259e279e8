//! What breaks: one thing at a time, in an order that is a function of the seed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::fleet::{Fleet, Task};
use super::load::Load;
use super::sink::Sink;
use super::{RELAYS, Settings};
use crate::corpus::Noise;
use crate::eventually::{eventually, holds};
use crate::gate::Step;
use crate::receive::now;
use crate::redis::Redis;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    /// SIGKILL of a relay that has claims and is in the middle of somebody's DATA.
    Kill,
    /// SIGSTOP of one, for longer than its lease.
    Stop,
    /// SIGKILL of Redis, and another one on its files.
    Restart,
    /// CLIENT PAUSE.
    Pause,
    /// Redis is told to be a replica.
    ReadOnly,
    /// Redis misses its replicas.
    NoReplicas,
    /// Redis has no memory left for anybody who may not exceed it.
    Full,
}

impl Kind {
    pub(super) const ALL: [Self; 7] = [
        Self::Kill,
        Self::Stop,
        Self::Restart,
        Self::Pause,
        Self::ReadOnly,
        Self::NoReplicas,
        Self::Full,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL of a relay",
            Self::Stop => "SIGSTOP of a relay beyond its lease",
            Self::Restart => "SIGKILL and restart of Redis",
            Self::Pause => "CLIENT PAUSE",
            Self::ReadOnly => "Redis read-only",
            Self::NoReplicas => "Redis without its replicas",
            Self::Full => "Redis full",
        }
    }

    /// Whether it happens to a relay and not to all of them.
    pub(super) fn is_of_a_relay(self) -> bool {
        matches!(self, Self::Kill | Self::Stop)
    }
}

/// Something that broke.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) kind: Kind,
    /// From when to when, for certain.
    pub(super) from: u64,
    pub(super) until: u64,
    /// The relay process it happened to.
    pub(super) relay: Option<String>,
    pub(super) slot: Option<usize>,
    /// The tasks it had claimed.
    pub(super) claims: Vec<Task>,
    /// Its connections to the sink.
    pub(super) connections: usize,
}

/// How much of what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) kills: u32,
    pub(super) stops: u32,
    pub(super) outages: u32,
}

impl Counts {
    /// All of it, in the order of `noise`.
    fn order(self, noise: &mut Noise) -> Vec<Kind> {
        let mut order = Vec::new();
        for kind in Kind::ALL {
            let count = match kind {
                Kind::Kill => self.kills,
                Kind::Stop => self.stops,
                _ => self.outages,
            };
            order.extend((0..count).map(|_| kind));
        }
        for last in (1..order.len()).rev() {
            order.swap(last, noise.below(last as u64 + 1));
        }
        order
    }
}

pub(super) struct Driver<'a, P> {
    pub(super) settings: &'a Settings,
    pub(super) fleet: &'a mut Fleet,
    pub(super) redis: &'a mut Redis,
    pub(super) sink: &'a Sink,
    pub(super) load: &'a Load,
    pub(super) began: u64,
    pub(super) progress: &'a P,
}

impl<P: Fn(&str)> Driver<'_, P> {
    /// Spreads the faults over the time there is.
    ///
    /// # Errors
    /// When one cannot be brought about, or not in time.
    pub(super) fn run(mut self) -> Result<Vec<Event>> {
        let mut noise = Noise::new(self.settings.seed);
        let order = self.settings.counts().order(&mut noise);
        let time = 60_000 * u64::from(self.settings.minutes);
        // The first lease must have been held for a whole period.
        self.fleet.are_members()?;
        std::thread::sleep(self.lease());
        let mut events = Vec::new();
        let all = order.len() as u64;
        for (position, kind) in (0..).zip(order) {
            let due = time * 8 / 10 * position / all;
            let elapsed = now() - self.began;
            std::thread::sleep(Duration::from_millis(due.saturating_sub(elapsed)));
            ensure!(
                now() - self.began < time,
                "{position} of {all} faults fitted into the time"
            );
            let event = match kind {
                Kind::Kill => self.kill(&mut noise),
                Kind::Stop => self.stop(&mut noise),
                _ => self.outage(kind, &mut noise),
            };
            self.sink.gate().open();
            let event = event.with_context(|| format!("{position}: {}", kind.name()))?;
            self.tell(&event);
            events.push(event);
        }
        // What the last of them left behind is taken over, too.
        std::thread::sleep(self.lease() * 3 / 2);
        Ok(events)
    }

    fn kill(&mut self, noise: &mut Noise) -> Result<Event> {
        let slot = noise.below(RELAYS as u64);
        let mut event = self.caught(Kind::Kill, slot, noise)?;
        event.from = now();
        self.fleet.process(slot)?.kill()?;
        event.until = now();
        self.sink.gate().open();
        std::thread::sleep(Duration::from_millis(noise.below(1500) as u64));
        self.fleet.start(slot)?;
        self.fleet.are_members()?;
        self.settle_down(event.from);
        Ok(event)
    }

    fn stop(&mut self, noise: &mut Noise) -> Result<Event> {
        let slot = noise.below(RELAYS as u64);
        let mut event = self.caught(Kind::Stop, slot, noise)?;
        self.sink.gate().open();
        let lease = self.lease();
        std::thread::sleep(lease * 3 / 2 + lease * u32::try_from(noise.below(4))? / 4);
        event.until = now();
        self.fleet.process(slot)?.go_on()?;
        self.fleet.are_members()?;
        self.settle_down(event.until);
        Ok(event)
    }

    /// A relay that holds claims and has somebody in the middle of DATA, stopped in that state.
    fn caught(&mut self, kind: Kind, slot: usize, noise: &mut Noise) -> Result<Event> {
        let claims = CLAIMS + noise.below(CLAIMS as u64);
        let mut held_up = [None, Some(Step::Rcpt), Some(Step::Dot)][noise.below(3)];
        let mut tries = 0;
        loop {
            if let Some(step) = held_up {
                self.sink.gate().arm(step);
            }
            let caught = eventually("the relay is worth it", WORTH_IT, || {
                self.catch(kind, slot, claims)
            });
            tries += 1;
            match caught {
                Err(_) if tries < TRIES => {}
                caught => return caught,
            }
            // Whoever was quicker has all the connections that there may be: once more for all.
            self.sink.gate().open();
            std::thread::sleep(self.lease() / 6);
            held_up = match held_up {
                Some(Step::Dot) => Some(Step::Rcpt),
                _ => Some(Step::Dot),
            };
        }
    }

    fn catch(&mut self, kind: Kind, slot: usize, claims: usize) -> Result<Event> {
        let queue = self.fleet.queue(slot)?;
        holds(
            queue.claims >= claims,
            format_args!("{} claims of {claims}", queue.claims),
        )?;
        let worker = queue.worker.context("it is no member")?;
        let data = self.fleet.open_data(slot)?;
        let held_open = self.load.holds_open(slot);
        holds(
            data >= 1.0 && held_open,
            format_args!("{data} in DATA, one for ever: {held_open}"),
        )?;
        self.fleet.process(slot)?.stop()?;
        let from = now();
        // It does nothing now: what it holds can be read, and is what it holds in the end.
        let claims = self.fleet.claimed(self.redis, &worker);
        match claims {
            Ok(claims) if claims.len() >= CLAIMS && self.load.holds_open(slot) => {
                let name = self.fleet.name(slot).to_owned();
                Ok(Event {
                    kind,
                    from,
                    until: from,
                    connections: self.sink.connections(&name),
                    relay: Some(name),
                    slot: Some(slot),
                    claims,
                })
            }
            claims => {
                self.fleet.process(slot)?.go_on()?;
                anyhow::bail!("{} claims", claims?.len())
            }
        }
    }

    fn outage(&mut self, kind: Kind, noise: &mut Noise) -> Result<Event> {
        let lease = u64::try_from(self.lease().as_millis())?;
        let length = Duration::from_millis(300 + noise.below(lease * 5 / 4) as u64);
        let asked = |redis: &Redis, commands: &[&[&str]]| -> Result<()> {
            for command in commands {
                redis.ask(command)?;
            }
            Ok(())
        };
        let (from, until);
        if kind == Kind::Restart {
            self.redis.kill()?;
            from = now();
            std::thread::sleep(length / 2);
            until = now();
            self.redis.up()?;
        } else {
            let milliseconds = length.as_millis().to_string();
            let (begin, end): (&[&[&str]], &[&[&str]]) = match kind {
                Kind::Pause => (&[&["CLIENT", "PAUSE", &milliseconds, "ALL"]], &[]),
                Kind::ReadOnly => (
                    // Nobody listens on this port.
                    &[&["REPLICAOF", "127.0.0.1", "1"]],
                    &[&["REPLICAOF", "NO", "ONE"]],
                ),
                Kind::NoReplicas => (
                    &[&["CONFIG", "SET", "min-replicas-to-write", "1"]],
                    &[&["CONFIG", "SET", "min-replicas-to-write", "0"]],
                ),
                _ => (
                    &[&["CONFIG", "SET", "maxmemory", "1mb"]],
                    &[&["CONFIG", "SET", "maxmemory", "0"]],
                ),
            };
            asked(self.redis, begin)?;
            from = now();
            std::thread::sleep(length);
            // A pause ends by the server's clock, which began before the answer came.
            let early = if kind == Kind::Pause { lease / 10 } else { 0 };
            until = now() - early;
            asked(self.redis, end)?;
        }
        eventually("Redis answers", WORTH_IT * 4, || {
            self.redis.ask(&["PING"]).map(drop)
        })?;
        self.fleet.are_members()?;
        // Whoever was late may not reap before it has held its lease for a whole period again.
        std::thread::sleep(self.lease());
        Ok(Event {
            kind,
            from,
            until,
            relay: None,
            slot: None,
            claims: Vec::new(),
            connections: 0,
        })
    }

    /// Until whatever was to be taken over has been.
    fn settle_down(&self, since: u64) {
        let over = since + u64::try_from(self.lease().as_millis()).unwrap_or_default() * 4 / 3;
        std::thread::sleep(Duration::from_millis(over.saturating_sub(now())));
    }

    fn lease(&self) -> Duration {
        self.settings.lease()
    }

    fn tell(&self, event: &Event) {
        let seconds = (event.from - self.began) / 1000;
        let whom = match &event.relay {
            Some(relay) => format!(
                " ({relay}, {} claims, {} connections)",
                event.claims.len(),
                event.connections
            ),
            None => format!(" for {} ms", event.until.saturating_sub(event.from)),
        };
        (self.progress)(&format!(
            "{seconds:>4} s: {}{whom}; {} accepted, {} arrived",
            event.kind.name(),
            self.load.accepted(),
            self.sink.arrived(),
        ));
    }
}

/// What a relay must hold to be worth killing.
const CLAIMS: usize = 20;
const WORTH_IT: Duration = Duration::from_secs(4);
const TRIES: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_a_function_of_the_seed_and_complete() {
        let counts = Counts {
            kills: 10,
            stops: 2,
            outages: 1,
        };
        let order = |seed| counts.order(&mut Noise::new(seed));
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
        let of = |kind| order(7).iter().filter(|found| **found == kind).count();
        assert_eq!((of(Kind::Kill), of(Kind::Stop), of(Kind::Full)), (10, 2, 1));
        assert_eq!(order(7).len(), 17);
    }
}
