//! Spans: one per step of a message's life.
//!
//! They are explicit values, not ambient ones, for the steps of one message run in several tasks,
//! several pods and with hours between them.

use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::trace::{Event, SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::attribute::{Attribute, Value, bounded};
use crate::context::TraceContext;
use crate::export::SpanBuffer;
use crate::tracer::{self, Tracer};

/// Opens a span that begins now. Without a parent it is the root of a new trace.
pub fn start(name: SpanName, parent: Option<&TraceContext>) -> Span {
    Span::open(tracer::global(), name, parent, None)
}

/// Opens a span that began at `start_time`, for work whose parent is learned only on the way:
/// a client's `traceparent` arrives in the message itself.
pub fn start_at(name: SpanName, parent: Option<&TraceContext>, start_time: SystemTime) -> Span {
    Span::open(tracer::global(), name, parent, Some(start_time))
}

/// The spans of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpanName {
    /// A mail transaction, from MAIL to the reply to its content. The root, or the child of the
    /// sender's span.
    SmtpReceive,
    /// The message becomes durable in the queue. Child of `smtp.receive`.
    QueueEnqueue,
    /// One attempt at a next hop. Child of `queue.enqueue`.
    SmtpDeliver,
    /// A recipient's final outcome that is not a bounce. Child of the last `smtp.deliver`, or
    /// of `queue.enqueue` when no attempt was made.
    MessageOutcome,
    /// A final outcome that returns a notification to the sender. Child like the other outcome.
    MessageBounce,
}

impl SpanName {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SmtpReceive => "smtp.receive",
            Self::QueueEnqueue => "queue.enqueue",
            Self::SmtpDeliver => "smtp.deliver",
            Self::MessageOutcome => "message.outcome",
            Self::MessageBounce => "message.bounce",
        }
    }

    fn kind(self) -> SpanKind {
        match self {
            Self::SmtpReceive => SpanKind::Server,
            Self::QueueEnqueue | Self::MessageOutcome | Self::MessageBounce => SpanKind::Internal,
            Self::SmtpDeliver => SpanKind::Client,
        }
    }
}

/// An open span. It ends when dropped, or at the time given to [`Span::end_at`].
#[derive(Debug)]
#[must_use = "a span ends when it is dropped"]
pub struct Span {
    context: TraceContext,
    recording: Option<Box<Recording>>,
}

impl Span {
    /// What children of this span are opened with, here or elsewhere.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// False when nothing that is set here will be seen.
    pub fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    /// Sets an attribute, in place of a value set before.
    pub fn set<'v>(&mut self, attribute: Attribute, value: impl Into<Value<'v>>) {
        let Some(recording) = &mut self.recording else {
            return;
        };
        let value = value.into().to_exported();
        let attributes = &mut recording.data.attributes;
        match attributes
            .iter_mut()
            .find(|set| set.key.as_str() == attribute.key())
        {
            Some(set) => set.value = value,
            None => attributes.push(KeyValue::new(attribute.key(), value)),
        }
    }

    /// Notes that something happened now. A span keeps the first 32 events.
    pub fn event(&mut self, name: &'static str) {
        let Some(recording) = &mut self.recording else {
            return;
        };
        let events = &mut recording.data.events;
        if events.events.len() < MAX_EVENTS {
            events
                .events
                .push(Event::new(name, SystemTime::now(), Vec::new(), 0));
        } else {
            events.dropped_count += 1;
        }
    }

    /// Marks the span as failed, with the reason.
    pub fn fail<'v>(&mut self, reason: impl Into<Value<'v>>) {
        let Some(recording) = &mut self.recording else {
            return;
        };
        let reason = reason.into().to_exported();
        recording.data.status = Status::error(bounded(&reason.as_str()).to_owned());
    }

    /// Ends the span now.
    pub fn end(self) {}

    /// Ends the span at `end_time`.
    pub fn end_at(mut self, end_time: SystemTime) {
        if let Some(recording) = &mut self.recording {
            recording.end_time = Some(end_time);
        }
    }

    pub(crate) fn open(
        tracer: &Tracer,
        name: SpanName,
        parent: Option<&TraceContext>,
        start_time: Option<SystemTime>,
    ) -> Self {
        let context = match parent {
            Some(parent) => parent.child(),
            None => tracer.new_root(),
        };
        let recording = tracer.recorder(&context).map(|buffer| {
            let start_time = start_time.unwrap_or_else(SystemTime::now);
            Box::new(Recording {
                data: new_data(name, &context, parent, start_time),
                end_time: None,
                buffer: Arc::clone(buffer),
            })
        });
        Self { context, recording }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(recording) = self.recording.take() {
            let Recording {
                mut data,
                end_time,
                buffer,
            } = *recording;
            data.end_time = end_time
                .unwrap_or_else(SystemTime::now)
                .max(data.start_time);
            buffer.push(data);
        }
    }
}

#[derive(Debug)]
struct Recording {
    data: SpanData,
    end_time: Option<SystemTime>,
    buffer: Arc<SpanBuffer>,
}

fn new_data(
    name: SpanName,
    context: &TraceContext,
    parent: Option<&TraceContext>,
    start_time: SystemTime,
) -> SpanData {
    let span_id = |context: &TraceContext| opentelemetry::trace::SpanId::from(context.span_id().0);
    SpanData {
        span_context: SpanContext::new(
            context.trace_id().0.into(),
            span_id(context),
            TraceFlags::new(context.flags()),
            false,
            TraceState::NONE,
        ),
        parent_span_id: parent.map_or(opentelemetry::trace::SpanId::INVALID, span_id),
        // The sender's span, and the one of whichever pod enqueued, are mostly of another process;
        // a context does not say, and readers use this for display only.
        parent_span_is_remote: parent.is_some() && name.kind() != SpanKind::Internal,
        span_kind: name.kind(),
        name: name.as_str().into(),
        start_time,
        end_time: start_time,
        attributes: Vec::with_capacity(USUAL_ATTRIBUTES),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("kurier").build(),
    }
}

const MAX_EVENTS: usize = 32;
const USUAL_ATTRIBUTES: usize = 12;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tracer::Sampling;

    fn recording_tracer() -> (Tracer, Arc<SpanBuffer>) {
        let buffer = Arc::new(SpanBuffer::new(8));
        (
            Tracer::new(Sampling::percent(100), Arc::clone(&buffer)),
            buffer,
        )
    }

    #[test]
    fn records_what_was_set() {
        let (tracer, buffer) = recording_tracer();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let parent = TraceContext::from_traceparent(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        );
        let mut span = Span::open(&tracer, SpanName::SmtpDeliver, parent.as_ref(), Some(start));
        span.set(Attribute::QueueId, "first");
        span.set(Attribute::QueueId, format_args!("{}", 7));
        span.set(Attribute::ReplyCode, 550_u16);
        span.event("connected");
        span.fail("mailbox unavailable");
        let context = span.context();
        span.end_at(start + Duration::from_secs(2));

        let spans = buffer.take(10);
        let [data] = spans.as_slice() else {
            panic!("one span, not {}", spans.len())
        };
        assert_eq!(data.name, "smtp.deliver");
        assert_eq!(data.span_kind, SpanKind::Client);
        assert_eq!(
            data.span_context.span_id().to_string(),
            context.span_id().to_string()
        );
        assert_eq!(
            data.span_context.trace_id().to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(data.parent_span_id.to_string(), "b7ad6b7169203331");
        assert_eq!(
            data.end_time
                .duration_since(data.start_time)
                .unwrap()
                .as_secs(),
            2
        );
        assert_eq!(
            data.attributes,
            [
                KeyValue::new("kurier.queue_id", "7"),
                KeyValue::new("smtp.reply_code", 550)
            ]
        );
        assert_eq!(data.events[0].name, "connected");
        assert_eq!(data.status, Status::error("mailbox unavailable"));
    }

    #[test]
    fn parents_of_children_are_spans_of_the_same_trace() {
        let (tracer, buffer) = recording_tracer();
        let receive = Span::open(&tracer, SpanName::SmtpReceive, None, None);
        let enqueue = Span::open(
            &tracer,
            SpanName::QueueEnqueue,
            Some(&receive.context()),
            None,
        );
        // As stored with the record and read hours later by another process.
        let stored: TraceContext = enqueue.context().to_string().parse().unwrap();
        drop((receive, enqueue));
        drop(Span::open(
            &tracer,
            SpanName::SmtpDeliver,
            Some(&stored),
            None,
        ));

        let spans = buffer.take(10);
        let [receive, enqueue, deliver] = spans.as_slice() else {
            panic!("three spans")
        };
        assert_eq!(
            receive.parent_span_id,
            opentelemetry::trace::SpanId::INVALID
        );
        assert_eq!(enqueue.parent_span_id, receive.span_context.span_id());
        assert_eq!(deliver.parent_span_id, enqueue.span_context.span_id());
        for span in [enqueue, deliver] {
            assert_eq!(
                span.span_context.trace_id(),
                receive.span_context.trace_id()
            );
        }
    }

    #[test]
    fn unsampled_parent_is_obeyed_and_ids_go_on() {
        let (tracer, buffer) = recording_tracer();
        let parent = TraceContext::from_traceparent(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        )
        .unwrap();
        let span = Span::open(&tracer, SpanName::SmtpReceive, Some(&parent), None);
        assert!(!span.is_recording());
        assert_eq!(span.context().trace_id(), parent.trace_id());
        drop(span);
        assert!(buffer.take(10).is_empty());
    }

    #[test]
    fn without_an_endpoint_there_are_ids() {
        let span = Span::open(&Tracer::off(), SpanName::SmtpReceive, None, None);
        assert!(!span.is_recording());
        assert!(!span.context().is_sampled());
        let child = Span::open(
            &Tracer::off(),
            SpanName::QueueEnqueue,
            Some(&span.context()),
            None,
        );
        assert_eq!(child.context().trace_id(), span.context().trace_id());
    }

    #[test]
    fn events_are_bounded() {
        let (tracer, buffer) = recording_tracer();
        let mut span = Span::open(&tracer, SpanName::SmtpReceive, None, None);
        for _ in 0..MAX_EVENTS + 3 {
            span.event("again");
        }
        drop(span);
        let events = &buffer.take(1)[0].events;
        assert_eq!((events.events.len(), events.dropped_count), (MAX_EVENTS, 3));
    }
}
