//! The crash matrix: every event of the queue's failure table, brought about at exactly its step, with
//! real relay processes and a real Redis, and what it cost.
//!
//! A process shows itself to the rest of the world by what it sends and receives, and by nothing
//! else. So it is stopped from outside: a proxy between relay and Redis and the next hop hold the
//! octets of a step, and while they are held the process is killed or stopped. The relay is the one
//! that is shipped; there is nothing in it for tests.
//!
//! [`play`] plays all rows, some side by side, and gives the table that is checked in.

mod clock;
mod proxy;
mod rows;
mod stage;
mod table;

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use self::rows::ROWS;
use self::stage::{Measured, Stage};

pub use self::table::{Played, differences, table};

/// One event at one step.
struct Row {
    /// As the failure table has it.
    event: &'static str,
    /// At which step what is stopped.
    step: &'static str,
    /// What must come of it, in words.
    required: &'static str,
    /// How many duplicates there may be.
    duplicates: usize,
    /// Whether somebody takes over, which must not take long.
    taken_over: TakenOver,
    play: fn(&mut Stage) -> Result<Measured>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TakenOver {
    /// There is nothing to take over.
    Not,
    /// When the lease has run out: within 35 s of 30 s.
    AfterTheLease,
    /// What is given back is not waited for.
    AtOnce,
}

/// Plays all rows, or those that are `named` by their step.
///
/// # Errors
/// Names every row that did not come out as required.
pub fn play(lease: Duration, named: Option<&[&str]>) -> Result<Vec<Played>> {
    let chosen = |row: &&Row| named.is_none_or(|steps| steps.contains(&row.step));
    let rows: Vec<&Row> = ROWS
        .iter()
        .flat_map(|rows| rows.iter())
        .filter(chosen)
        .collect();
    if let Some(steps) = named {
        ensure!(
            rows.len() == steps.len(),
            "not every step is known: {steps:?}"
        );
    }
    let waiting: Mutex<VecDeque<(usize, &Row)>> =
        Mutex::new(rows.iter().copied().enumerate().collect());
    let played = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let next = lock(&waiting).pop_front();
                    let Some((position, row)) = next else { return };
                    let result = row.played(lease);
                    lock(&played).push((position, row, result));
                }
            });
        }
    });
    let mut played = played.into_inner().unwrap_or_else(PoisonError::into_inner);
    played.sort_by_key(|(position, ..)| *position);
    let (mut all, mut failures) = (Vec::new(), Vec::new());
    for (_, row, result) in played {
        match result {
            Ok(measured) => all.push(Played::new(row, measured)),
            Err(error) => failures.push(format!("{}, {}: {error:#}", row.event, row.step)),
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(all)
}

impl Row {
    fn played(&self, lease: Duration) -> Result<Measured> {
        let mut stage = Stage::set(lease).context("the stage")?;
        if self.taken_over == TakenOver::AfterTheLease {
            stage.settle_in();
        }
        let measured = (self.play)(&mut stage)?;
        ensure!(measured.lost == 0, "{measured:?}");
        ensure!(
            measured.duplicated <= self.duplicates,
            "{measured:?}, where {} duplicates may be",
            self.duplicates
        );
        let within = match self.taken_over {
            TakenOver::Not => return Ok(measured),
            TakenOver::AfterTheLease => lease * 35 / 30 + LATE,
            TakenOver::AtOnce => lease / 2 + LATE,
        };
        let took = measured.took.context("nothing was taken over")?;
        ensure!(took <= within, "taken over only after {took:?}");
        Ok(measured)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// More would be late for each other's sake.
const AT_A_TIME: usize = 3;
/// By which a busy machine may be late.
const LATE: Duration = Duration::from_secs(4);
