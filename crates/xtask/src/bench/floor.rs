//! How many times Postfix's messages a second Kurier must reach.

use anyhow::{Result, ensure};
use clap::ValueEnum as _;

use super::{
    report::{self, Report},
    system::System,
};

/// The floors of those that did not ask for others.
const DEFAULT: [f64; 2] = [5.0, 4.0];

/// The size they are for: of longer messages a larger part of the time is the octets', whoever moves them.
const DEFAULT_SIZE: u32 = 10_000;

/// A multiple of Postfix that a system must reach with messages of a size.
#[derive(Debug, PartialEq)]
pub(super) struct Floor {
    size: u32,
    system: System,
    least: f64,
}

/// Those asked for, embedded and Redis, or else the usual ones where they can be told.
///
/// # Errors
/// When some are asked for and a system is not to be measured: better now than after all rounds.
pub(super) fn floors(
    asked: Option<&[f64]>,
    sizes: &[u32],
    systems: &[System],
) -> Result<Vec<Floor>> {
    let all = systems == System::value_variants();
    ensure!(
        all || asked.is_none(),
        "--at-least compares all systems: leave --system out"
    );
    let Some(&size) = sizes.first() else {
        return Ok(Vec::new());
    };
    let usual = (all && size == DEFAULT_SIZE).then_some(&DEFAULT[..]);
    let least = asked.or(usual).unwrap_or_default();
    let systems = [System::Embedded, System::Redis];
    let floors = systems.into_iter().zip(least);
    Ok(floors
        .map(|(system, &least)| Floor {
            size,
            system,
            least,
        })
        .collect())
}

/// # Errors
/// When a system is below its floor, or it is not known where it is.
pub(super) fn check(report: &Report, floors: &[Floor]) -> Result<()> {
    if floors.is_empty() {
        println!("no floor was asked for");
    }
    for floor in floors {
        let ratio = report.ratio(floor.size, floor.system);
        ensure!(
            ratio.is_some_and(|ratio| ratio >= floor.least),
            "{} at {} B: {} Postfix, not {}x",
            floor.system.name(),
            floor.size,
            report::times(ratio),
            floor.least
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::Figures;

    #[test]
    fn floors_hold_unless_asked_otherwise() {
        let all = System::value_variants();
        let check = |asked, sizes: &[u32], systems: &[System], expected: Option<&[(u32, f64)]>| {
            let floors = floors(asked, sizes, systems).ok();
            let floors: Option<Vec<_>> =
                floors.map(|all| all.iter().map(|floor| (floor.size, floor.least)).collect());
            assert_eq!(
                floors.as_deref(),
                expected,
                "{asked:?} {sizes:?} {systems:?}"
            );
        };
        let usual = [(10_000, 5.0), (10_000, 4.0)];
        check(None, &[10_000, 100_000], all, Some(&usual));
        let asked = [2.5, 2.0];
        let wanted = [(100_000, 2.5), (100_000, 2.0)];
        check(Some(&asked), &[100_000], all, Some(&wanted));
        check(None, &[100_000, 10_000], all, Some(&[]));
        check(None, &[10_000], &[System::Embedded], Some(&[]));
        check(Some(&asked), &[10_000], &[System::Embedded], None);
        let without_postfix = [System::Embedded, System::Redis];
        check(Some(&asked), &[10_000], &without_postfix, None);
    }

    #[test]
    fn whoever_is_below_its_floor_fails() {
        let mut report = Report::default();
        let mut add = |system, per_second| {
            let figures = Figures {
                per_second,
                ..Figures::default()
            };
            report.add(10_000, system, figures);
        };
        add(System::Postfix, 100.0);
        add(System::Embedded, 510.0);
        add(System::Redis, 390.0);
        let said = |size, system, least| {
            let floor = Floor {
                size,
                system,
                least,
            };
            check(&report, &[floor]).map_err(|error| error.to_string())
        };
        assert_eq!(said(10_000, System::Embedded, 5.0), Ok(()));
        assert_eq!(
            said(10_000, System::Redis, 4.0),
            Err("redis at 10000 B: 3.9x Postfix, not 4x".to_owned())
        );
        assert_eq!(
            said(100_000, System::Redis, 4.0),
            Err("redis at 100000 B: - Postfix, not 4x".to_owned()),
            "not measured"
        );
    }
}
