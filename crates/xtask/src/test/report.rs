//! What ran, how it ended, and how long it took.

use std::{fmt::Write, time::Duration};

use anyhow::Result;

use super::budget::Tally;

#[derive(Default)]
pub(super) struct Report {
    rows: Vec<Row>,
}

pub(super) struct Row {
    name: &'static str,
    minutes: u64,
    took: Duration,
    tally: Tally,
    outcome: Outcome,
}

enum Outcome {
    CannotRun(String),
    Failed(String),
    Passed,
}

impl Row {
    pub(super) fn new(
        name: &'static str,
        minutes: u64,
        took: Duration,
        tally: Tally,
        result: Result<()>,
    ) -> Self {
        Self {
            name,
            minutes,
            took,
            tally,
            outcome: match result {
                Ok(()) => Outcome::Passed,
                Err(error) => Outcome::Failed(format!("{error:#}")),
            },
        }
    }

    fn passed(&self) -> bool {
        matches!(self.outcome, Outcome::Passed)
    }
}

impl Report {
    /// Whether it passed.
    pub(super) fn push(&mut self, row: Row) -> bool {
        let passed = row.passed();
        println!(
            "{}: {} after {}",
            row.name,
            row.outcome.word(),
            minutes(row.took)
        );
        self.rows.push(row);
        passed
    }

    pub(super) fn cannot_run(&mut self, name: &'static str, why: &[String]) {
        println!("\n== {name}: cannot run here");
        for reason in why {
            println!("{name}: {reason}");
        }
        self.rows.push(Row {
            name,
            minutes: 0,
            took: Duration::ZERO,
            tally: Tally::default(),
            outcome: Outcome::CannotRun(why.join("; ")),
        });
    }

    /// Prints the table and the last line; whether everything passed.
    pub(super) fn end(&self) -> bool {
        let (table, last) = self.table();
        println!("\n{table}{}{last}", self.not_passed());
        self.rows.iter().all(Row::passed)
    }

    /// What a reader of the last lines of a log needs to know.
    fn not_passed(&self) -> String {
        let bad: Vec<_> = self.rows.iter().filter(|row| !row.passed()).collect();
        if bad.is_empty() {
            return String::new();
        }
        let names: Vec<_> = bad.iter().map(|row| row.name).collect();
        let mut text = format!("not passed: {}\n", names.join(", "));
        for row in bad {
            for failure in &row.tally.failures {
                let _ = writeln!(text, "FAILED {}: {}", row.name, first_line(failure));
            }
        }
        text
    }

    fn table(&self) -> (String, String) {
        let mut text = String::new();
        let mut sum = Tally::default();
        for row in &self.rows {
            let (passed, mut failed) = (row.tally.passed, row.tally.failed);
            // A part that ended badly without a failed test, or never ran, is a failure all the same.
            if !row.passed() && failed == 0 {
                failed = 1;
            }
            sum.passed += passed;
            sum.failed += failed;
            let _ = writeln!(
                text,
                "{:<13} {:<10} {:>6} of {:>2} min  {:>4} passed {:>3} failed  {}",
                row.name,
                row.outcome.word(),
                minutes(row.took),
                row.minutes,
                passed,
                failed,
                row.outcome.reason(),
            );
        }
        (
            text,
            format!("{} passed, {} failed", sum.passed, sum.failed),
        )
    }
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::CannotRun(_) => "cannot run",
            Self::Failed(_) => "failed",
            Self::Passed => "passed",
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::CannotRun(reason) | Self::Failed(reason) => first_line(reason),
            Self::Passed => "",
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or("")
}

fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn row(name: &'static str, passed: u64, failed: u64, result: Result<()>) -> Row {
        let failures = (1..=failed).map(|number| format!("{name}::{number}"));
        let tally = Tally {
            passed,
            failed,
            failures: failures.collect(),
        };
        Row::new(name, 5, Duration::from_secs(61), tally, result)
    }

    #[test]
    fn the_last_line_counts_what_did_not_run_as_failed() {
        let mut report = Report::default();
        report.push(row("pure", 10, 0, Ok(())));
        report.push(row("queue", 2, 3, Err(anyhow!("status 101"))));
        report.push(row("local", 4, 0, Err(anyhow!("killed"))));
        report.cannot_run("cluster", &["not root: run as root".to_owned()]);
        let (table, last) = report.table();
        assert_eq!(last, "16 passed, 5 failed");
        assert!(table.contains("1:01 of  5 min"), "{table}");
        assert!(
            table.contains("cannot run") && table.contains("run as root"),
            "{table}"
        );
        assert_eq!(
            report.not_passed(),
            "not passed: queue, local, cluster\n\
             FAILED queue: queue::1\nFAILED queue: queue::2\nFAILED queue: queue::3\n"
        );
        assert!(!report.end());
    }

    #[test]
    fn all_passed_is_success() {
        let mut report = Report::default();
        report.push(row("pure", 1, 0, Ok(())));
        assert_eq!(report.not_passed(), "");
        assert!(report.end());
    }
}
