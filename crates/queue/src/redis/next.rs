//! The call that settles, releases and claims, as arguments, and its reply.

use std::collections::HashSet;
use std::fmt::Write;
use std::time::Duration;

use super::fields::Fields;
use super::resp::{Command, Reply};
use super::store::push_notification;
use crate::id::{Call, Handle, QueueId, SlotId};
use crate::operation::{
    Claim, Claimed, Grant, Next, NextReply, Resolved, Rest, Settlement, Taken, Then, Timing,
};
use crate::queue::QueueError;

/// Arguments of the script.
pub(super) fn arguments_of(next: &Next, timing: &Timing) -> Result<Command, QueueError> {
    let mut arguments = Command::default();
    let call = &next.call;
    arguments
        .written(call.worker)
        .written(call.lane)
        .written(call.n);
    arguments
        .written(timing.claim.as_millis())
        .written(timing.safety_wake.as_millis());

    let (delivered, others) = split(&next.settlements);
    arguments.written(delivered.len());
    for (_, settlement) in &delivered {
        arguments.written(&settlement.handle);
    }
    arguments.written(others.len());
    for (_, settlement) in &others {
        push_settlement(&mut arguments, settlement)?;
    }
    let mut positions = String::new();
    for (position, _) in delivered.iter().chain(&others) {
        // Writing to a string cannot fail.
        let _ = write!(positions, "{position} ");
    }
    arguments.arg(positions);

    arguments.written(next.releases.len());
    for slot in &next.releases {
        arguments.written(slot);
    }
    match &next.claim {
        None => _ = arguments.arg("0"),
        Some(claim) => push_claim(&mut arguments, claim),
    }
    Ok(arguments)
}

/// Reply of `next`.
pub(super) fn reply_of(call: Call, reply: Reply) -> Result<Taken<NextReply>, QueueError> {
    let mut fields = Fields::of(reply, "next")?;
    match fields.count()? {
        0 => Ok(Taken::Ran(read(&mut fields, call)?)),
        1 => Ok(Taken::Refused),
        2 => Ok(Taken::Reaped),
        _ => Ok(Taken::Expired),
    }
}

/// Reply of `resolve`, which holds the one of `next` if that ran.
pub(super) fn resolution_of(call: Call, reply: Reply) -> Result<Resolved, QueueError> {
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

fn push_settlement(arguments: &mut Command, settlement: &Settlement) -> Result<(), QueueError> {
    arguments.written(&settlement.handle);
    for indexes in [&settlement.delivered, &settlement.failed] {
        arguments.written(indexes.len());
        for index in indexes {
            arguments.written(index);
        }
    }
    arguments.written(settlement.recipients);
    match &settlement.rest {
        Rest::None => arguments.arg("n").arg("0").arg(""),
        Rest::Deferred { due_in, notes } => {
            arguments.arg("d").written(due_in.as_millis()).arg(notes)
        }
        Rest::GivenBack => arguments.arg("g").arg("0").arg(""),
    };
    match &settlement.notification {
        None => _ = arguments.arg("0"),
        Some(message) => push_notification(arguments, message)?,
    }
    Ok(())
}

fn push_claim(arguments: &mut Command, claim: &Claim) {
    arguments
        .arg("1")
        .written(claim.grants)
        .written(claim.tasks_per_grant.max(1));
    arguments.written(claim.withheld.len());
    for task in &claim.withheld {
        arguments.written(task);
    }
    arguments.written(claim.by_name.len());
    for handle in &claim.by_name {
        arguments.written(handle);
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
