//! The calls of administrators, as commands, and their replies.

use redis::{Cmd, RedisWrite as _, Value};

use super::fields::Fields;
use super::store::push_notification;
use crate::operation::{Act, Acted, Action};
use crate::queue::QueueError;

/// Completes the call of the script that acts.
pub(super) fn act(mut command: Cmd, acts: &[Act]) -> Result<Cmd, QueueError> {
    for Act { handle, action } in acts {
        let letter = match action {
            Action::Drop { .. } => "d",
            Action::Hold { .. } => "h",
            Action::Release => "l",
            Action::Retry => "r",
        };
        command.arg(letter).write_arg_fmt(handle);
        match action {
            Action::Drop { notice: None } => _ = command.arg(-1).arg(0),
            Action::Drop {
                notice: Some(notice),
            } => {
                command.arg(notice.resolved);
                push_notification(&mut command, &notice.message)?;
            }
            Action::Hold { reason } => _ = command.arg(reason),
            Action::Release | Action::Retry => {}
        }
    }
    Ok(command)
}

/// What became of so many acts.
pub(super) fn acted(acts: usize, reply: Value) -> Result<Vec<Acted>, QueueError> {
    let mut fields = Fields::of(reply, "act")?;
    (0..acts)
        .map(|_| match fields.integer()? {
            0 => Ok(Acted::Done),
            1 => Ok(Acted::Missing),
            2 => Ok(Acted::Pending),
            3 => Ok(Acted::Refused),
            4 => Ok(Acted::Unchanged),
            _ => Err(fields.unexpected("what became of an act")),
        })
        .collect()
}
