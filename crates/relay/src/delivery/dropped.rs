//! What the sender of a task hears that an administrator drops.

use message::dsn::Action;
use std::sync::Arc;

use queue::operation::{Notice, Seen};
use queue::record::Record;
use telemetry::TraceContext;

use super::Settings;
use super::disposition::{Event, verdict};
use super::load::open_recipients;
use super::notification::{About, notification};
use super::report::{Said, Told};

/// `None` when there is nobody to be told (RFC 5321 §6.1).
pub(super) fn notice(
    settings: &Settings,
    record: &Record,
    seen: &Seen,
    why: &str,
) -> Option<Notice> {
    let about = About {
        task: seen.handle.task,
        state: &seen.state,
    };
    let verdict = verdict(Event::Dropped, true);
    let said = Arc::new(Said::Words(why.to_owned()));
    let told: Vec<Told> = open_recipients(record, about)
        .map(|(recipient, _)| Told::new(recipient, verdict, &said))
        .collect();
    let trace = record.header.trace.as_deref();
    let trace = trace.and_then(TraceContext::from_traceparent);
    Some(Notice {
        message: notification(settings, about, record, &told, Action::Failed, trace)?,
        resolved: u16::try_from(seen.state.resolved.len()).unwrap_or(u16::MAX),
    })
}
