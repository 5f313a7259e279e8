//! Logs, traces and metrics: what an operator sees of a running process.
//!
//! The procedure, in order:
//!
//! 1. [`init`] installs the log subscriber and, where an OTLP endpoint is configured, starts the
//!    exporter on a thread and a runtime of its own.
//! 2. [`span::start`] opens a span. Its [`TraceContext`] goes wherever the work goes: into the
//!    queue record, and hours later into the span of another pod.
//! 3. Ending a span moves it into a bounded buffer; the exporter takes batches from there.
//! 4. [`Guard::shutdown`] hands out what is left, within a bound.
//!
//! Invariants:
//!
//! * Ending a span never waits. A full buffer drops the span and counts it, so a collector that is
//!   dead, slow or stopped costs spans, never mail. [`span_counts`] accounts for every one.
//! * A span that is not recorded allocates nothing, but has ids all the same: a log line can
//!   always name its trace.
//! * No OpenTelemetry name leaves this crate. Its API breaks with every minor version.
//! * Attribute names are a closed enum, [`Attribute`], and so are span names, [`SpanName`].
//!
//! Log lines are events of the `tracing` crate. A line about a message carries the fields
//! `queue_id`, `trace_id` and `span_id`:
//!
//! ```
//! # let context = telemetry::TraceContext::new_root();
//! tracing::info!(
//!     queue_id = "01J9Z3",
//!     trace_id = %context.trace_id(),
//!     span_id = %context.span_id(),
//!     "delivered"
//! );
//! ```
//!
//! What it does not do: `tracing` spans are not exported, on the hot path they would cost more
//! than the explicit ones of [`span`]; metrics and logs do not go over OTLP; `tracestate` and
//! baggage are not carried; OTLP over TLS is refused by [`init`].

mod attribute;
mod context;
mod export;
mod init;
mod log;
pub mod metrics;
pub mod span;
mod tracer;

pub use attribute::{Attribute, Value};
pub use context::{ParseTraceContextError, SpanId, TraceContext, TraceId};
pub use export::SpanCounts;
pub use init::{
    Guard, InitError, LogFormat, Otlp, Settings, check_endpoint, check_log_filter, init,
    span_counts,
};
pub use span::{Span, SpanName};
