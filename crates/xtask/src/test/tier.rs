//! The tiers, what each needs and how long it may take.

use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use super::{
    budget::Budget,
    build::{self, Kind, TestProgram},
    chart,
    cluster::Shared,
    crash, gates,
};
use crate::{
    command,
    tools::{self, debian},
};

/// In the order they run: the cheap and the general first.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(super) enum Tier {
    /// Gates, unit tests, and integration tests that need nothing but this workspace
    Pure,
    /// The queue's conformance suite, with a real Redis
    Queue,
    /// The real program over real TCP, with the mail programs people use
    Local,
    /// Relays and their Redis killed, stopped and cut off, step by step and under load
    Crash,
    /// The chart: lint, schemas, what must be refused
    Chart,
    /// Kurier installed on a real Kubernetes of two nodes
    Cluster,
    /// Parts of it killed and stopped under load
    Chaos,
}

impl Tier {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::Queue => "queue",
            Self::Local => "local",
            Self::Crash => "crash",
            Self::Chart => "chart",
            Self::Cluster => "cluster",
            Self::Chaos => "chaos",
        }
    }

    /// Its budget. Together with building and tools they stay under CI's limit.
    pub(super) fn minutes(self) -> u64 {
        match self {
            Self::Pure => 16,
            Self::Queue => 6,
            Self::Local => 8,
            Self::Crash => 9,
            Self::Chart => 2,
            Self::Cluster => 12,
            Self::Chaos => 8,
        }
    }

    pub(super) fn needs_tools(self) -> bool {
        matches!(self, Self::Chart | Self::Cluster | Self::Chaos)
    }

    /// The chart can be checked while the code is broken.
    pub(super) fn needs_build(self) -> bool {
        self != Self::Chart
    }

    /// What keeps it from running here, each with what to do about it.
    pub(super) fn missing(self) -> Vec<String> {
        let mut missing = Vec::new();
        if matches!(self, Self::Cluster | Self::Chaos) {
            missing.extend(tools::missing_preconditions());
        }
        missing.extend(self.lacks_root(tools::is_root()));
        if let Err(error) = self.packages() {
            missing.push(format!("{error:#}"));
        }
        missing
    }

    /// What is said of the tier of which root is all that may be missing.
    fn lacks_root(self, root: bool) -> Option<String> {
        let lacks = self == Self::Local && !root;
        lacks.then(|| {
            "not root: Postfix and its receiving server run as users of their own; run as root"
                .to_owned()
        })
    }

    fn packages(self) -> Result<()> {
        let programs: &[&str] = match self {
            Self::Pure => &["openssl", "python3"],
            Self::Queue => &["redis-server", "pip3"],
            Self::Crash => &["redis-server"],
            Self::Local => &[
                "redis-server",
                "postfix",
                "smtp-source",
                "smtp-sink",
                "swaks",
                "python3",
            ],
            Self::Chart => &["go"],
            // Every package: pods need them, and so do the tests.
            Self::Cluster | Self::Chaos => return debian::install(),
        };
        // Debian's swaks only recommends what it needs for TLS.
        let speaks_tls =
            || command::succeeds(Command::new("perl").args(["-MNet::SSLeay", "-e", "1"]));
        let complete = programs
            .iter()
            .all(|program| command::is_installed(program));
        if !complete || (self == Self::Local && !speaks_tls()) {
            debian::install()?;
        }
        if self == Self::Queue {
            tools::valkey::ensure()?;
        }
        Ok(())
    }

    pub(super) fn run(
        self,
        budget: &mut Budget,
        programs: &[TestProgram],
        shared: &mut Shared,
    ) -> Result<()> {
        match self {
            Self::Pure => gates::run(budget, programs),
            Self::Queue => gates::run_all(budget, programs, Kind::Queue),
            Self::Local => {
                let program = build::end_to_end(programs)?;
                budget.run(program.command().arg("local::"))
            }
            Self::Crash => {
                let program = build::end_to_end(programs)?;
                // Beside another, each would be late for its own reasons.
                budget.run(program.command().args(["crash::", "--test-threads=1"]))
            }
            Self::Chart => chart::run(budget),
            Self::Cluster => {
                crash::interrupted_start()?;
                budget.tally.passed += 1;
                shared.run(budget, build::end_to_end(programs)?, "cluster::")
            }
            Self::Chaos => shared.run(budget, build::end_to_end(programs)?, "chaos::"),
        }
    }
}

/// What was asked for, once each and in order; everything when nothing was.
pub(super) fn selection(asked: &[Tier]) -> Vec<Tier> {
    Tier::value_variants()
        .iter()
        .copied()
        .filter(|tier| asked.is_empty() || asked.contains(tier))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_run_in_their_own_order_and_once() {
        let check = |asked: &[Tier], expected: &[Tier]| assert_eq!(selection(asked), expected);
        check(&[], Tier::value_variants());
        check(
            &[Tier::Chart, Tier::Pure, Tier::Chart],
            &[Tier::Pure, Tier::Chart],
        );
    }

    #[test]
    fn the_local_tier_asks_for_root() {
        let check = |tier: Tier, root, lacks| {
            assert_eq!(tier.lacks_root(root).is_some(), lacks, "{tier:?}");
        };
        check(Tier::Local, false, true);
        check(Tier::Local, true, false);
        check(Tier::Queue, false, false);
    }

    #[test]
    fn the_budgets_fit_the_limit_of_continuous_integration() {
        let tiers: u64 = Tier::value_variants()
            .iter()
            .map(|tier| tier.minutes())
            .sum();
        assert!(tiers + build::MINUTES <= 90, "{tiers} + {}", build::MINUTES);
    }
}
