//! A limit in minutes that holds, and a count of what ran under it.

use std::{
    io::{BufRead, BufReader},
    mem,
    ops::AddAssign,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

use crate::{command, process};

/// For what a program wrote before it ended to be read.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) passed: u64,
    pub(super) failed: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

pub(super) struct Budget {
    deadline: Instant,
    minutes: u64,
    /// Of everything that ran, whether or not it failed in the end.
    pub(super) tally: Tally,
}

impl Budget {
    pub(super) fn of_minutes(minutes: u64) -> Self {
        Self {
            deadline: Instant::now() + Duration::from_secs(60 * minutes),
            minutes,
            tally: Tally::default(),
        }
    }

    /// Runs to completion, shows what it writes, and counts the tests it reports.
    ///
    /// # Errors
    /// When it does not end with status 0, or not in time: then it and all it started are killed.
    pub(super) fn run(&mut self, command: &mut Command) -> Result<()> {
        let shown = Arc::new(Mutex::new(Tally::default()));
        let counter = Arc::clone(&shown);
        let result = self.read(command, move |line| show_and_count(line, &counter));
        if let Ok(tally) = shown.lock() {
            self.tally += *tally;
        }
        result
    }

    /// Runs to completion and returns what it writes to standard output.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(super) fn capture(&self, command: &mut Command) -> Result<String> {
        let output = Arc::new(Mutex::new(String::new()));
        let collector = Arc::clone(&output);
        self.read(command, move |line| {
            if let Ok(mut output) = collector.lock() {
                output.push_str(line);
            }
        })?;
        let output = output.lock().map(|mut output| mem::take(&mut *output));
        output.map_err(|_| anyhow!("the reader of the output panicked"))
    }

    fn read(
        &self,
        command: &mut Command,
        mut line: impl FnMut(&str) + Send + 'static,
    ) -> Result<()> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let output = child.stdout.take().context("no output to read")?;
        let reader = thread::spawn(move || each_line(BufReader::new(output), &mut line));
        let left = self.deadline.saturating_duration_since(Instant::now());
        let ended = command::wait_until(&program, left, || Ok(child.try_wait()?));
        if ended.is_err() {
            process::kill_tree(&mut child);
        }
        // Something that got away from its parents may hold the other end for ever.
        let _ = command::wait_until("the end of its output", LAST_WORDS, || {
            Ok(reader.is_finished().then_some(()))
        });
        let Ok(status) = ended else {
            bail!("stopped: its {} minutes are over", self.minutes);
        };
        if !status.success() {
            bail!("{program} ended with {status}");
        }
        Ok(())
    }
}

fn each_line(mut output: impl BufRead, line: &mut impl FnMut(&str)) {
    let mut bytes = Vec::new();
    while output
        .read_until(b'\n', &mut bytes)
        .is_ok_and(|read| read > 0)
    {
        line(&String::from_utf8_lossy(&bytes));
        bytes.clear();
    }
}

fn show_and_count(line: &str, tally: &Mutex<Tally>) {
    print!("{line}");
    if let (Some(result), Ok(mut tally)) = (count(line), tally.lock()) {
        *tally += result;
    }
}

/// `test result: ok. 3 passed; 1 failed; 0 ignored; ...`
fn count(line: &str) -> Option<Tally> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |word: &str| {
        let field = numbers
            .split("; ")
            .find_map(|field| field.strip_suffix(word))?;
        field.trim().parse().ok()
    };
    Some(Tally {
        passed: number("passed")?,
        failed: number("failed")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_tests_are_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered \
                    out; finished in 0.01s\n";
        assert_eq!(
            count(line),
            Some(Tally {
                passed: 12,
                failed: 3
            })
        );
        assert_eq!(count("test a::b ... ok\n"), None);
        let output = format!("running 15 tests\n{line}\n{line}");
        let twice = Tally {
            passed: 24,
            failed: 6,
        };
        let tally = Mutex::new(Tally::default());
        each_line(output.as_bytes(), &mut |line| show_and_count(line, &tally));
        assert_eq!(tally.into_inner().unwrap(), twice);
    }

    #[test]
    fn a_failure_still_counts() {
        let mut budget = Budget::of_minutes(1);
        let script = "echo 'test result: FAILED. 1 passed; 2 failed; 0 ignored'; exit 1";
        assert!(budget.run(Command::new("sh").args(["-c", script])).is_err());
        assert_eq!(
            budget.tally,
            Tally {
                passed: 1,
                failed: 2
            }
        );
    }

    #[test]
    fn captured_output_is_whole_and_not_counted() {
        let budget = Budget::of_minutes(1);
        let script = "seq 1 20000; echo 'test result: ok. 1 passed; 0 failed; 0 ignored'";
        let output = budget
            .capture(Command::new("sh").args(["-c", script]))
            .unwrap();
        assert_eq!(output.lines().count(), 20_001);
        assert_eq!(budget.tally, Tally::default());
    }

    #[test]
    fn what_goes_on_too_long_is_killed_with_all_it_started() {
        let mut budget = Budget::of_minutes(0);
        let start = Instant::now();
        let script = "sleep 600 & sleep 600";
        let error = budget
            .run(Command::new("sh").args(["-c", script]))
            .unwrap_err();
        assert!(error.to_string().contains("minutes are over"), "{error}");
        // Had the grandchild survived, its end of the pipe would have kept the reader.
        assert!(start.elapsed() < LAST_WORDS);
    }
}
