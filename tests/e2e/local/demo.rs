//! The demo is the first thing a newcomer runs: it must be right about success and about failure.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::process::{kurier, output, succeed};

fn figure(text: &str, label: &str) -> Result<u32> {
    let line = text
        .lines()
        .find(|line| line.contains(label) && !line.contains("->"))
        .with_context(|| format!("no line {label:?} in:\n{text}"))?;
    let number = line.split_whitespace().find_map(|word| word.parse().ok());
    number.with_context(|| format!("no figure in {line:?}"))
}

#[test]
fn it_shows_each_journey_and_ends_well() -> Result<()> {
    let started = std::time::Instant::now();
    let text = succeed(Command::new(kurier()?).arg("demo"))?;
    ensure!(
        started.elapsed().as_secs() <= 60,
        "it took {:?}",
        started.elapsed()
    );
    assert_eq!(figure(&text, "messages")?, 200);
    ensure!(figure(&text, "deferred, then delivered")? >= 20, "{text}");
    ensure!(figure(&text, "bounced")? >= 10, "{text}");
    assert_eq!(figure(&text, "expired")?, 1);
    // It takes the twelve seconds that the one which expires has.
    let progress = text
        .lines()
        .filter(|line| line.contains(" of 200 accepted, "));
    ensure!(progress.count() >= 5, "no progress is shown:\n{text}");
    Ok(())
}

#[test]
fn it_names_a_message_that_did_not_arrive() -> Result<()> {
    let output =
        output(Command::new(kurier()?).args(["demo", "--messages", "60", "--swallow", "7"]))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.code() == Some(1),
        "ended with {}\n{text}",
        output.status
    );
    ensure!(
        text.lines()
            .any(|line| line.contains("message 7") && line.contains("never arrived")),
        "the message is not named:\n{text}"
    );
    Ok(())
}
