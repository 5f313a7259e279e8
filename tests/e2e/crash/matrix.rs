//! The crash matrix, compared with what is written down of it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kurier_test::crash::{differences, play, table};

fn document() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/crash-matrix.md")
}

/// Everything in the document that is not the table stays as it is.
fn rewritten(document: &str, table: &str) -> Result<String> {
    let (before, rest) = document
        .split_once(BEGIN)
        .context("no begin of the table")?;
    let (_, after) = rest.split_once(END).context("no end of the table")?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[test]
fn every_row_at_a_tenth_of_the_lease() -> Result<()> {
    let rows = play(Duration::from_secs(3), None)?;
    println!("{}", table(&rows));
    let mut text = std::fs::read_to_string(document())?;
    if std::env::var_os("KURIER_WRITE_CRASH_MATRIX").is_some() {
        text = rewritten(&text, &table(&rows))?;
        std::fs::write(document(), &text)?;
    }
    let written = text.split(BEGIN).nth(1).unwrap_or_default();
    let written = written.split(END).next().unwrap_or_default();
    let differences = differences(&rows, written);
    ensure!(
        differences.is_empty(),
        "docs/crash-matrix.md, to be written with KURIER_WRITE_CRASH_MATRIX=1: {differences:#?}"
    );
    Ok(())
}

#[test]
fn three_rows_at_the_whole_lease() -> Result<()> {
    let steps = [
        "SIGKILL with the claims on their way to the relay",
        "SIGKILL with the next hop's 250 not sent",
        "SIGSTOP with RCPT sent, SIGCONT after the take-over",
    ];
    let rows = play(Duration::from_secs(30), Some(&steps))?;
    println!("{}", table(&rows));
    Ok(())
}

const BEGIN: &str = "<!-- begin -->";
const END: &str = "<!-- end -->";
