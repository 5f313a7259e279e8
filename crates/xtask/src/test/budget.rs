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

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::{command, process};

/// For what a program wrote before it ended to be read.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How many tests ended how, and which of them failed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) passed: u64,
    pub(super) failed: u64,
    /// As the report names them at its end.
    pub(super) failures: Vec<String>,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.failures.extend(other.failures);
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
        let results = Arc::new(Mutex::new(Results::default()));
        let reader = Arc::clone(&results);
        let result = self.read(command, move |line| {
            print!("{line}");
            if let Ok(mut results) = reader.lock() {
                results.read(line);
            }
        });
        if let Ok(mut results) = results.lock() {
            self.tally += mem::take(&mut results.tally);
        }
        result
    }

    /// As [`run`](Self::run); what fails is reported under `name`, and be it only that it ended badly.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(super) fn run_as(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let before = self.tally.failures.len();
        let result = self.run(command);
        for failure in self.tally.failures.iter_mut().skip(before) {
            *failure = format!("{name}: {failure}");
        }
        if let Err(error) = &result
            && self.tally.failures.len() == before
        {
            self.tally.failures.push(format!("{name}: {error:#}"));
        }
        result
    }

    /// # Errors
    /// When no test has passed: a filter that matches nothing must not pass.
    pub(super) fn ensure_tests_ran(&self) -> Result<()> {
        ensure!(self.tally.passed > 0, "no test ran");
        Ok(())
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

/// What the output of test programs has said so far.
#[derive(Default)]
struct Results {
    tally: Tally,
    /// In the list of names that ends the output of a program with failures.
    listing: bool,
}

impl Results {
    fn read(&mut self, line: &str) {
        if let Some((passed, failed)) = count(line) {
            self.tally.passed += passed;
            self.tally.failed += failed;
        }
        if let Some(name) = failed(line) {
            self.note(name);
        }
        // What a test's own children write may tear its line, so the list is read as well; and a program
        // that was killed wrote no list.
        match line.strip_prefix("    ") {
            Some(name) if self.listing => self.note(name.trim_end()),
            _ => self.listing = line.trim_end() == "failures:",
        }
    }

    fn note(&mut self, name: &str) {
        if !self.tally.failures.iter().any(|noted| noted == name) {
            self.tally.failures.push(name.to_owned());
        }
    }
}

/// `test some::name ... FAILED`
fn failed(line: &str) -> Option<&str> {
    let name = line.trim_end().strip_prefix("test ")?;
    let name = name.strip_suffix(" ... FAILED")?;
    Some(name.strip_suffix(" - should panic").unwrap_or(name))
}

/// How many passed and how many failed: `test result: ok. 3 passed; 1 failed; 0 ignored; ...`
fn count(line: &str) -> Option<(u64, u64)> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |word: &str| {
        let field = numbers
            .split("; ")
            .find_map(|field| field.strip_suffix(word))?;
        field.trim().parse().ok()
    };
    Some((number("passed")?, number("failed")?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const RESULT: &str = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 \
                          filtered out; finished in 0.01s\n";

    fn read(output: &str) -> Tally {
        let mut results = Results::default();
        each_line(output.as_bytes(), &mut |line: &str| results.read(line));
        results.tally
    }

    #[test]
    fn results_of_tests_are_counted() {
        assert_eq!(count(RESULT), Some((12, 3)));
        assert_eq!(count("test a::b ... ok\n"), None);
        let tally = read(&format!("running 15 tests\n{RESULT}\n{RESULT}"));
        assert_eq!((tally.passed, tally.failed), (24, 6));
    }

    #[test]
    fn failed_tests_are_named_once_each() {
        let tally = read(&format!(
            "running 4 tests\n\
             test a::good ... ok\n\
             test a::bad ... FAILED\n\
             test a::quiet - should panic ... FAILED\n\
             test a::torn ... words of a child\nFAILED\n\n\
             failures:\n\n\
             ---- a::bad stdout ----\n    no::name here\n\n\n\
             failures:\n    a::bad\n    a::quiet\n    a::torn\n\n\
             {RESULT}    after::the_list\n"
        ));
        assert_eq!(tally.failures, ["a::bad", "a::quiet", "a::torn"]);
    }

    #[test]
    fn a_failure_still_counts() {
        let mut budget = Budget::of_minutes(1);
        let script = "echo 'test x::y ... FAILED'; \
                      echo 'test result: FAILED. 1 passed; 2 failed; 0 ignored'; exit 1";
        assert!(budget.run(Command::new("sh").args(["-c", script])).is_err());
        assert_eq!((budget.tally.passed, budget.tally.failed), (1, 2));
        assert_eq!(budget.tally.failures, ["x::y"]);
    }

    #[test]
    fn a_failure_is_reported_with_its_program() {
        let mut budget = Budget::of_minutes(1);
        let mut run = |name, script| {
            let result = budget.run_as(name, Command::new("sh").args(["-c", script]));
            assert!(result.is_err(), "{script}");
        };
        run("one", "echo 'test x::y ... FAILED'; exit 1");
        run("two", "kill -9 $$");
        assert_eq!(
            budget.tally.failures,
            ["one: x::y", "two: sh ended with signal: 9 (SIGKILL)"]
        );
    }

    #[test]
    fn nothing_run_is_nothing_passed() {
        let mut budget = Budget::of_minutes(1);
        let mut run = |passed: u8| {
            let script = format!("echo 'test result: ok. {passed} passed; 0 failed; 0 ignored'");
            budget
                .run(Command::new("sh").args(["-c", &script]))
                .unwrap();
            budget.ensure_tests_ran().map_err(|error| error.to_string())
        };
        assert_eq!(run(0), Err("no test ran".to_owned()));
        assert_eq!(run(1), Ok(()));
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
        budget.deadline += Duration::from_secs(1);
        // Nobody else sleeps for so long.
        let sleep = format!("600.{}", std::process::id());
        let script = format!("sleep {sleep} & sleep {sleep}");
        let error = budget
            .run(Command::new("sh").args(["-c", &script]))
            .unwrap_err();
        assert!(error.to_string().contains("minutes are over"), "{error}");
        let is_ours = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&sleep)
        };
        // The killed are seen until their new parent has waited for them; they have no command line.
        command::wait_until("all are gone", Duration::from_secs(60), || {
            Ok((!process::all().any(|pid| is_ours(&pid))).then_some(()))
        })
        .unwrap();
    }
}
