//! What a run is summed up as.

use std::fmt;
use std::time::Duration;

use super::Settings;
use super::faults::Kind;
use super::verdict::{Evidence, Verdict, bound};

/// The figures of a run, shown as Markdown, and what was wrong.
pub struct Report {
    seed: u64,
    lease: Duration,
    pub(super) took: Duration,
    figures: Vec<(&'static str, String)>,
    events: Vec<Row>,
    /// Empty where everything is as it must be.
    pub failures: Vec<String>,
}

struct Row {
    name: &'static str,
    count: usize,
    duplicates: usize,
    /// Of one event: the most duplicates, and how many it might have had.
    most: (usize, usize),
}

impl Report {
    pub(super) fn of(settings: &Settings, evidence: &Evidence, verdict: Verdict) -> Self {
        let figures = figures(evidence, &verdict);
        let events = Kind::ALL
            .into_iter()
            .map(|kind| row(kind, evidence, &verdict))
            .collect();
        Self {
            seed: settings.seed,
            lease: settings.lease(),
            took: Duration::ZERO,
            figures,
            events,
            failures: failures(settings, evidence, verdict),
        }
    }
}

fn figures(evidence: &Evidence, verdict: &Verdict) -> Vec<(&'static str, String)> {
    let unanswered = evidence.submissions.iter().filter(|s| s.is_unanswered());
    let unanswered = unanswered.count();
    let refused = evidence.submissions.len() - verdict.accepted - unanswered;
    let first = verdict.take_overs.iter().map(|taken| taken.first);
    let within = within(evidence.lease);
    let late = verdict.take_overs.iter();
    let late = late.filter(|taken| taken.first.is_none_or(|first| first > within));
    let all = verdict.take_overs.iter().map(|taken| taken.all);
    let claims = evidence
        .events
        .iter()
        .filter(|event| event.kind == Kind::Kill);
    let claims: Vec<_> = claims.map(|event| event.claims.len() as u64).collect();
    vec![
        ("messages answered 250", verdict.accepted.to_string()),
        ("attempts answered 4yz", refused.to_string()),
        ("attempts without an answer", unanswered.to_string()),
        ("recipients it arrived for", verdict.delivered.to_string()),
        (
            "recipients it was returned for",
            verdict.returned.to_string(),
        ),
        ("still queued", evidence.queued.len().to_string()),
        ("**lost**", verdict.lost.len().to_string()),
        ("**false 250**", verdict.false_250.len().to_string()),
        (
            "**altered or misdirected**",
            verdict.wrong.len().to_string(),
        ),
        (
            "**failed recipients without exactly one notification**",
            verdict.notifications.len().to_string(),
        ),
        (
            "duplicates, each matched to one kill or stop",
            verdict.duplicates.values().sum::<usize>().to_string(),
        ),
        (
            "of those sent by a stopped process when it went on",
            verdict.residual.to_string(),
        ),
        (
            "**duplicates unexplained or beyond their bound**",
            verdict.unexplained.len().to_string(),
        ),
        (
            "messages sent again by clients that got no answer (RFC 1047), both copies arrived",
            verdict.resubmitted.to_string(),
        ),
        (
            "claims of a killed relay, least and most",
            least_and_most(&claims),
        ),
        (
            "take-over: SIGKILL to the first delivery of a claimed message, median and most",
            median_and_most(first),
        ),
        (
            "take-overs later than 35/30 of the lease",
            late.count().to_string(),
        ),
        (
            "SIGKILL until all of them had been begun with again, median and most",
            median_and_most(all),
        ),
    ]
}

fn row(kind: Kind, evidence: &Evidence, verdict: &Verdict) -> Row {
    let of_kind = evidence.events.iter().enumerate();
    let of_kind = of_kind.filter(|(_, event)| event.kind == kind);
    let duplicates = |position: &usize| verdict.duplicates.get(position).copied().unwrap_or(0);
    let counted: Vec<_> = of_kind
        .map(|(position, event)| (duplicates(&position), bound(event)))
        .collect();
    Row {
        name: kind.name(),
        count: counted.len(),
        duplicates: counted.iter().map(|(count, _)| count).sum(),
        most: counted.iter().max().copied().unwrap_or_default(),
    }
}

fn failures(settings: &Settings, evidence: &Evidence, verdict: Verdict) -> Vec<String> {
    let mut failures = Vec::new();
    for (what, all) in [
        ("lost", verdict.lost),
        ("a false 250", verdict.false_250),
        ("wrong", verdict.wrong),
        ("notifications", verdict.notifications),
        ("duplicates", verdict.unexplained),
    ] {
        let shown = all.iter().take(SHOWN);
        failures.extend(shown.map(|one| format!("{what}: {one}")));
        if all.len() > SHOWN {
            failures.push(format!("{what}: {} more", all.len() - SHOWN));
        }
    }
    if verdict.accepted < settings.messages as usize {
        failures.push(format!("only {} were accepted", verdict.accepted));
    }
    let within = within(evidence.lease);
    let mut first: Vec<_> = verdict.take_overs.iter().map(|t| t.first).collect();
    first.sort_unstable();
    if first.contains(&None) {
        failures.push("a kill after which nothing was taken over".to_owned());
    }
    let first: Vec<u64> = first.into_iter().flatten().collect();
    if let Some(median) = first.get(first.len() / 2)
        && *median > within
    {
        failures.push(format!("half of the take-overs took {median} ms or more"));
    }
    // A machine so busy that beats are late closes the gate of who is to reap for a lease more.
    let closed = milliseconds(evidence.lease);
    if let Some(last) = first.last()
        && *last > within + closed + LATE
    {
        failures.push(format!("a take-over took {last} ms"));
    }
    failures
}

/// A survivor that has held its lease without a gap takes over in this.
fn within(lease: Duration) -> u64 {
    milliseconds(lease) * 35 / 30
}

fn milliseconds(of: Duration) -> u64 {
    u64::try_from(of.as_millis()).unwrap_or(u64::MAX)
}

fn median_and_most(all: impl Iterator<Item = Option<u64>>) -> String {
    let mut all: Vec<_> = all.flatten().collect();
    all.sort_unstable();
    match (all.get(all.len() / 2), all.last()) {
        (Some(median), Some(most)) => format!("{median} ms, {most} ms"),
        _ => "-".to_owned(),
    }
}

fn least_and_most(all: &[u64]) -> String {
    match (all.iter().min(), all.iter().max()) {
        (Some(least), Some(most)) => format!("{least}, {most}"),
        _ => "-".to_owned(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Seed {}, lease {} s, three relays, {} s.\n",
            self.seed,
            self.lease.as_secs_f32(),
            self.took.as_secs()
        )?;
        writeln!(f, "| | |\n|---|---|")?;
        for (name, figure) in &self.figures {
            writeln!(f, "| {name} | {figure} |")?;
        }
        writeln!(
            f,
            "\n| event | times | duplicates | most of one (it may have) |\n|---|---|---|---|"
        )?;
        for row in &self.events {
            let (most, bound) = row.most;
            writeln!(
                f,
                "| {} | {} | {} | {most} ({bound}) |",
                row.name, row.count, row.duplicates
            )?;
        }
        writeln!(
            f,
            "\n{}",
            match self.failures.is_empty() {
                true => "Verdict: nothing lost, nothing doubled without a reason.".to_owned(),
                false => format!("Verdict: FAILED\n- {}", self.failures.join("\n- ")),
            }
        )
    }
}

/// Of each kind of failure so many are named.
const SHOWN: usize = 10;
/// Milliseconds by which a busy machine may be late to deliver.
const LATE: u64 = 5_000;
