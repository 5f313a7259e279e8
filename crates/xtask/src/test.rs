//! `cargo xtask test`: every gate and every tier of tests, in order.
//!
//! 1. Programs that later tiers need start to build in the background, at low priority ([`tools`]).
//! 2. The workspace is built once, with one profile and one set of features ([`build`]).
//! 3. Each [`Tier`] runs within its budget of minutes; what goes on longer is killed and has failed.
//! 4. A table says what each did, then what failed is named; the last line counts.
//!
//! A tier that cannot run here fails and says what would let it run; it is never passed over in silence.
//!
//! [`tools`]: crate::tools
//! [`build`]: crate::test::build

mod budget;
mod build;
mod chart;
mod cluster;
mod crash;
mod gates;
#[cfg(test)]
mod invariants;
mod report;
mod schema;
mod tier;

use std::{process::ExitCode, thread, time::Instant};

use anyhow::{Result, anyhow};

use self::{
    budget::Budget,
    report::{Report, Row},
    tier::Tier,
};
use crate::tools;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only these [default: all]
    #[arg(long = "tier", value_enum, value_name = "TIER")]
    tiers: Vec<Tier>,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let tiers: Vec<_> = tier::selection(&args.tiers)
        .into_iter()
        .map(|tier| (tier, tier.missing()))
        .collect();
    let names: Vec<_> = tiers.iter().map(|(tier, _)| tier.name()).collect();
    println!("test: {}", names.join(", "));
    let mut report = Report::default();
    let mut shared = cluster::Shared::default();

    // Nothing is built for tiers that cannot run.
    let any = |needs: fn(Tier) -> bool| {
        let mut able = tiers.iter().filter(|(_, missing)| missing.is_empty());
        able.any(|(tier, _)| needs(*tier))
    };
    let mut background = any(Tier::needs_tools).then(|| {
        thread::spawn(|| {
            // Whoever needs a tool asks for it again and gets the error there.
            if let Err(error) = tools::build() {
                eprintln!("test: building tools: {error:#}");
            }
        })
    });
    let mut programs = Vec::new();
    let built = !any(Tier::needs_build)
        || report.add("build", build::MINUTES, |budget| {
            programs = build::all(budget)?;
            Ok(())
        });
    for (tier, missing) in &tiers {
        if !missing.is_empty() {
            report.cannot_run(tier.name(), missing);
            continue;
        }
        if !built && tier.needs_build() {
            report.cannot_run(tier.name(), &["the workspace does not build".to_owned()]);
            continue;
        }
        if tier.needs_tools()
            && let Some(background) = background.take()
        {
            report.add("tools", tools::MINUTES, |_| {
                let ended = background.join();
                ended.map_err(|_| anyhow!("building tools panicked"))
            });
        }
        report.add(tier.name(), tier.minutes(), |budget| {
            tier.run(budget, &programs, &mut shared)?;
            budget.ensure_tests_ran()
        });
    }
    shared.finish(&mut report);
    if report.end() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

impl Report {
    /// Runs one part under its heading and budget; whether it passed.
    fn add(
        &mut self,
        name: &'static str,
        minutes: u64,
        part: impl FnOnce(&mut Budget) -> Result<()>,
    ) -> bool {
        println!("\n== {name}: at most {minutes} min");
        let start = Instant::now();
        let mut budget = Budget::of_minutes(minutes);
        let result = part(&mut budget);
        if let Err(error) = &result {
            println!("{name}: {error:#}");
        }
        self.push(Row::new(
            name,
            minutes,
            start.elapsed(),
            budget.tally,
            result,
        ))
    }
}
