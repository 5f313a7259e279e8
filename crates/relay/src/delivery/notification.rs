use aws_lc_rs::digest;
use jiff::Timestamp;
use message::dsn::{Action, Notification, Reason, RecipientReport};
use queue::id::{MessageId, QueueId, TaskId};
use queue::record::{Form, Header, NewMessage, Recipient, Record, Task, TaskState};
use queue::worker::Claim;
use smtp::{Content, Mailbox, Reply};
use telemetry::TraceContext;

use super::Settings;
use super::disposition::Disposition;
use super::notes::Notes;
use super::report::{Said, Told};
use crate::body::describe;

/// A task and what is known of it.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) task: TaskId,
    pub(super) state: &'a TaskState,
}

impl<'a> About<'a> {
    pub(super) fn of(claim: &'a Claim) -> Self {
        Self {
            task: claim.handle().task,
            state: claim.state(),
        }
    }
}

/// The message that tells the sender whom of `told` its message failed for, or is late for, as `action` has
/// it; `None` when there is nobody to be told (RFC 5321 §6.1) or nothing to tell.
pub(super) fn notification(
    settings: &Settings,
    about: About<'_>,
    record: &Record,
    told: &[Told],
    action: Action,
    trace: Option<TraceContext>,
) -> Option<NewMessage> {
    let header = &record.header;
    let sender = Mailbox::parse(&header.reverse_path).ok()?;
    let task = header.tasks.get(usize::from(about.task.ordinal))?;
    let disposition = match action {
        Action::Failed => Disposition::Failed,
        Action::Delayed { .. } => Disposition::Deferred,
    };
    let concerned = told
        .iter()
        .filter(|told| told.verdict.disposition == disposition);
    let concerned: Vec<Concerned<'_>> = concerned
        .filter_map(|told| {
            let recipient = task.recipients.get(usize::from(told.recipient))?;
            Some(Concerned {
                mailbox: Mailbox::parse(&recipient.address).ok()?,
                words: Words::of(&told.said),
                told,
            })
        })
        .collect();
    if concerned.is_empty() {
        return None;
    }
    let now = Timestamp::now();
    let last_attempt = last_attempt(about, now, &concerned);
    let reports: Vec<RecipientReport<'_>> = concerned
        .iter()
        .map(|concerned| RecipientReport {
            recipient: &concerned.mailbox,
            status: concerned.told.verdict.status,
            reason: concerned.words.reason(&concerned.told.said),
            last_attempt,
        })
        .collect();
    let id = derived_id(about, action, &concerned);
    let original = original(record);
    let content = Notification {
        action,
        to: &sender,
        reporting_mta: &settings.hostname,
        id: &id.to_string(),
        original_id: &about.task.message.to_string(),
        arrival: timestamp(header.received_unix_ms),
        now,
        recipients: &reports,
        original: &original,
        original_size: header.body.size,
    }
    .to_content();
    let tenant = header.tenant.clone();
    let queue = QueueId {
        tenant: tenant.clone(),
        class: String::new(),
        egress: String::new(),
        route: settings.routes.route(&sender.host().to_string()),
    };
    Some(NewMessage {
        id,
        header: Header {
            reverse_path: String::new(),
            tenant,
            received_unix_ms: u64::try_from(now.as_millisecond()).unwrap_or(0),
            lifetime_ms: header.lifetime_ms,
            trace: trace.map(|trace| trace.to_traceparent()),
            accepted_by: settings.pod.clone(),
            tasks: vec![Task {
                queue,
                recipients: vec![Recipient {
                    address: sender.to_string(),
                }],
            }],
            body: describe(&content),
        },
        content: content.into_chunks(),
    })
}

/// What is returned of the message is in it: all of a small one, the header section of a large one, of
/// which `record` holds the first chunk if that could be had. Nothing of content that cannot be sent.
fn original(record: &Record) -> Content {
    let body = &record.header.body;
    let original = match (body.form, body.chunks) {
        (Form::DotStuffed, 0) => Content::from_stuffed(record.content.iter().cloned()),
        (Form::Raw, 0) => Content::from_raw(&record.content.concat()),
        (Form::DotStuffed, _) => Content::header_section_of(&record.content),
        (Form::Raw, _) => return Content::default(),
    };
    original.unwrap_or_default()
}

struct Concerned<'a> {
    mailbox: Mailbox,
    words: Words,
    told: &'a Told,
}

/// What was said, as a notification quotes it.
enum Words {
    /// In [`Said`] itself.
    Reply,
    /// Noted by an earlier attempt.
    Noted(Reply),
    Local(String),
}

impl Words {
    fn of(said: &Said) -> Self {
        match said {
            Said::Noted(answer) if answer.is_reply => match answer.text.parse() {
                Ok(reply) => Self::Noted(reply),
                Err(_) => Self::Local(answer.text.clone()),
            },
            said if said.reply().is_some() && said.host().is_some() => Self::Reply,
            said => Self::Local(said.to_string()),
        }
    }

    fn reason<'a>(&'a self, said: &'a Said) -> Reason<'a> {
        let quote = |reply: &'a Reply| Reason::Reply {
            host: said.host().unwrap_or("unknown"),
            address: said.address(),
            reply,
        };
        match (self, said.reply()) {
            (Self::Noted(reply), _) | (Self::Reply, Some(reply)) => quote(reply),
            (Self::Local(words), _) => Reason::Local(words),
            (Self::Reply, None) => Reason::Local("unknown"),
        }
    }
}

/// Now, unless what was said is of an earlier attempt; and none where there was none.
fn last_attempt(
    about: About<'_>,
    now: Timestamp,
    concerned: &[Concerned<'_>],
) -> Option<Timestamp> {
    let is_of_now = |concerned: &Concerned<'_>| {
        matches!(*concerned.told.said, Said::Reply { .. } | Said::Failure(_))
    };
    if concerned.iter().any(is_of_now) {
        return Some(now);
    }
    let last_ms = Notes::read(&about.state.notes).last_ms;
    (last_ms > 0).then(|| timestamp(last_ms))
}

/// The same for every attempt to settle the same outcome, so that a repetition can be told from
/// another notification: by its message, its task, which attempt it was and for whom.
fn derived_id(about: About<'_>, action: Action, concerned: &[Concerned<'_>]) -> MessageId {
    let task = about.task;
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(&task.message.octets());
    hash.update(&task.ordinal.to_be_bytes());
    hash.update(&about.state.attempts.to_be_bytes());
    if let Action::Delayed { .. } = action {
        hash.update(b"delayed");
    }
    for concerned in concerned {
        hash.update(&concerned.told.recipient.to_be_bytes());
    }
    let mut octets = [0; 10];
    octets.copy_from_slice(&hash.finish().as_ref()[..10]);
    MessageId::new(task.message.unix_ms(), octets)
}

fn timestamp(unix_ms: u64) -> Timestamp {
    i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or_default()
}
