//! The calls of administrators, as commands, and their replies.

use std::time::Duration;

use redis::{Cmd, Pipeline, RedisWrite as _, Value};

use super::Redis;
use super::fields::Fields;
use super::reply::unexpected;
use super::store::push_notification;
use crate::id::{MessageId, QueueId};
use crate::operation::{Act, Acted, Action, Cursor, List, Page, Part, Place, PlaceName, Seen};
use crate::queue::{QueueError, RecordError};
use crate::record::{FIXED, Header, Prefix};

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

/// Completes the call of the script that lists.
pub(super) fn list(mut command: Cmd, list: &List) -> Cmd {
    command.arg(list.looks.clamp(1, 1000));
    command.arg(match list.place {
        None => "",
        Some(PlaceName::Deferred) => "d",
        Some(PlaceName::Held) => "h",
        Some(PlaceName::InFlight) => "c",
        Some(PlaceName::Ready) => "r",
    });
    // As they are written in the name of a queue.
    let written = |tenant: &str, route: &str| {
        let queue = QueueId {
            tenant: tenant.to_owned(),
            class: String::new(),
            egress: String::new(),
            route: route.to_owned(),
        };
        queue.to_string()
    };
    let tenant = list.tenant.as_ref().map(|tenant| written(tenant, ""));
    command.arg(
        tenant
            .as_deref()
            .map_or("", |tenant| &tenant[..tenant.len() - 2]),
    );
    let route = list.route.as_ref().map(|route| written("", route));
    command.arg(route.as_deref().map_or("", |route| &route[3..]));
    match &list.after {
        None => command.arg("w").arg("").arg(0).arg(""),
        Some(after) => command
            .arg(after.part.letter())
            .arg(&after.of)
            .arg(after.score)
            .arg(&after.member),
    };
    command
}

pub(super) fn page(reply: Value) -> Result<Page, QueueError> {
    let mut fields = Fields::of(reply, "list")?;
    let more = fields.count()? == 1;
    let letter: String = fields.parsed()?;
    let (of, score, member) = (fields.parsed()?, fields.count()? as u64, fields.parsed()?);
    let next = match Part::from_letter(&letter) {
        Some(part) if more => Some(Cursor {
            part,
            of,
            score,
            member,
        }),
        None if more => return Err(fields.unexpected("a part")),
        _ => None,
    };
    let mut tasks = Vec::new();
    while !fields.is_empty() {
        tasks.extend(seen(&mut fields)?);
    }
    Ok(Page { tasks, next })
}

/// So many tasks where they are.
pub(super) fn looked_at(count: usize, reply: Value) -> Result<Vec<Option<Seen>>, QueueError> {
    let mut fields = Fields::of(reply, "look")?;
    (0..count).map(|_| seen(&mut fields)).collect()
}

fn seen(fields: &mut Fields) -> Result<Option<Seen>, QueueError> {
    let letter: String = fields.parsed()?;
    let ms =
        |fields: &mut Fields| Ok::<_, QueueError>(Duration::from_millis(fields.count()? as u64));
    let place = match letter.as_str() {
        "d" => Place::Deferred {
            due_in: ms(fields)?,
        },
        "h" => Place::Held { since: ms(fields)? },
        "r" => Place::Ready { since: ms(fields)? },
        "c" => Place::InFlight {
            begun: fields.count()? == 1,
            by: fields.parsed()?,
        },
        _ => return Ok(None),
    };
    Ok(Some(Seen {
        place,
        handle: fields.parsed()?,
        state: fields.task_state()?,
    }))
}

impl Redis {
    /// Nearly all headers end within the first octets, so all are asked for at once; again only those
    /// that do not.
    pub(super) async fn read_headers(
        &self,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Result<Header, RecordError>>>, QueueError> {
        let mut headers = vec![None; messages.len()];
        let mut wanted: Vec<(usize, usize)> =
            (0..messages.len()).map(|index| (index, FIRST)).collect();
        while !wanted.is_empty() {
            let mut request = Pipeline::with_capacity(wanted.len());
            for (index, octets) in &wanted {
                let key = format!("{}m:{}", self.connector.prefix(), messages[*index]);
                request.cmd("GETRANGE").arg(key).arg(0).arg(octets - 1);
            }
            let mut taken = self.reads.take().await?;
            let deadline = self.reads.deadline();
            let replies = taken.connection.exchange(&request, deadline).await?;
            let mut longer = Vec::new();
            for ((index, asked), reply) in wanted.into_iter().zip(replies) {
                let octets = match reply {
                    Value::BulkString(octets) => octets,
                    other => return Err(unexpected("GETRANGE", &other)),
                };
                if octets.is_empty() {
                    continue;
                }
                headers[index] = Some(match Header::decode_prefix(&octets) {
                    Ok(Prefix::Header(header)) => Ok(*header),
                    Ok(Prefix::Needs(needs)) if octets.len() == asked && needs > FIXED => {
                        longer.push((index, needs));
                        continue;
                    }
                    Ok(Prefix::Needs(_)) => Err(RecordError::Length("cut short within the header")),
                    Err(error) => Err(error),
                });
            }
            taken.put_back();
            wanted = longer;
        }
        Ok(headers)
    }
}

/// Octets that hold the header of a message with a few recipients.
const FIRST: usize = 2048;
