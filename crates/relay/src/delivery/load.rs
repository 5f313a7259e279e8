//! A task's message: fetched, read, and what becomes of it when that cannot be done.

use std::sync::Arc;

use queue::operation::Rest;
use queue::record::{Form, Record};
use queue::worker::{Claim, Outcome, RecordUnavailable};
use smtp::client::Payload;
use smtp::{Content, ForwardPath, ReversePath};
use telemetry::TraceContext;

use super::disposition::{Event, verdict};
use super::notification::About;
use super::report::{Said, Told, report};
use super::{Inner, Settings};

/// Settles a task whose message has outlived its lifetime where it waited.
pub(super) async fn expire(inner: &Arc<Inner>, claim: Claim) {
    let settings = inner.settings();
    if let Some((claim, load)) = load(inner, &settings, claim).await {
        load.expire(inner, &settings, claim).await;
    }
}
/// A task's message, ready to be sent.
pub(super) struct Load {
    pub(super) record: Arc<Record>,
    pub(super) reverse_path: ReversePath,
    /// Recipients without an outcome, by their index.
    pub(super) open: Vec<(u16, ForwardPath)>,
    pub(super) content: Payload,
    pub(super) trace: Option<TraceContext>,
}

/// Fetches what belongs to `claim`. What nobody can deliver is settled, or held, here.
pub(super) async fn load(
    inner: &Inner,
    settings: &Settings,
    mut claim: Claim,
) -> Option<(Claim, Load)> {
    let queue_id = claim.handle().task.message;
    let record = match claim.record().await {
        Ok(record) => record,
        Err(RecordUnavailable::Missing) => {
            tracing::error!(%queue_id, "a task has no message; it ends");
            claim.settle(Outcome {
                delivered: Vec::new(),
                failed: Vec::new(),
                recipients: 0,
                rest: Rest::None,
                notification: None,
                journal: bytes::Bytes::new(),
            });
            return None;
        }
        Err(RecordUnavailable::Undecodable(error)) => {
            hold(inner, claim, &error.to_string());
            return None;
        }
        // Dropped, it goes back.
        Err(error) => {
            tracing::debug!(%queue_id, %error, "a task cannot be attempted");
            return None;
        }
    };
    match Load::new(&record, &claim) {
        Ok(load) => Some((claim, load)),
        Err(Unusable::Task(why)) => {
            hold(inner, claim, why);
            None
        }
        Err(Unusable::Content(why)) => {
            let verdict = verdict(Event::Malformed, true);
            let open = open_recipients(&record, About::of(&claim));
            let said = Arc::new(Said::Words(why));
            let told = open
                .map(|(recipient, _)| Told::new(recipient, verdict, &said))
                .collect();
            report(inner, settings, claim, &record, told, false, None).await;
            None
        }
    }
}

/// A record that this program cannot read is nothing it may decide about: it is held, for somebody
/// who can.
fn hold(inner: &Inner, claim: Claim, why: &str) {
    tracing::error!(
        queue_id = %claim.handle().task.message,
        task = %claim.handle().task,
        error = why,
        "a queued message cannot be read; it is held"
    );
    inner.metrics.unreadable.inc();
    claim.settle(Outcome {
        delivered: Vec::new(),
        failed: Vec::new(),
        recipients: u16::MAX,
        rest: Rest::Held {
            reason: format!("it cannot be read: {why}"),
        },
        notification: None,
        journal: bytes::Bytes::new(),
    });
}

enum Unusable {
    Task(&'static str),
    Content(String),
}

/// Recipients without an outcome, by their index.
pub(super) fn open_recipients<'r>(
    record: &'r Record,
    about: About<'r>,
) -> impl Iterator<Item = (u16, &'r str)> {
    let task = record.header.tasks.get(usize::from(about.task.ordinal));
    let recipients = task.into_iter().flat_map(|task| &task.recipients);
    let is_open = move |index: u16| {
        about
            .state
            .resolved
            .iter()
            .all(|(known, _)| *known != index)
    };
    (0..)
        .zip(recipients.map(|recipient| recipient.address.as_str()))
        .filter(move |(index, _)| is_open(*index))
}

impl Load {
    fn new(record: &Arc<Record>, claim: &Claim) -> Result<Self, Unusable> {
        let header = &record.header;
        if header
            .tasks
            .get(usize::from(claim.handle().task.ordinal))
            .is_none()
        {
            return Err(Unusable::Task("its record does not have the task"));
        }
        let reverse_path = ReversePath::parse(&format!("<{}>", header.reverse_path))
            .map_err(|_| Unusable::Task("its reverse-path is malformed"))?;
        let open = open_recipients(record, About::of(claim))
            .map(|(index, address)| {
                ForwardPath::parse(&format!("<{address}>"))
                    .map(|path| (index, path))
                    .map_err(|_| Unusable::Task("a recipient is malformed"))
            })
            .collect::<Result<_, _>>()?;
        let body = &header.body;
        let content = match (body.form, body.chunks) {
            (Form::DotStuffed, 0) => Content::from_stuffed(record.content.iter().cloned())
                .map_err(|error| Unusable::Content(error.to_string()))?
                .into(),
            (Form::Raw, 0) => Content::from_raw(&record.content.concat())
                .map_err(|error| Unusable::Content(error.to_string()))?
                .into(),
            (Form::DotStuffed, _) => Payload::Streamed {
                raw_len: body.size,
                has_8bit: body.eight_bit,
            },
            (Form::Raw, _) => return Err(Unusable::Task("nobody writes raw content in chunks")),
        };
        let trace = header
            .trace
            .as_deref()
            .and_then(TraceContext::from_traceparent);
        Ok(Self {
            record: Arc::clone(record),
            reverse_path,
            open,
            content,
            trace,
        })
    }

    /// The domain of the recipients, or their address literal.
    pub(super) fn domain(&self) -> String {
        let mailbox = self.open.iter().find_map(|(_, path)| path.mailbox());
        mailbox
            .map(|mailbox| mailbox.host().to_string())
            .unwrap_or_default()
    }

    pub(super) async fn expire(self, inner: &Inner, settings: &Settings, claim: Claim) {
        let verdict = verdict(Event::Expired, true);
        let notes = super::notes::Notes::read(&claim.state().notes);
        let told = self.open.iter().map(|(recipient, _)| {
            let said = match notes.answer(*recipient) {
                Some(answer) => Said::Noted(answer.clone()),
                None => Said::Words("it could not be attempted in time".to_owned()),
            };
            Told::new(*recipient, verdict, &Arc::new(said))
        });
        let told = told.collect();
        report(
            inner,
            settings,
            claim,
            &self.record,
            told,
            false,
            self.trace,
        )
        .await;
    }
}
