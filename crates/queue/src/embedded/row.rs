//! Rows of the file. Big-endian numbers, so that a dump can be read.
//!
//! * message: expiry in ms (8 octets), then the record as [`record`](crate::record) has it;
//! * task: nothing when it has ended, else due in ms (8), attempts (4), flags (1): begun by an owner
//!   that did not settle it, held, dropped; count of resolved recipients (2), for each index (2) and
//!   outcome (1); when held, the length of the reason (2) and the reason; then the worker's notes. A
//!   task without a row waits as it was enqueued;
//! * entry of the journal: for each outcome its length (4) and octets.

use bytes::{Buf, BufMut, Bytes};

use crate::record::{Resolution, TaskState};

pub(super) const EXPIRY: usize = 8;
const BEGUN: u8 = 1;
const HELD: u8 = 2;
const DROPPED: u8 = 4;

pub(super) fn write_state(due: u64, state: &TaskState) -> Vec<u8> {
    let mut row = Vec::with_capacity(15 + state.resolved.len() * 3 + state.notes.len());
    row.put_u64(due);
    row.put_u32(state.attempts);
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    row.put_u8(
        flag(state.reclaimed_begun, BEGUN)
            | flag(state.hold.is_some(), HELD)
            | flag(state.dropped, DROPPED),
    );
    row.put_u16(state.resolved.len() as u16);
    for (recipient, resolution) in &state.resolved {
        row.put_u16(*recipient);
        row.put_u8(match resolution {
            Resolution::Delivered => b'd',
            Resolution::Failed => b'f',
        });
    }
    if let Some(reason) = &state.hold {
        let reason = &reason[..reason.floor_char_boundary(usize::from(u16::MAX))];
        row.put_u16(reason.len() as u16);
        row.put_slice(reason.as_bytes());
    }
    row.put_slice(&state.notes);
    row
}

/// `None` when it is not what [`write_state`] writes.
pub(super) fn read_state(mut row: &[u8]) -> Option<(u64, TaskState)> {
    let due = row.try_get_u64().ok()?;
    let attempts = row.try_get_u32().ok()?;
    let flags = row.try_get_u8().ok()?;
    let count = row.try_get_u16().ok()?;
    let mut resolved = Vec::new();
    for _ in 0..count {
        let recipient = row.try_get_u16().ok()?;
        let resolution = match row.try_get_u8().ok()? {
            b'd' => Resolution::Delivered,
            b'f' => Resolution::Failed,
            _ => return None,
        };
        resolved.push((recipient, resolution));
    }
    let hold = if flags & HELD == 0 {
        None
    } else {
        let length = usize::from(row.try_get_u16().ok()?);
        let (reason, rest) = row.split_at_checked(length)?;
        row = rest;
        Some(std::str::from_utf8(reason).ok()?.to_owned())
    };
    Some((
        due,
        TaskState {
            attempts,
            reclaimed_begun: flags & BEGUN != 0,
            resolved,
            hold,
            dropped: flags & DROPPED != 0,
            notes: Bytes::copy_from_slice(row),
        },
    ))
}

/// An entry of the journal: for each outcome its length (4) and octets.
pub(super) fn write_journaled(outcomes: &[Bytes]) -> Vec<u8> {
    let length = outcomes.iter().map(|outcome| 4 + outcome.len()).sum();
    let mut row = Vec::with_capacity(length);
    for outcome in outcomes {
        row.put_u32(outcome.len() as u32);
        row.put_slice(outcome);
    }
    row
}

/// What [`write_journaled`] wrote, as far as it is that.
pub(super) fn read_journaled(mut row: &[u8]) -> Vec<Bytes> {
    let mut outcomes = Vec::new();
    while let Ok(length) = row.try_get_u32()
        && let Some((outcome, rest)) = row.split_at_checked(length as usize)
    {
        outcomes.push(Bytes::copy_from_slice(outcome));
        row = rest;
    }
    outcomes
}

pub(super) fn write_suspension(until: Option<u64>, reason: &str) -> Vec<u8> {
    let mut row = Vec::with_capacity(8 + reason.len());
    row.put_u64(until.unwrap_or(0));
    row.put_slice(reason.as_bytes());
    row
}

/// `None` when it is not what [`write_suspension`] writes.
pub(super) fn read_suspension(mut row: &[u8]) -> Option<(Option<u64>, String)> {
    let until = row.try_get_u64().ok()?;
    let reason = std::str::from_utf8(row).ok()?;
    Some(((until > 0).then_some(until), reason.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn written_and_read_back(
            due: u64, attempts: u32, begun: bool, dropped: bool, hold: Option<String>,
            recipients: Vec<(u16, bool)>, notes: Vec<u8>,
        ) {
            let outcome = |delivered| if delivered { Resolution::Delivered } else { Resolution::Failed };
            let state = TaskState {
                attempts,
                reclaimed_begun: begun,
                resolved: recipients.into_iter().map(|(index, delivered)| (index, outcome(delivered))).collect(),
                notes: notes.into(),
                hold,
                dropped,
            };
            prop_assert_eq!(read_state(&write_state(due, &state)), Some((due, state)));
        }

        #[test]
        fn outcomes_written_and_read_back(outcomes: Vec<Vec<u8>>) {
            let outcomes: Vec<Bytes> = outcomes.into_iter().map(Bytes::from).collect();
            prop_assert_eq!(read_journaled(&write_journaled(&outcomes)), outcomes);
        }

        #[test]
        fn hostile_octets_never_panic(row: Vec<u8>) {
            let _ = read_state(&row);
            let _ = read_journaled(&row);
        }
    }
}
