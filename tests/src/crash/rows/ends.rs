//! Messages of several parts, notifications, and relays that go in order.

use anyhow::{Result, ensure};

use super::super::stage::{Measured, SURVIVOR, Stage, VICTIM};
use super::super::{Row, TakenOver};
use crate::eventually::{eventually, holds};
use crate::gate::Step;
use crate::process::Signal;

pub(super) const ROWS: &[Row] = &[
    Row {
        event: "two tasks, then kill",
        step: "SIGKILL with one of two domains settled, RCPT sent to the other",
        required: "the record lives until its last task is settled",
        duplicates: 0,
        taken_over: TakenOver::AfterTheLease,
        play: two_tasks,
    },
    Row {
        event: "split, then kill",
        step: "SIGKILL with one recipient delivered, one deferred, both settled",
        required: "the deferred one alone is tried again",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: |stage| split(stage, Step::Settled),
    },
    Row {
        event: "split, then kill",
        step: "SIGKILL with one recipient delivered, one deferred, neither settled",
        required: "both are tried again",
        duplicates: 1,
        taken_over: TakenOver::AfterTheLease,
        play: |stage| split(stage, Step::Settle),
    },
    Row {
        event: "DSN creation",
        step: "SIGKILL with failure and notification on their way to Redis",
        required: "exactly one",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: |stage| notified(stage, Step::Settle),
    },
    Row {
        event: "DSN creation",
        step: "SIGKILL with failure and notification settled",
        required: "exactly one",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: |stage| notified(stage, Step::Settled),
    },
    Row {
        event: "DSN creation with Redis full",
        step: "maxmemory below what is used, before the attempt",
        required: "exactly one",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: notified_when_full,
    },
    Row {
        event: "SIGTERM",
        step: "SIGTERM with final dots unanswered and claims not begun",
        required: "dots finished within the grace, claims given back",
        duplicates: 0,
        taken_over: TakenOver::AtOnce,
        play: terminated,
    },
];

fn two_tasks(stage: &mut Stage) -> Result<Measured> {
    let id = stage.accepted(VICTIM, &["take", "@take"])?;
    let worker = stage.worker(VICTIM)?;
    stage.sink.gate().arm_for(Step::Rcpt, 1);
    stage.claiming(VICTIM, true)?;
    stage.sink.gate().caught(1, stage.limit())?;
    stage.arrives(&id, 1)?;
    eventually("one of two is settled", stage.limit(), || {
        let claims = stage.fleet.claimed(&stage.redis, &worker)?;
        holds(claims.len() == 1, format_args!("{claims:?}"))
    })?;
    stage.kill(VICTIM)?;
    stage.sink.gate().cut();
    stage.claiming(SURVIVOR, true)?;
    stage.revive(VICTIM)?;
    stage.outcome()
}

fn split(stage: &mut Stage, step: Step) -> Result<Measured> {
    let id = stage.accepted(VICTIM, &["take", "defer"])?;
    killed_at(stage, step)?;
    stage.arrives(&id, 1)?;
    stage.claiming(SURVIVOR, true)?;
    stage.revive(VICTIM)?;
    stage.outcome()
}

fn notified(stage: &mut Stage, step: Step) -> Result<Measured> {
    stage.accepted(VICTIM, &["refuse"])?;
    killed_at(stage, step)?;
    stage.claiming(SURVIVOR, true)?;
    stage.revive(VICTIM)?;
    stage.outcome()
}

fn killed_at(stage: &mut Stage, step: Step) -> Result<()> {
    stage.gate(VICTIM).arm(step);
    stage.claiming(VICTIM, true)?;
    stage.gate(VICTIM).caught(1, stage.limit())?;
    stage.kill(VICTIM)?;
    stage.gate(VICTIM).cut();
    Ok(())
}

fn notified_when_full(stage: &mut Stage) -> Result<Measured> {
    stage.accepted(VICTIM, &["refuse"])?;
    stage.redis.ask(&["CONFIG", "SET", "maxmemory", "1mb"])?;
    stage.claiming(VICTIM, true)?;
    stage.outcome()
}

fn terminated(stage: &mut Stage) -> Result<Measured> {
    // More than there may be connections, so that some wait behind others.
    for _ in 0..60 {
        stage.accepted(VICTIM, &["take"])?;
    }
    let worker = stage.worker(VICTIM)?;
    // Not all of the connections: the survivor is to have some.
    stage.sink.gate().arm_for(Step::Dot, DOTS);
    stage.claiming(VICTIM, true)?;
    stage.sink.gate().caught(DOTS, stage.limit())?;
    stage.lose(VICTIM);
    let claims = stage.fleet.claimed(&stage.redis, &worker)?.len();
    ensure!(claims > DOTS, "{claims} claims: none waits");
    stage.fleet.process(VICTIM)?.signal(Signal::TERM)?;
    stage.claiming(SURVIVOR, true)?;
    eventually("it drains", stage.limit(), || {
        let draining = stage.fleet.log(VICTIM)?.contains(r#""message":"draining""#);
        holds(draining && stage.fleet.is_ready(VICTIM).is_err(), "not yet")
    })?;
    stage.sink.gate().open();
    let limit = stage.limit();
    let status = stage.fleet.process(VICTIM)?.wait(limit)?;
    ensure!(status.success(), "it ended with {status}");
    stage.revive(VICTIM)?;
    stage.outcome()
}

/// Of so many messages the last reply is not there when the relay is told to go.
const DOTS: usize = 20;
