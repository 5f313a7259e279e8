//! The call that settles, releases and claims, as command, and its reply.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Duration;

use redis::{Cmd, RedisWrite as _, Value};

use super::fields::Fields;
use super::store::{push_call, push_notification};
use crate::id::{Call, Handle, QueueId, SlotId};
use crate::operation::{
    Claim, Claimed, Grant, Next, NextReply, Resolved, Rest, Settlement, Taken, Then, Timing,
};
use crate::queue::QueueError;

/// Completes the call of the script with its command.
///
/// The journal keeps its last `journal_keeps` entries; none are made when that is 0.
pub(super) fn complete(
    mut command: Cmd,
    next: &Next,
    timing: &Timing,
    journal_keeps: u32,
) -> Result<Cmd, QueueError> {
    push_call(&mut command, next.call);
    command.write_arg_fmt(timing.claim.as_millis());
    command.write_arg_fmt(timing.safety_wake.as_millis());

    let (delivered, others) = split(&next.settlements);
    command.arg(delivered.len());
    for (_, settlement) in &delivered {
        command.write_arg_fmt(&settlement.handle);
    }
    command.arg(others.len());
    for (_, settlement) in &others {
        push_settlement(&mut command, settlement)?;
    }
    let mut positions = String::new();
    for (position, _) in delivered.iter().chain(&others) {
        // Writing to a string cannot fail.
        let _ = write!(positions, "{position} ");
    }
    command.arg(positions);

    command.arg(next.releases.len());
    for slot in &next.releases {
        command.write_arg_fmt(slot);
    }
    match &next.claim {
        None => _ = command.arg(0),
        Some(claim) => push_claim(&mut command, claim),
    }
    if journal_keeps > 0 {
        push_journal(&mut command, &next.settlements, journal_keeps);
    }
    Ok(command)
}

/// Reply of `next`.
pub(super) fn reply_of(call: Call, reply: Value) -> Result<Taken<NextReply>, QueueError> {
    let mut fields = Fields::of(reply, "next")?;
    match fields.count()? {
        0 => Ok(Taken::Ran(read(&mut fields, call)?)),
        1 => Ok(Taken::Refused),
        2 => Ok(Taken::Reaped),
        _ => Ok(Taken::Expired),
    }
}

/// Reply of `resolve`, which holds the one of `next` if that ran.
pub(super) fn resolution_of(call: Call, reply: Value) -> Result<Resolved, QueueError> {
    let mut fields = Fields::of(reply, "resolve")?;
    match fields.count()? {
        0 => Ok(Resolved::Ran(read(&mut fields, call)?)),
        1 => Ok(Resolved::Barred),
        _ => Ok(Resolved::Reaped),
    }
}

type Placed<'a> = (u32, &'a Settlement);

/// What is delivered to everybody, which goes in one batch, and everything else, with positions.
/// Two settlements of one task keep their order: then there is no batch.
fn split(settlements: &[Settlement]) -> (Vec<Placed<'_>>, Vec<Placed<'_>>) {
    let mut tasks = HashSet::with_capacity(settlements.len());
    let distinct = settlements
        .iter()
        .all(|settlement| tasks.insert(settlement.handle.task));
    let mut delivered = Vec::with_capacity(settlements.len());
    let mut others = Vec::new();
    for (position, settlement) in (0..).zip(settlements) {
        if distinct && delivered.len() < MAX_BATCH && is_delivered_to_all(settlement) {
            delivered.push((position, settlement));
        } else {
            others.push((position, settlement));
        }
    }
    (delivered, others)
}

fn is_delivered_to_all(settlement: &Settlement) -> bool {
    settlement.rest == Rest::None
        && settlement.failed.is_empty()
        && settlement.notification.is_none()
        && settlement.recipients > 0
        && settlement.delivered.len() == usize::from(settlement.recipients)
        && settlement
            .delivered
            .iter()
            .zip(0..)
            .all(|(index, expected)| *index == expected)
}

fn push_settlement(command: &mut Cmd, settlement: &Settlement) -> Result<(), QueueError> {
    command.write_arg_fmt(&settlement.handle);
    for indexes in [&settlement.delivered, &settlement.failed] {
        command.arg(indexes.len());
        for index in indexes {
            command.arg(index);
        }
    }
    command.arg(settlement.recipients);
    match &settlement.rest {
        Rest::None => command.arg("n").arg(0).arg(""),
        Rest::Deferred { due_in, notes } => {
            command.arg("d").write_arg_fmt(due_in.as_millis());
            command.arg(&notes[..])
        }
        Rest::GivenBack => command.arg("g").arg(0).arg(""),
        Rest::Held { reason } => command.arg("h").arg(0).arg(reason),
        Rest::Kept => command.arg("k").arg(0).arg(""),
    };
    match &settlement.notification {
        None => _ = command.arg(0),
        Some(message) => push_notification(command, message)?,
    }
    Ok(())
}

fn push_claim(command: &mut Cmd, claim: &Claim) {
    command
        .arg(1)
        .arg(claim.grants)
        .arg(claim.tasks_per_grant.max(1));
    command.arg(claim.withheld.len());
    for task in &claim.withheld {
        command.write_arg_fmt(task);
    }
    command.arg(claim.by_name.len());
    for handle in &claim.by_name {
        command.write_arg_fmt(handle);
    }
}

fn push_journal(command: &mut Cmd, settlements: &[Settlement], keeps: u32) {
    let mut is_first = true;
    for (position, settlement) in (0_u32..).zip(settlements) {
        if settlement.is_journaled(false) {
            if std::mem::take(&mut is_first) {
                command.arg(keeps);
            }
            command
                .arg(position)
                .arg(u8::from(settlement.is_journaled(true)))
                .arg(&settlement.journal[..]);
        }
    }
}

fn read(fields: &mut Fields, call: Call) -> Result<NextReply, QueueError> {
    let mut reply = NextReply::default();
    for _ in 0..fields.count()? {
        let position = fields.count()?;
        reply
            .stale
            .push(u32::try_from(position).map_err(|_| fields.unexpected("a position"))?);
    }
    reply.stale.sort_unstable();
    for _ in 0..fields.count()? {
        let queue = fields.parsed()?;
        reply.named.push(read_task(fields, &queue)?);
    }
    for index in 0..fields.count()? {
        let queue: QueueId = fields.parsed()?;
        let count = fields.count()?;
        let tasks = (0..count)
            .map(|_| read_task(fields, &queue))
            .collect::<Result<_, _>>()?;
        let index = u16::try_from(index).map_err(|_| fields.unexpected("a number of grants"))?;
        let slot = SlotId {
            lane: call.lane,
            n: call.n,
            index,
        };
        reply.grants.push(Grant {
            slot,
            site: queue.route.clone(),
            queue,
            tasks,
        });
    }
    reply.then = match (fields.count()?, fields.milliseconds()?) {
        (0, _) => Then::More,
        (1, ms) => Then::Sleep(ms.unwrap_or(Duration::ZERO)),
        _ => Then::Empty,
    };
    Ok(reply)
}

fn read_task(fields: &mut Fields, queue: &QueueId) -> Result<Claimed, QueueError> {
    let task = fields.parsed()?;
    let expires_in = fields.milliseconds()?.unwrap_or(Duration::ZERO);
    let handle = Handle {
        task,
        queue: queue.clone(),
    };
    Ok(Claimed {
        handle,
        state: fields.task_state()?,
        expires_in,
    })
}

/// Far below what one command of a script can take.
const MAX_BATCH: usize = 1000;
