//! Messages that come in.

use anyhow::{Result, ensure};

use super::super::stage::{Measured, SURVIVOR, Stage, VICTIM};
use super::super::{Row, TakenOver};
use crate::eventually::{eventually, holds};
use crate::gate::Step;

pub(super) const ROWS: &[Row] = &[
    Row {
        event: "pod killed during DATA",
        step: "SIGKILL with 1 MB of a message received",
        required: "nothing kept, chunks expire, the client sends again",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: in_data,
    },
    Row {
        event: "pod killed before EXEC",
        step: "SIGKILL with EXEC on its way to Redis",
        required: "nothing kept, the client sends again",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: before_exec,
    },
    Row {
        event: "after EXEC, before the client reads 250",
        step: "SIGKILL with the reply to EXEC on its way to the relay",
        required: "queued; what the client sends again is a duplicate (RFC 1047)",
        duplicates: 1,
        taken_over: TakenOver::Not,
        play: after_exec,
    },
    Row {
        event: "EXEC ambiguous",
        step: "connection lost with the reply to EXEC on it",
        required: "taken back, 451",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: exec_reply_lost,
    },
    Row {
        event: "request of enqueue lost",
        step: "connection lost with EXEC on it",
        required: "451, nothing kept",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: exec_lost,
    },
    Row {
        event: "request of enqueue executed late",
        step: "EXEC reaches Redis after the relay has answered 451",
        required: "451, nothing kept",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: exec_late,
    },
    Row {
        event: "request of abort lost",
        step: "connection lost with the abort on it",
        required: "resolved: taken back, 451",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: |stage| abort_lost(stage, Step::Abort),
    },
    Row {
        event: "reply of abort lost",
        step: "connection lost with the reply to the abort on it",
        required: "resolved: taken back, 451",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: |stage| abort_lost(stage, Step::Aborted),
    },
];

fn in_data(stage: &mut Stage) -> Result<Measured> {
    let mut open = stage.open_data(VICTIM, 1 << 20)?;
    eventually("the relay is in DATA", stage.limit(), || {
        let data = stage.fleet.open_data(VICTIM)?;
        holds(data >= 1.0, data)
    })?;
    stage.kill(VICTIM)?;
    stage.closed(&mut open);
    nothing_is_queued(stage)?;
    sent_to_the_other(stage)
}

fn before_exec(stage: &mut Stage) -> Result<Measured> {
    stage.gate(VICTIM).arm(Step::Commit);
    let sending = stage.submitting(VICTIM, &["take"]);
    stage.gate(VICTIM).caught(1, stage.limit())?;
    stage.kill(VICTIM)?;
    stage.gate(VICTIM).cut();
    is_unanswered(&stage.refusal(sending)?)?;
    nothing_is_queued(stage)?;
    sent_to_the_other(stage)
}

fn after_exec(stage: &mut Stage) -> Result<Measured> {
    stage.gate(VICTIM).arm(Step::Committed);
    let sending = stage.submitting(VICTIM, &["take"]);
    stage.gate(VICTIM).caught(1, stage.limit())?;
    stage.kill(VICTIM)?;
    stage.gate(VICTIM).cut();
    is_unanswered(&stage.refusal(sending)?)?;
    let queued = stage.fleet.queued(&stage.redis)?;
    ensure!(queued.len() == 1, "queued are {queued:?}");
    sent_to_the_other(stage)
}

fn exec_reply_lost(stage: &mut Stage) -> Result<Measured> {
    stage.gate(VICTIM).arm(Step::Committed);
    let sending = stage.submitting(VICTIM, &["take"]);
    stage.gate(VICTIM).caught(1, stage.limit())?;
    stage.gate(VICTIM).cut();
    is_451(&stage.refusal(sending)?)?;
    nothing_is_queued(stage)?;
    sent_again(stage)
}

fn exec_lost(stage: &mut Stage) -> Result<Measured> {
    stage.gate(VICTIM).arm(Step::Commit);
    let sending = stage.submitting(VICTIM, &["take"]);
    stage.gate(VICTIM).caught(1, stage.limit())?;
    stage.gate(VICTIM).cut();
    is_451(&stage.refusal(sending)?)?;
    nothing_is_queued(stage)?;
    sent_again(stage)
}

fn exec_late(stage: &mut Stage) -> Result<Measured> {
    stage.gate(VICTIM).arm(Step::Commit);
    let sending = stage.submitting(VICTIM, &["take"]);
    stage.gate(VICTIM).caught(1, stage.limit())?;
    stage.gate(VICTIM).make_late();
    is_451(&stage.refusal(sending)?)?;
    stage.gate(VICTIM).deliver(stage.limit())?;
    // Whatever came before this has been executed by then.
    stage.redis.ask(&["PING"])?;
    nothing_is_queued(stage)?;
    sent_again(stage)
}

fn abort_lost(stage: &mut Stage, step: Step) -> Result<Measured> {
    stage.gate(VICTIM).arm(Step::Committed);
    let sending = stage.submitting(VICTIM, &["take"]);
    stage.gate(VICTIM).caught(1, stage.limit())?;
    stage.gate(VICTIM).cut_and_arm(step);
    stage.gate(VICTIM).caught(1, stage.limit())?;
    stage.gate(VICTIM).cut();
    is_451(&stage.refusal(sending)?)?;
    nothing_is_queued(stage)?;
    sent_again(stage)
}

/// The client goes on with the other relay, which also delivers.
fn sent_to_the_other(stage: &mut Stage) -> Result<Measured> {
    let reply = stage.submit_again(SURVIVOR, &["take"])?;
    ensure!(reply.starts_with("250"), "{reply}");
    stage.claiming(SURVIVOR, true)?;
    stage.revive(VICTIM)?;
    stage.outcome()
}

/// The client tries again where it was refused.
fn sent_again(stage: &mut Stage) -> Result<Measured> {
    let reply = stage.submit_again(VICTIM, &["take"])?;
    ensure!(reply.starts_with("250"), "{reply}");
    stage.claiming(VICTIM, true)?;
    stage.outcome()
}

fn nothing_is_queued(stage: &Stage) -> Result<()> {
    // A refusal may come a moment before what it refuses has been taken back.
    eventually("nothing is queued", stage.limit(), || {
        let queued = stage.fleet.queued(&stage.redis)?;
        holds(queued.is_empty(), format_args!("{queued:?} are queued"))
    })
}

fn is_unanswered(reply: &str) -> Result<()> {
    ensure!(reply.starts_with("connection:"), "{reply}");
    Ok(())
}

fn is_451(reply: &str) -> Result<()> {
    ensure!(reply.starts_with("451 4.3.0"), "{reply}");
    Ok(())
}
