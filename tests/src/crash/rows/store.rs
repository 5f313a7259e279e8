//! Redis away, cut off, full, or with something in it that cannot be read.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::clock::Clock;
use super::super::stage::{Measured, SURVIVOR, Stage, VICTIM};
use super::super::{Row, TakenOver};
use crate::eventually::{eventually, holds};
use crate::gate::Step;
use crate::soak::fleet::PREFIX;

pub(super) const ROWS: &[Row] = &[
    Row {
        event: "Redis restarts, AOF always",
        step: "SIGKILL of Redis with RCPT sent",
        required: "nothing lost, 451 meanwhile, nobody reaps anybody",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: restarted,
    },
    Row {
        event: "Redis outage of nearly the lease, uneven reconnects",
        step: "silence for 0.9 and 1.1 leases with RCPT sent",
        required: "nobody reaps a living worker",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: uneven_outage,
    },
    Row {
        event: "Redis restart, everysec, Fsync declared",
        step: "appendfsync everysec before the relay starts",
        required: "never accepted a message: 451",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: not_durable,
    },
    Row {
        event: "split brain",
        step: "min-replicas-to-write not met",
        required: "NOREPLICAS: 451",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: no_replicas,
    },
    Row {
        event: "partition pod - Redis",
        step: "silence with RCPT sent, ended after the take-over",
        required: "no 250, self-fence, still ready",
        duplicates: 0,
        taken_over: TakenOver::AfterTheLease,
        play: partitioned,
    },
    Row {
        event: "clock jump on Redis",
        step: "two leases forward with RCPT sent",
        required: "no mass reap",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: |stage| jumped(stage, Clock::put_forward),
    },
    Row {
        event: "clock jump on Redis",
        step: "two leases back with RCPT sent",
        required: "no mass reap, leases cut to their length",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: |stage| jumped(stage, Clock::put_back),
    },
    Row {
        event: "Redis full",
        step: "maxmemory below what is used",
        required: "452, everything else proceeds, drains",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: full,
    },
    Row {
        event: "record undecodable",
        step: "the record overwritten before the claim",
        required: "neither delivered nor dropped, others pass",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: undecodable,
    },
    Row {
        event: "newer schema",
        step: "schema 99 before the relay starts",
        required: "the relay claims nothing and accepts nothing",
        duplicates: 0,
        taken_over: TakenOver::Not,
        play: newer_schema,
    },
];

fn restarted(stage: &mut Stage) -> Result<Measured> {
    for _ in 0..5 {
        stage.accepted(VICTIM, &["take"])?;
    }
    let workers = [stage.worker(VICTIM)?, stage.worker(SURVIVOR)?];
    stage.sink.gate().arm(Step::Rcpt);
    stage.claiming(VICTIM, true)?;
    stage.claiming(SURVIVOR, true)?;
    stage.sink.gate().caught(1, stage.limit())?;
    stage.redis.kill()?;
    refuses(stage, VICTIM, "451 4.3.0")?;
    stage.redis.up()?;
    stage.fleet.are_members()?;
    stage.sink.gate().open();
    let after = [stage.worker(VICTIM)?, stage.worker(SURVIVOR)?];
    ensure!(
        workers == after,
        "somebody was reaped: {workers:?}, {after:?}"
    );
    stage.outcome()
}

fn uneven_outage(stage: &mut Stage) -> Result<Measured> {
    stage.settle_in();
    stage.accepted(VICTIM, &["take"])?;
    let workers = [stage.worker(VICTIM)?, stage.worker(SURVIVOR)?];
    stage.sink.gate().arm_for(Step::Rcpt, 1);
    stage.claiming(VICTIM, true)?;
    stage.claiming(SURVIVOR, true)?;
    stage.sink.gate().caught(1, stage.limit())?;
    stage.silence(VICTIM, true);
    stage.silence(SURVIVOR, true);
    std::thread::sleep(stage.lease * 9 / 10);
    stage.silence(SURVIVOR, false);
    std::thread::sleep(stage.lease * 2 / 10);
    stage.silence(VICTIM, false);
    stage.fleet.are_members()?;
    stage.sink.gate().open();
    let measured = stage.outcome()?;
    let after = [stage.worker(VICTIM)?, stage.worker(SURVIVOR)?];
    ensure!(
        workers == after,
        "somebody was reaped: {workers:?}, {after:?}"
    );
    Ok(measured)
}

fn not_durable(stage: &mut Stage) -> Result<Measured> {
    stage
        .redis
        .ask(&["CONFIG", "SET", "appendfsync", "everysec"])?;
    stage.fleet.process(VICTIM)?.kill()?;
    stage.fleet.start(VICTIM)?;
    for _ in 0..5 {
        let reply = stage.submit(VICTIM, &["take"])?;
        ensure!(reply.starts_with("451 4.3.0"), "a false {reply}");
    }
    stage
        .redis
        .ask(&["CONFIG", "SET", "appendfsync", "always"])?;
    accepts_again(stage, VICTIM)?;
    stage.outcome()
}

fn no_replicas(stage: &mut Stage) -> Result<Measured> {
    stage.accepted(VICTIM, &["take"])?;
    stage
        .redis
        .ask(&["CONFIG", "SET", "min-replicas-to-write", "1"])?;
    refuses(stage, VICTIM, "451 4.3.0")?;
    stage
        .redis
        .ask(&["CONFIG", "SET", "min-replicas-to-write", "0"])?;
    accepts_again(stage, VICTIM)?;
    stage.claiming(VICTIM, true)?;
    stage.outcome()
}

fn partitioned(stage: &mut Stage) -> Result<Measured> {
    let id = stage.accepted(VICTIM, &["take"])?;
    let before = stage.worker(VICTIM)?;
    stage.sink.gate().arm_for(Step::Rcpt, 1);
    stage.claiming(VICTIM, true)?;
    stage.sink.gate().caught(1, stage.limit())?;
    stage.lose(VICTIM);
    stage.silence(VICTIM, true);
    let sending = stage.submitting(VICTIM, &["take"]);
    stage.claiming(SURVIVOR, true)?;
    stage.arrives(&id, 1)?;
    stage.fleet.is_ready(VICTIM)?;
    let reply = stage.refusal(sending)?;
    ensure!(reply.starts_with("451 4.3.0"), "{reply}");
    stage.sink.gate().open();
    stage.silence(VICTIM, false);
    eventually(
        "the relay is a member under another id",
        stage.limit(),
        || {
            let now = stage.worker(VICTIM)?;
            holds(now != before, now)
        },
    )?;
    stage.outcome()
}

fn jumped(stage: &mut Stage, jump: fn(&Clock, Duration)) -> Result<Measured> {
    let clock = Clock::start()?;
    stage.redis.kill()?;
    stage.redis.set_environment(clock.environment());
    stage.redis.up()?;
    stage.fleet.are_members()?;
    accepts_again(stage, VICTIM)?;
    let workers = [stage.worker(VICTIM)?, stage.worker(SURVIVOR)?];
    // Whoever reaps must have held its lease for a whole period.
    std::thread::sleep(stage.lease * 7 / 6);
    stage.sink.gate().arm_for(Step::Rcpt, 1);
    stage.claiming(VICTIM, true)?;
    stage.claiming(SURVIVOR, true)?;
    stage.sink.gate().caught(1, stage.limit())?;
    jump(&clock, stage.lease * 2);
    // Everybody has had a chance to reap.
    std::thread::sleep(stage.lease * 3 / 2);
    stage.sink.gate().open();
    accepts_again(stage, VICTIM)?;
    let measured = stage.outcome()?;
    let after = [stage.worker(VICTIM)?, stage.worker(SURVIVOR)?];
    ensure!(
        workers == after,
        "somebody was reaped: {workers:?}, {after:?}"
    );
    Ok(measured)
}

fn full(stage: &mut Stage) -> Result<Measured> {
    for _ in 0..5 {
        stage.accepted(VICTIM, &["take", "defer"])?;
    }
    stage.redis.ask(&["CONFIG", "SET", "maxmemory", "1mb"])?;
    refuses(stage, VICTIM, "452 4.3.1")?;
    stage.claiming(VICTIM, true)?;
    stage.outcome()?;
    stage.redis.ask(&["CONFIG", "SET", "maxmemory", "0"])?;
    accepts_again(stage, VICTIM)?;
    stage.outcome()
}

fn undecodable(stage: &mut Stage) -> Result<Measured> {
    let id = stage.accepted(VICTIM, &["take"])?;
    let other = stage.accepted(VICTIM, &["take"])?;
    let key = format!("{PREFIX}m:{id}");
    stage.redis.ask(&["SET", &key, "no record"])?;
    // Who accepted it remembers it; the other must read it.
    stage.claiming(SURVIVOR, true)?;
    stage.arrives(&other, 1)?;
    let queued = || stage.fleet.queued(&stage.redis);
    eventually("the other is done with", stage.limit(), || {
        let queued = queued()?;
        holds(queued == [id.as_str()], format_args!("{queued:?}"))
    })?;
    let mut measured = stage.count()?;
    // Neither delivered nor dropped.
    ensure!(measured.lost == 1, "{measured:?}");
    measured.lost -= queued()?.len();
    Ok(measured)
}

fn newer_schema(stage: &mut Stage) -> Result<Measured> {
    stage.accepted(SURVIVOR, &["take"])?;
    let meta = format!("{PREFIX}meta");
    stage.redis.ask(&["HSET", &meta, "schema", "99"])?;
    stage.fleet.process(VICTIM)?.kill()?;
    stage.fleet.start(VICTIM)?;
    let reply = stage.submit(VICTIM, &["take"])?;
    ensure!(reply.starts_with("451 4.3.0"), "a false {reply}");
    ensure!(stage.worker(VICTIM).is_err(), "it is a member");
    ensure!(stage.sink.arrived() == 0, "something was delivered");
    stage.redis.ask(&["HSET", &meta, "schema", "1"])?;
    accepts_again(stage, VICTIM)?;
    stage.outcome()
}

/// Waits until it is known, and then it is so every time.
fn refuses(stage: &mut Stage, slot: usize, refusal: &str) -> Result<()> {
    eventually("messages are refused", stage.limit(), || {
        let reply = stage.submit(slot, &["take"])?;
        holds(reply.starts_with(refusal), reply)
    })?;
    for _ in 0..3 {
        let reply = stage.submit(slot, &["take"])?;
        ensure!(reply.starts_with(refusal), "a false {reply}");
    }
    Ok(())
}

fn accepts_again(stage: &mut Stage, slot: usize) -> Result<()> {
    eventually("messages are accepted", stage.limit(), || {
        let reply = stage.submit(slot, &["take"])?;
        holds(reply.starts_with("250"), reply)
    })
}
