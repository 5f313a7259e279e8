//! A relay lost at a step of a delivery, and what it asks of Redis lost on its way.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::stage::{Measured, SURVIVOR, Stage, VICTIM};
use super::super::{Row, TakenOver};
use crate::eventually::{eventually, holds};
use crate::gate::Step;
use crate::receive::now;

/// What a process may have delivered and not settled, and a final dot on each of its connections.
const IN_DOUBT: usize = 33 + 50;

pub(super) const ROWS: &[Row] = &[
    Row {
        event: "reply of next lost",
        step: "connection lost with the claims on it",
        required: "resolved, no claim and no slot orphaned",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: |stage| lost(stage, Step::Claimed),
    },
    Row {
        event: "request of settle and release lost",
        step: "connection lost with the outcome on it",
        required: "resolved, nothing settled twice",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: |stage| lost(stage, Step::Settle),
    },
    Row {
        event: "reply of settle and release lost",
        step: "connection lost with the confirmation on it",
        required: "resolved, nothing settled twice",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: |stage| lost(stage, Step::Settled),
    },
    Row {
        event: "request of settle and release executed late",
        step: "the outcome reaches Redis after it was settled another way",
        required: "changes nothing",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: settled_late,
    },
    Row {
        event: "after claim, before the last octet",
        step: "SIGKILL with the claims on their way to the relay",
        required: "taken over <= 35 s, attempt not counted",
        duplicates: 0,
        taken_over: TakenOver::AfterTheLease,
        play: claimed,
    },
    Row {
        event: "after claim, before the last octet",
        step: "SIGKILL with RCPT sent",
        required: "taken over <= 35 s, attempt not counted",
        duplicates: 0,
        taken_over: TakenOver::AfterTheLease,
        play: at_rcpt,
    },
    Row {
        event: "last octet sent, no reply",
        step: "SIGKILL with the next hop's 250 not sent",
        required: "in doubt: a possible duplicate",
        duplicates: 1,
        taken_over: TakenOver::AfterTheLease,
        play: at_the_dot,
    },
    Row {
        event: "after remote 250, before settle",
        step: "SIGKILL with the outcome on its way to Redis",
        required: "a possible duplicate",
        duplicates: 1,
        taken_over: TakenOver::AfterTheLease,
        play: |stage| unsettled(stage, Step::Settle),
    },
    Row {
        event: "after remote 250, settled",
        step: "SIGKILL with the confirmation on its way to the relay",
        required: "done with",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: |stage| unsettled(stage, Step::Settled),
    },
    Row {
        event: "after remote 250, before settle, many",
        step: "SIGKILL with every outcome of 200 messages on its way to Redis",
        required: "<= 32 messages of work, and a final dot on each connection",
        duplicates: IN_DOUBT,
        taken_over: TakenOver::AfterTheLease,
        play: many_unsettled,
    },
    Row {
        event: "pause longer than the lease",
        step: "SIGSTOP with RCPT sent, SIGCONT after the take-over",
        required: "fenced, sends nothing that was taken over",
        duplicates: 0,
        taken_over: TakenOver::AfterTheLease,
        play: paused_before_the_dot,
    },
    Row {
        event: "pause longer than the lease",
        step: "SIGSTOP with the next hop's 250 not sent, SIGCONT after the take-over",
        required: "fenced; in doubt: a possible duplicate",
        duplicates: 1,
        taken_over: TakenOver::AfterTheLease,
        play: paused_at_the_dot,
    },
    Row {
        event: "pause longer than the lease, residual window",
        step: "SIGSTOP with the last octet in the next hop's socket buffer, read after the take-over",
        required: "counted apart: a possible duplicate",
        duplicates: 1,
        taken_over: TakenOver::AfterTheLease,
        play: paused_with_the_dot_in_the_buffer,
    },
];

/// Loses the step of a message one of whose recipients is refused: an outcome with a notification.
fn lost(stage: &mut Stage, step: Step) -> Result<Measured> {
    stage.accepted(VICTIM, &["take", "refuse"])?;
    stage.gate(VICTIM).arm_for(step, 1);
    stage.claiming(VICTIM, true)?;
    stage.gate(VICTIM).caught(1, stage.limit())?;
    stage.gate(VICTIM).cut();
    stage.outcome()
}

fn settled_late(stage: &mut Stage) -> Result<Measured> {
    stage.accepted(VICTIM, &["take", "refuse"])?;
    stage.gate(VICTIM).arm_for(Step::Settle, 1);
    stage.claiming(VICTIM, true)?;
    stage.gate(VICTIM).caught(1, stage.limit())?;
    stage.gate(VICTIM).make_late();
    let settled = stage.outcome()?;
    stage.gate(VICTIM).deliver(stage.limit())?;
    // Whatever came before this has been executed by then.
    stage.redis.ask(&["PING"])?;
    let after = stage.outcome()?;
    ensure!(
        settled.duplicated == after.duplicated,
        "{settled:?}, {after:?}"
    );
    Ok(after)
}

fn claimed(stage: &mut Stage) -> Result<Measured> {
    let id = stage.accepted(VICTIM, &["take"])?;
    stage.gate(VICTIM).arm(Step::Claimed);
    stage.claiming(VICTIM, true)?;
    stage.gate(VICTIM).caught(1, stage.limit())?;
    stage.kill(VICTIM)?;
    stage.gate(VICTIM).cut();
    taken_over(stage, &id)
}

fn at_rcpt(stage: &mut Stage) -> Result<Measured> {
    let id = stage.accepted(VICTIM, &["take"])?;
    stage.sink.gate().arm_for(Step::Rcpt, 1);
    stage.claiming(VICTIM, true)?;
    stage.sink.gate().caught(1, stage.limit())?;
    stage.kill(VICTIM)?;
    stage.sink.gate().cut();
    taken_over(stage, &id)
}

/// The survivor delivers, and that is the first attempt there was.
fn taken_over(stage: &mut Stage, id: &str) -> Result<Measured> {
    stage.claiming(SURVIVOR, true)?;
    stage.arrives(id, 1)?;
    eventually("the delivery is in the log", stage.limit(), || {
        let log = stage.fleet.log(SURVIVOR)?;
        let mut lines = log.lines().filter(|line| line.contains(id));
        let delivered = lines.find(|line| line.contains(r#""message":"delivered""#));
        let is_first = delivered.is_some_and(|line| line.contains(r#""attempt":1,"#));
        holds(is_first, format_args!("{delivered:?}"))
    })?;
    stage.revive(VICTIM)?;
    stage.outcome()
}

fn at_the_dot(stage: &mut Stage) -> Result<Measured> {
    stage.accepted(VICTIM, &["take"])?;
    stage.sink.gate().arm_for(Step::Dot, 1);
    stage.claiming(VICTIM, true)?;
    stage.sink.gate().caught(1, stage.limit())?;
    stage.kill(VICTIM)?;
    stage.sink.gate().cut();
    stage.claiming(SURVIVOR, true)?;
    stage.revive(VICTIM)?;
    stage.outcome()
}

fn unsettled(stage: &mut Stage, step: Step) -> Result<Measured> {
    let id = stage.accepted(VICTIM, &["take"])?;
    stage.gate(VICTIM).arm(step);
    stage.claiming(VICTIM, true)?;
    stage.gate(VICTIM).caught(1, stage.limit())?;
    stage.arrives(&id, 1)?;
    stage.kill(VICTIM)?;
    stage.gate(VICTIM).cut();
    stage.claiming(SURVIVOR, true)?;
    stage.revive(VICTIM)?;
    stage.outcome()
}

fn many_unsettled(stage: &mut Stage) -> Result<Measured> {
    for _ in 0..200 {
        stage.accepted(VICTIM, &["take"])?;
    }
    stage.gate(VICTIM).arm(Step::Settle);
    stage.claiming(VICTIM, true)?;
    stage.gate(VICTIM).caught(1, stage.limit())?;
    // Until it does no more.
    let (mut arrived, mut since) = (0, now());
    eventually("the relay holds back", stage.limit(), || {
        let by_now = stage.sink.arrived();
        if by_now != arrived {
            (arrived, since) = (by_now, now());
        }
        holds(
            now() - since > 1_500,
            format_args!("{arrived} have arrived"),
        )
    })?;
    ensure!(arrived < 200, "it has delivered all of them, unsettled");
    stage.kill(VICTIM)?;
    stage.gate(VICTIM).cut();
    stage.claiming(SURVIVOR, true)?;
    stage.revive(VICTIM)?;
    stage.outcome()
}

fn paused_before_the_dot(stage: &mut Stage) -> Result<Measured> {
    paused(stage, Step::Rcpt, 1)
}

fn paused_at_the_dot(stage: &mut Stage) -> Result<Measured> {
    paused(stage, Step::Dot, 2)
}

fn paused_with_the_dot_in_the_buffer(stage: &mut Stage) -> Result<Measured> {
    paused(stage, Step::Buffered, 1)
}

/// Stops the victim at a step of its transaction, and has it go on when the message has arrived so
/// often, by the survivor at last.
fn paused(stage: &mut Stage, step: Step, arrivals: usize) -> Result<Measured> {
    let id = stage.accepted(VICTIM, &["take"])?;
    let before = stage.worker(VICTIM)?;
    stage.sink.gate().arm_for(step, 1);
    stage.claiming(VICTIM, true)?;
    stage.sink.gate().caught(1, stage.limit())?;
    stage.stop(VICTIM)?;
    stage.claiming(SURVIVOR, true)?;
    stage.arrives(&id, arrivals)?;
    stage.fleet.process(VICTIM)?.go_on()?;
    stage.sink.gate().open();
    eventually(
        "the stopped relay is a member under another id",
        stage.limit(),
        || {
            let now = stage.worker(VICTIM)?;
            holds(now != before, now)
        },
    )?;
    // Long enough for it to send what it must not.
    std::thread::sleep(Duration::from_millis(300));
    stage.outcome()
}
