//! What is to become of each message: a function of seed and index, written into the addresses of
//! its recipients, where the sink reads it.

use crate::corpus::Noise;

/// What the sink does with a recipient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Take,
    /// 450 to the first RCPT.
    Defer,
    /// 450 to the first two.
    DeferTwice,
    /// 451 to the first final dot.
    DeferDot,
    /// 550 to RCPT.
    Refuse,
    /// 554 to the final dot.
    RefuseDot,
    /// The connection ends instead of the first reply to the final dot.
    Drop,
    /// The first reply to the final dot takes its time.
    Stall,
}

impl Fate {
    const ALL: [(Self, &str); 8] = [
        (Self::Take, "take"),
        (Self::Defer, "defer"),
        (Self::DeferTwice, "defertwice"),
        (Self::DeferDot, "deferdot"),
        (Self::Refuse, "refuse"),
        (Self::RefuseDot, "refusedot"),
        (Self::Drop, "drop"),
        (Self::Stall, "stall"),
    ];

    /// Whether its sender is to hear that it failed.
    pub(crate) fn fails(self) -> bool {
        matches!(self, Self::Refuse | Self::RefuseDot)
    }

    fn word(self) -> &'static str {
        let known = Self::ALL.iter().find(|(fate, _)| *fate == self);
        known.map_or("take", |(_, word)| word)
    }

    /// As the address says; whoever is not of the load is taken.
    pub(crate) fn of(address: &str) -> Self {
        let word = address.split('-').next().unwrap_or_default();
        let known = Self::ALL.iter().find(|(_, known)| *known == word);
        known.map_or(Self::Take, |(fate, _)| *fate)
    }
}

/// A message of the load.
pub(crate) struct Planned {
    pub(crate) sender: String,
    pub(crate) recipients: Vec<String>,
}

impl Planned {
    pub(crate) fn new(seed: u64, index: u32) -> Self {
        let mut noise = Noise::new(seed ^ (u64::from(index) << 20));
        let domain = noise.below(DESTINATIONS as u64);
        let other = (domain + 1) % DESTINATIONS;
        let recipients = match noise.below(100) {
            0..78 => vec![(Fate::Take, domain)],
            78..81 => vec![(Fate::Defer, domain)],
            81 => vec![(Fate::DeferTwice, domain)],
            82..84 => vec![(Fate::DeferDot, domain)],
            84..87 => vec![(Fate::Refuse, domain)],
            87 => vec![(Fate::RefuseDot, domain)],
            88..90 => vec![(Fate::Drop, domain)],
            90..94 => vec![(Fate::Stall, domain)],
            // One task, whose recipients part.
            94 => vec![(Fate::Take, domain), (Fate::Defer, domain)],
            95..97 => vec![(Fate::Take, domain), (Fate::Refuse, domain)],
            // Two tasks of one message.
            97 => vec![(Fate::Take, domain), (Fate::Defer, other)],
            98 => vec![(Fate::Refuse, domain), (Fate::Take, other)],
            _ => vec![(Fate::Drop, domain), (Fate::Refuse, other)],
        };
        let addresses = recipients.into_iter().enumerate();
        let addresses = addresses.map(|(position, (fate, domain))| {
            let word = fate.word();
            format!("{word}-{index}-{position}@{}", destination(domain))
        });
        Self {
            sender: format!("load-{index}@{SENDERS}"),
            recipients: addresses.collect(),
        }
    }

    /// Whom a task of it is for: recipients of one domain are one task, in their order.
    pub(crate) fn of_task(&self, ordinal: usize) -> Vec<&str> {
        let mut domains: Vec<&str> = Vec::new();
        for recipient in &self.recipients {
            if !domains.contains(&domain_of(recipient)) {
                domains.push(domain_of(recipient));
            }
        }
        let all = self.recipients.iter().map(String::as_str);
        all.filter(|recipient| domains.get(ordinal) == Some(&domain_of(recipient)))
            .collect()
    }
}

fn domain_of(address: &str) -> &str {
    address.rsplit('@').next().unwrap_or_default()
}

/// Which message an address belongs to.
pub(crate) fn index_of(address: &str) -> Option<u32> {
    address.split(['-', '@']).nth(1)?.parse().ok()
}

/// Domains with a route, a port of the sink and a limit of connections of their own.
pub(crate) const DESTINATIONS: usize = 4;

pub(crate) fn destination(number: usize) -> String {
    format!("d{number}.example")
}

/// Where notifications go.
pub(crate) const SENDERS: &str = "sender.example";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_what_was_planned() {
        for (fate, word) in Fate::ALL {
            assert_eq!(Fate::of(&format!("{word}-17-0@d1.example")), fate);
            assert_eq!(fate.word(), word);
        }
        assert_eq!(Fate::of("load-17@sender.example"), Fate::Take);
        assert_eq!(index_of("load-17@sender.example"), Some(17));
        assert_eq!(index_of("take-18-1@d0.example"), Some(18));
    }

    #[test]
    fn every_fate_comes_and_the_plan_is_a_function_of_the_seed() {
        let plan = |seed| -> Vec<_> {
            let all = (0..2000).map(|index| Planned::new(seed, index).recipients);
            all.collect()
        };
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
        let addresses = plan(1).concat();
        for (fate, _) in Fate::ALL {
            assert!(addresses.iter().any(|address| Fate::of(address) == fate));
        }
        assert!(plan(1).iter().any(|recipients| recipients.len() == 2));
    }
}
