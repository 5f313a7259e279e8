//! Each message's journey on a line, and whether it is the one that was due.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use relay::delivery::{Outcome, OutcomeKind};

use super::journey::{Journeys, notification};
use super::plan::{Due, Plan, Planned, recipient};
use super::receiver::{Notice, Receiver};

/// Writes all journeys and the sum; whether everything went as it was due.
pub(super) fn write(
    out: &mut impl Write,
    plan: &Plan,
    journeys: &Journeys,
    receiver: &Receiver,
    elapsed: Duration,
) -> io::Result<bool> {
    let notices = receiver.notices();
    let mut faults = Vec::new();
    let mut counts = [0_u32; 4];
    writeln!(out)?;
    for planned in plan.iter() {
        let steps = journeys.steps(planned.number);
        let id = journeys
            .queue_id(planned.number)
            .unwrap_or_else(|| "-".to_owned());
        writeln!(out, "{:5}  {id}  {}", planned.number, line(&steps))?;
        let copies = receiver.copies(planned.number);
        let own: Vec<_> = notices
            .iter()
            .filter(|notice| notice.number == planned.number)
            .collect();
        match judge(planned, &steps, &copies, &own) {
            Ok(()) => count(&mut counts, planned.due),
            Err(fault) => faults.push(format!("message {}: {fault}", planned.number)),
        }
    }
    let missed = journeys.missed();
    if missed > 0 {
        faults.push(format!("{missed} outcomes were missed by this program"));
    }
    let [delivered, deferred, bounced, expired] = counts;
    writeln!(out)?;
    writeln!(
        out,
        "{:6} messages in {:.1} s",
        plan.len(),
        elapsed.as_secs_f64()
    )?;
    writeln!(
        out,
        "{delivered:6} delivered at the first attempt, bodies identical"
    )?;
    writeln!(
        out,
        "{deferred:6} deferred, then delivered, bodies identical"
    )?;
    writeln!(out, "{bounced:6} bounced, notice received by the sender")?;
    writeln!(out, "{expired:6} expired, notice received by the sender")?;
    writeln!(out, "{:6} not as due", faults.len())?;
    for fault in &faults {
        writeln!(out, "       {fault}")?;
    }
    Ok(faults.is_empty())
}

fn count(counts: &mut [u32; 4], due: Due) {
    let [delivered, deferred, bounced, expired] = counts;
    *match due {
        Due::Delivered => delivered,
        Due::DeferredThenDelivered => deferred,
        Due::Bounced => bounced,
        Due::Expired => expired,
    } += 1;
}

/// Compares what the queue says with what the receiver has.
fn judge(
    planned: &Planned,
    steps: &[Arc<Outcome>],
    copies: &[String],
    notices: &[&Notice],
) -> Result<(), String> {
    let has = |wanted: fn(&OutcomeKind) -> bool| steps.iter().any(|step| wanted(&step.kind));
    let deferred = has(|kind| matches!(kind, OutcomeKind::Deferred { .. }));
    let delivered = has(|kind| matches!(kind, OutcomeKind::Delivered { .. }));
    match planned.due {
        Due::Delivered | Due::DeferredThenDelivered => {
            if deferred != (planned.due == Due::DeferredThenDelivered) {
                return Err("deferred when it was not due, or not when it was".to_owned());
            }
            match copies {
                [] if delivered => {
                    Err("delivered, says the queue, but it never arrived".to_owned())
                }
                [] => Err("it never arrived, and the queue does not say that it was".to_owned()),
                [digest] if *digest != planned.digest => Err("its body was altered".to_owned()),
                [_] if !delivered => Err("it arrived, but the queue does not say so".to_owned()),
                [_] => Ok(()),
                more => Err(format!("it arrived {} times", more.len())),
            }
        }
        Due::Bounced => {
            let failed = has(|kind| matches!(kind, OutcomeKind::Failed { .. }));
            ended_with_notice(planned, failed, copies, steps, notices, "5.1.1")
        }
        Due::Expired => {
            let expired = has(|kind| matches!(kind, OutcomeKind::Expired { .. }));
            ended_with_notice(planned, expired, copies, steps, notices, "4.4.7")
        }
    }
}

fn ended_with_notice(
    planned: &Planned,
    ended: bool,
    copies: &[String],
    steps: &[Arc<Outcome>],
    notices: &[&Notice],
    status: &str,
) -> Result<(), String> {
    if !ended {
        return Err("it did not fail as it was due".to_owned());
    }
    if !copies.is_empty() {
        return Err("it failed, and arrived all the same".to_owned());
    }
    if notification(steps).is_none() {
        return Err("the queue made no notice of its failure".to_owned());
    }
    match notices {
        [] => Err("its sender got no notice".to_owned()),
        [notice]
            if notice.recipient == recipient(planned.number)
                && notice.action == "failed"
                && notice.status == status =>
        {
            Ok(())
        }
        [notice] => Err(format!("its sender got a wrong notice: {notice:?}")),
        more => Err(format!("its sender got {} notices", more.len())),
    }
}

/// A run of deferrals is one step, shown by its last.
fn line(steps: &[Arc<Outcome>]) -> String {
    let deferral = |step: &Outcome| matches!(step.kind, OutcomeKind::Deferred { .. });
    let runs = steps.chunk_by(|one, next| deferral(one) && deferral(next));
    let texts = runs.filter_map(|run| {
        let last = text(&run.last()?.kind);
        Some(if run.len() > 1 {
            format!("{} times {last}", run.len())
        } else {
            last
        })
    });
    texts.collect::<Vec<_>>().join(" -> ")
}

fn text(kind: &OutcomeKind) -> String {
    match kind {
        OutcomeKind::Accepted => "accepted".to_owned(),
        OutcomeKind::Deferred { reply, due_in } => {
            format!("deferred for {:.1} s ({reply})", due_in.as_secs_f64())
        }
        OutcomeKind::Delivered { host, reply } => format!("delivered to {host} ({reply})"),
        OutcomeKind::Failed { reply } => format!("failed ({reply})"),
        OutcomeKind::Expired { reply } => format!("expired (last reply: {reply})"),
        OutcomeKind::Notified { notification } => format!("sender notified by {notification}"),
    }
}
