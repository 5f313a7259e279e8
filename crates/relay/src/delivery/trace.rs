//! What the span of an attempt says.

use queue::worker::Claim;
use telemetry::{Attribute, Span, SpanName, span};

use super::connect::Failure;
use super::connection::Connection;
use super::disposition::Disposition;
use super::load::Load;
use super::report::Told;

/// Child of the span under which the message was accepted, by whichever pod.
pub(super) fn start(
    claim: &Claim,
    load: &Load,
    domain: &str,
    recipients: usize,
    pod: &str,
) -> Span {
    let mut span = span::start(SpanName::SmtpDeliver, load.trace.as_ref());
    if span.is_recording() {
        let handle = claim.handle();
        span.set(Attribute::MessagingSystem, "kurier");
        span.set(Attribute::MessagingOperation, "send");
        span.set(Attribute::MessagingDestination, domain);
        span.set(Attribute::QueueId, format_args!("{}", handle.task.message));
        span.set(Attribute::Attempt, claim.state().attempts.saturating_add(1));
        span.set(Attribute::RecipientCount, recipients);
        span.set(Attribute::RelayPod, pod);
        span.set(Attribute::Route, &handle.queue.route);
        span.set(Attribute::Tenant, &handle.queue.tenant);
    }
    span
}

pub(super) fn peer(span: &mut Span, connection: &Connection) {
    if !span.is_recording() {
        return;
    }
    span.set(
        Attribute::ServerAddress,
        format_args!("{}", connection.host()),
    );
    span.set(Attribute::ServerPort, connection.address().port());
    span.set(
        Attribute::NetworkPeerAddress,
        format_args!("{}", connection.address().ip()),
    );
    span.set(Attribute::NetworkPeerPort, connection.address().port());
    if let Some((version, cipher)) = connection.tls() {
        span.set(Attribute::TlsProtocolName, "tls");
        span.set(Attribute::TlsProtocolVersion, version);
        span.set(Attribute::TlsCipher, cipher);
    }
}

pub(super) fn answer(span: &mut Span, told: &Told) {
    if !span.is_recording() {
        return;
    }
    span.set(
        Attribute::EnhancedStatus,
        format_args!("{}", told.verdict.status),
    );
    span.set(Attribute::Disposition, told.verdict.disposition.as_str());
    if let Some(reply) = told.said.reply() {
        span.set(Attribute::ReplyCode, reply.code().value());
        span.set(Attribute::ReplyText, format_args!("{reply}"));
    }
    if told.verdict.disposition != Disposition::Delivered {
        span.fail(format_args!("{}", told.said));
    }
}

pub(super) fn failure(span: &mut Span, failure: &Failure) {
    if !span.is_recording() {
        return;
    }
    if let Some(host) = failure.host() {
        span.set(Attribute::ServerAddress, host);
    }
    if let Some(address) = failure.address() {
        span.set(
            Attribute::NetworkPeerAddress,
            format_args!("{}", address.ip()),
        );
        span.set(Attribute::NetworkPeerPort, address.port());
    }
    if let Some(reply) = failure.reply() {
        span.set(Attribute::ReplyCode, reply.code().value());
    }
    span.set(Attribute::ErrorType, failure.error_type());
    span.fail(format_args!("{failure}"));
}
