use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use message::dsn::Action;
use queue::operation::Rest;
use queue::record::Record;
use queue::worker::{self, Claim};
use smtp::{EnhancedStatus, Reply};
use telemetry::{Attribute, SpanName, TraceContext, span};

use super::connect::Failure;
use super::disposition::{Disposition, Verdict};
use super::journal::{JournalLine, JournalRecipient};
use super::notes::{Answer, Notes};
use super::notification::{About, notification};
use super::outcome::OutcomeLabel;
use super::{Inner, Outcome, OutcomeKind, Settings, retry};
use crate::metrics::LabelValue as _;

/// What became of one recipient in an attempt.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) recipient: u16,
    pub(super) verdict: Verdict,
    pub(super) said: Arc<Said>,
}

impl Told {
    pub(super) fn new(recipient: u16, verdict: Verdict, said: &Arc<Said>) -> Self {
        Self {
            recipient,
            verdict,
            said: Arc::clone(said),
        }
    }
}

/// Why, in whose words.
#[derive(Debug)]
pub(super) enum Said {
    Reply {
        reply: Reply,
        host: Arc<str>,
    },
    Failure(Arc<Failure>),
    /// What an earlier attempt noted.
    Noted(Answer),
    Words(String),
}

impl Said {
    pub(super) fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Reply { reply, .. } => Some(reply),
            Self::Failure(failure) => failure.reply(),
            Self::Noted(_) | Self::Words(_) => None,
        }
    }

    pub(super) fn host(&self) -> Option<&str> {
        match self {
            Self::Reply { host, .. } => Some(host),
            Self::Failure(failure) => failure.host(),
            Self::Noted(answer) => answer.host.as_deref(),
            Self::Words(_) => None,
        }
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Failure(failure) => failure.address().map(|address| address.ip()),
            _ => None,
        }
    }

    fn is_reply(&self) -> bool {
        match self {
            Self::Noted(answer) => answer.is_reply,
            other => other.reply().is_some(),
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply { reply, .. } => reply.fmt(f),
            Self::Failure(failure) => failure.fmt(f),
            Self::Noted(answer) => f.write_str(&answer.text),
            Self::Words(words) => f.write_str(words),
        }
    }
}

/// Whether the route has changed since the attempt was made: what its old target said counts for
/// nothing there.
fn leads_elsewhere(inner: &Inner, settings: &Settings, claim: &Claim, record: &Record) -> bool {
    let routes = inner.settings().routes.clone();
    if Arc::ptr_eq(&routes, &settings.routes) {
        return false;
    }
    let handle = claim.handle();
    let task = record.header.tasks.get(usize::from(handle.task.ordinal));
    let domain = task
        .and_then(|task| task.recipients.first()?.address.rsplit_once('@'))
        .map_or("", |(_, domain)| domain);
    let route = &handle.queue.route;
    routes.resolve(route, domain) != settings.routes.resolve(route, domain)
}

/// Settles a task with what its recipients were told, and says so to whoever watches. `give_back`
/// are the recipients that nothing can be said about to go back, and be due, at once.
pub(super) async fn report(
    inner: &Inner,
    settings: &Settings,
    claim: Claim,
    record: &Record,
    mut told: Vec<Told>,
    give_back: bool,
    parent: Option<TraceContext>,
) {
    let expires_in = claim.expires_in();
    // A deferral of what has expired meanwhile is its failure (RFC 3463 §3.5).
    let expired: Vec<u16> = told
        .iter_mut()
        .filter(|told| is_at_its_end(told, expires_in))
        .map(|told| {
            told.verdict.disposition = Disposition::Failed;
            told.verdict.status = EnhancedStatus::transient(4, 7);
            told.recipient
        })
        .collect();
    let of = |disposition: Disposition| -> Vec<u16> {
        let told = told
            .iter()
            .filter(|told| told.verdict.disposition == disposition);
        told.map(|told| told.recipient).collect()
    };
    let (delivered, failed) = (of(Disposition::Delivered), of(Disposition::Failed));
    let mut pause = Duration::ZERO;
    let mut late = None;
    let rest = if give_back {
        Rest::GivenBack
    } else if told
        .iter()
        .any(|told| told.verdict.disposition == Disposition::Deferred)
    {
        pause = if leads_elsewhere(inner, settings, &claim, record) {
            Duration::ZERO
        } else {
            let attempts = claim.state().attempts;
            retry::pause(settings.retry, attempts, expires_in, spread())
        };
        let mut notes = notes(&claim, &told);
        // One notification goes with a settlement: that of a failure comes first.
        if failed.is_empty() && is_late(settings, record, &notes) {
            notes.delay_told = true;
            late = Some(Action::Delayed {
                until: Timestamp::now() + expires_in,
            });
        }
        Rest::Deferred {
            due_in: pause,
            notes: notes.write(),
        }
    } else {
        Rest::None
    };
    let context = finish_span(settings, record, &claim, parent, &delivered, &failed);
    let action = late.or_else(|| (!failed.is_empty()).then_some(Action::Failed));
    let notification = match action {
        Some(action) => {
            let record = with_first_chunk(&claim, record).await;
            notification(settings, About::of(&claim), &record, &told, action, context)
        }
        None => None,
    };
    let reporter = Reporter {
        inner,
        claim: &claim,
        record,
        pause,
        expired: &expired,
        trace: context.or(parent),
    };
    told.iter().for_each(|told| reporter.tell(told));
    let journal = if settings.journal && !told.is_empty() {
        reporter.journal(&told)
    } else {
        Bytes::new()
    };
    if let Some(notification) = &notification {
        inner.metrics.notifications.inc();
        let notified = || OutcomeKind::Notified {
            notification: notification.id,
        };
        for told in told
            .iter()
            .filter(|told| told.verdict.disposition == Disposition::Failed)
        {
            reporter.announce(told, notified());
        }
    }
    let recipients = recipients(&claim, record);
    claim.settle(worker::Outcome {
        delivered,
        failed,
        recipients,
        rest,
        notification,
        journal,
    });
}

/// Of a large message a notification returns what is in its first chunk.
async fn with_first_chunk<'a>(claim: &Claim, record: &'a Record) -> Cow<'a, Record> {
    if record.header.body.chunks == 0 {
        return Cow::Borrowed(record);
    }
    let mut record = record.clone();
    match claim.chunk(&record, 0).await {
        Ok(chunk) => record.content = vec![chunk],
        Err(error) => {
            let queue_id = claim.handle().task.message;
            tracing::warn!(%queue_id, %error, "a notification returns nothing of its message");
        }
    }
    Cow::Owned(record)
}

/// Whether the sender is to be told that the message is late, and has not been.
fn is_late(settings: &Settings, record: &Record, notes: &Notes) -> bool {
    let age = notes.last_ms.saturating_sub(record.header.received_unix_ms);
    let is_late = |after| Duration::from_millis(age) >= after;
    !notes.delay_told && settings.delay_notice.is_some_and(is_late)
}

/// How many recipients the task has.
pub(super) fn recipients(claim: &Claim, record: &Record) -> u16 {
    let ordinal = usize::from(claim.handle().task.ordinal);
    let task = record.header.tasks.get(ordinal);
    let recipients = task.map_or(0, |task| task.recipients.len());
    u16::try_from(recipients).unwrap_or(u16::MAX)
}

fn is_at_its_end(told: &Told, expires_in: Duration) -> bool {
    told.verdict.disposition == Disposition::Deferred && expires_in.is_zero()
        // Already decided so, by the table.
        || told.verdict.disposition == Disposition::Failed
            && told.verdict.status == EnhancedStatus::transient(4, 7)
}

/// The last word on whoever is still open, with that of earlier attempts where there is none.
fn notes(claim: &Claim, told: &[Told]) -> Notes {
    let mut notes = Notes::read(&claim.state().notes);
    let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
    if notes.first_ms == 0 {
        notes.first_ms = now;
    }
    notes.last_ms = now;
    for answer in &mut notes.answers {
        answer
            .recipients
            .retain(|index| told.iter().all(|told| told.recipient != *index));
    }
    notes.answers.retain(|answer| !answer.recipients.is_empty());
    for told in told
        .iter()
        .filter(|told| told.verdict.disposition == Disposition::Deferred)
    {
        let said = &told.said;
        let (text, host) = (said.to_string(), said.host());
        notes.add(
            told.recipient,
            told.verdict.status,
            &text,
            said.is_reply(),
            host,
        );
    }
    notes
}

/// The span of the recipients' end: child of the attempt that brought it.
fn finish_span(
    settings: &Settings,
    record: &Record,
    claim: &Claim,
    parent: Option<TraceContext>,
    delivered: &[u16],
    failed: &[u16],
) -> Option<TraceContext> {
    if delivered.is_empty() && failed.is_empty() {
        return None;
    }
    let tells = !failed.is_empty() && !record.header.reverse_path.is_empty();
    let name = if tells {
        SpanName::MessageBounce
    } else {
        SpanName::MessageOutcome
    };
    let mut span = span::start(name, parent.as_ref());
    if span.is_recording() {
        let (disposition, count) = match failed {
            [] => (Disposition::Delivered, delivered.len()),
            _ => (Disposition::Failed, failed.len()),
        };
        span.set(Attribute::MessagingSystem, "kurier");
        span.set(Attribute::MessagingOperation, "settle");
        span.set(
            Attribute::QueueId,
            format_args!("{}", claim.handle().task.message),
        );
        span.set(Attribute::Disposition, disposition.as_str());
        span.set(Attribute::RecipientCount, count);
        span.set(Attribute::RelayPod, &settings.pod);
    }
    Some(span.context())
}

/// Tells the log, the counters and whoever listens.
struct Reporter<'a> {
    inner: &'a Inner,
    claim: &'a Claim,
    record: &'a Record,
    pause: Duration,
    expired: &'a [u16],
    trace: Option<TraceContext>,
}

impl Reporter<'_> {
    fn label(&self, told: &Told) -> OutcomeLabel {
        let has_expired = self.expired.contains(&told.recipient);
        match told.verdict.disposition {
            Disposition::Delivered => OutcomeLabel::Delivered,
            Disposition::Deferred => OutcomeLabel::Deferred,
            Disposition::Failed if has_expired => OutcomeLabel::Expired,
            Disposition::Failed => OutcomeLabel::Failed,
        }
    }

    fn journal(&self, told: &[Told]) -> Bytes {
        let task = self.claim.handle().task;
        JournalLine {
            at: Timestamp::now(),
            message: task.message,
            task,
            tenant: &self.record.header.tenant,
            sender: &self.record.header.reverse_path,
            attempt: self.attempt(),
            trace_id: self.trace.map(|trace| trace.trace_id().to_string()),
            recipients: told
                .iter()
                .map(|told| JournalRecipient {
                    address: self.address(told),
                    outcome: self.label(told).text(),
                    status: told.verdict.status.to_string(),
                    reply: told.said.to_string(),
                    host: told.said.host(),
                })
                .collect(),
        }
        .write()
    }

    fn attempt(&self) -> u32 {
        self.claim.state().attempts.saturating_add(1)
    }

    fn tell(&self, told: &Told) {
        let label = self.label(told);
        self.inner.metrics.count(label);
        self.log(told, label);
        let reply = || told.said.to_string();
        let kind = || match label {
            OutcomeLabel::Deferred => OutcomeKind::Deferred {
                reply: reply(),
                due_in: self.pause,
            },
            OutcomeLabel::Delivered => OutcomeKind::Delivered {
                host: told.said.host().unwrap_or_default().to_owned(),
                reply: reply(),
            },
            OutcomeLabel::Expired => OutcomeKind::Expired { reply: reply() },
            OutcomeLabel::Failed => OutcomeKind::Failed { reply: reply() },
        };
        self.inner.outcomes.announce(|| self.outcome(told, kind()));
    }

    fn announce(&self, told: &Told, kind: OutcomeKind) {
        self.inner.outcomes.announce(|| self.outcome(told, kind));
    }

    fn outcome(&self, told: &Told, kind: OutcomeKind) -> Outcome {
        let task = self.claim.handle().task;
        Outcome {
            message: task.message,
            task,
            recipient: self.address(told).to_owned(),
            attempt: self.attempt(),
            kind,
            at: Timestamp::now(),
            trace: self.trace,
        }
    }

    fn address(&self, told: &Told) -> &str {
        let task = self
            .record
            .header
            .tasks
            .get(usize::from(self.claim.handle().task.ordinal));
        task.and_then(|task| task.recipients.get(usize::from(told.recipient)))
            .map_or("", |recipient| recipient.address.as_str())
    }

    /// One line for a recipient and attempt, as people of mail look for it.
    fn log(&self, told: &Told, label: OutcomeLabel) {
        macro_rules! log {
            ($what:literal) => {
                tracing::info!(
                    queue_id = %self.claim.handle().task.message,
                    trace_id = self.trace.map(|trace| tracing::field::display(trace.trace_id())),
                    span_id = self.trace.map(|trace| tracing::field::display(trace.span_id())),
                    recipient = self.address(told),
                    host = told.said.host(),
                    status = %told.verdict.status,
                    reply = %told.said,
                    delay_ms = self.delay_ms(),
                    attempt = self.attempt(),
                    $what
                )
            };
        }
        match label {
            OutcomeLabel::Deferred => log!("deferred"),
            OutcomeLabel::Delivered => log!("delivered"),
            OutcomeLabel::Expired => log!("expired"),
            OutcomeLabel::Failed => log!("failed"),
        }
    }

    /// Since the message came in.
    fn delay_ms(&self) -> u64 {
        let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
        now.saturating_sub(self.record.header.received_unix_ms)
    }
}

/// Uniform in 0..=1.
fn spread() -> f64 {
    let mut octets = [0; 4];
    match getrandom::fill(&mut octets) {
        Ok(()) => f64::from(u32::from_ne_bytes(octets)) / f64::from(u32::MAX),
        // It only sets retries apart.
        Err(_) => 0.5,
    }
}
