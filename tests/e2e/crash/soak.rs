//! The soak with a fixed plan: enough for continuous integration.

use anyhow::{Result, ensure};
use kurier_test::soak::{self, Settings};

#[test]
fn nothing_is_lost_and_every_duplicate_has_a_reason() -> Result<()> {
    let settings = Settings {
        minutes: 3,
        messages: 20_000,
        kills: 10,
        stops: Some(2),
        outages: Some(1),
        seed: 1,
        lease_milliseconds: 3_000,
        keep: None,
        report: None,
    };
    let report = soak::run(&settings, |step| println!("{step}"))?;
    println!("\n{report}");
    ensure!(report.failures.is_empty(), "{:#?}", report.failures);
    Ok(())
}
