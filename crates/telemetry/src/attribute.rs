//! What a span may say about its work.

use std::fmt;

/// The attributes of Kurier's spans, all of them. Where OpenTelemetry's semantic conventions have
/// a name it is used; the others are in the `kurier` and `smtp` namespaces.
///
/// None is for the address of a person, but the text of a reply is the peer's own and may quote one.
/// Nothing secret may be set as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Attribute {
    /// Which attempt at this task this is, from 1.
    Attempt,
    /// The identity that authenticated, as in the credential's name.
    AuthenticatedIdentity,
    /// `delivered`, `deferred`, `failed`, `expired`.
    Disposition,
    /// The enhanced status code of the reply, as `5.1.1`.
    EnhancedStatus,
    /// What failed, in the terms of this process (`timeout`, `refused`), for failures without
    /// a reply.
    ErrorType,
    /// The name the client gave with EHLO or HELO.
    HeloName,
    /// `kurier`.
    MessagingSystem,
    /// The recipients' domain.
    MessagingDestination,
    /// The `Message-ID` of the message.
    MessagingMessageId,
    /// The octets of the message as received.
    MessagingMessageBodySize,
    /// `receive`, `send`, `settle`.
    MessagingOperation,
    /// The address of the other end of the connection.
    NetworkPeerAddress,
    /// The port of the other end of the connection.
    NetworkPeerPort,
    /// `esmtp` or `smtp`, as negotiated.
    NetworkProtocolName,
    /// The queue id, the one in the `250` and in the `Received` field.
    QueueId,
    /// The number of recipients the span is about.
    RecipientCount,
    /// The pod that did the work.
    RelayPod,
    /// The text of the reply, one line.
    ReplyText,
    /// The reply code.
    ReplyCode,
    /// The name of the route.
    Route,
    /// The host that was connected to, or the listener's own name.
    ServerAddress,
    /// The port that was connected to.
    ServerPort,
    /// What limits and connections of the destination are keyed by.
    Site,
    /// The tenant the message is accounted to.
    Tenant,
    /// The negotiated cipher suite.
    TlsCipher,
    /// `tls`, when the connection is secured.
    TlsProtocolName,
    /// `1.2`, `1.3`.
    TlsProtocolVersion,
}

impl Attribute {
    /// The name of the attribute in the exported span.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Attempt => "kurier.attempt",
            Self::AuthenticatedIdentity => "kurier.authenticated_identity",
            Self::Disposition => "kurier.disposition",
            Self::EnhancedStatus => "smtp.enhanced_status_code",
            Self::ErrorType => "error.type",
            Self::HeloName => "smtp.helo_name",
            Self::MessagingSystem => "messaging.system",
            Self::MessagingDestination => "messaging.destination.name",
            Self::MessagingMessageId => "messaging.message.id",
            Self::MessagingMessageBodySize => "messaging.message.body.size",
            Self::MessagingOperation => "messaging.operation.name",
            Self::NetworkPeerAddress => "network.peer.address",
            Self::NetworkPeerPort => "network.peer.port",
            Self::NetworkProtocolName => "network.protocol.name",
            Self::QueueId => "kurier.queue_id",
            Self::RecipientCount => "kurier.recipient_count",
            Self::RelayPod => "kurier.relay.pod",
            Self::ReplyText => "smtp.reply_text",
            Self::ReplyCode => "smtp.reply_code",
            Self::Route => "kurier.route",
            Self::ServerAddress => "server.address",
            Self::ServerPort => "server.port",
            Self::Site => "kurier.site",
            Self::Tenant => "kurier.tenant",
            Self::TlsCipher => "tls.cipher",
            Self::TlsProtocolName => "tls.protocol.name",
            Self::TlsProtocolVersion => "tls.protocol.version",
        }
    }
}

/// The value of an attribute, borrowed: a span that is not recorded neither formats nor copies it.
///
/// For anything that implements [`fmt::Display`], pass `format_args!("{value}")`.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Bool(bool),
    Integer(i64),
    Static(&'static str),
    Text(&'a str),
    Format(fmt::Arguments<'a>),
}

impl Value<'_> {
    pub(crate) fn to_exported(self) -> opentelemetry::Value {
        match self {
            Self::Bool(value) => value.into(),
            Self::Integer(value) => value.into(),
            Self::Static(value) => value.into(),
            Self::Text(value) => bounded(value).to_owned().into(),
            Self::Format(value) => match value.as_str() {
                Some(value) => value.into(),
                None => {
                    let mut text = value.to_string();
                    text.truncate(bounded(&text).len());
                    text.into()
                }
            },
        }
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u16> for Value<'_> {
    fn from(value: u16) -> Self {
        Self::Integer(value.into())
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<u64> for Value<'_> {
    fn from(value: u64) -> Self {
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value<'_> {
    fn from(value: usize) -> Self {
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<fmt::Arguments<'a>> for Value<'a> {
    fn from(value: fmt::Arguments<'a>) -> Self {
        Self::Format(value)
    }
}

/// The longest start of `text` that a span keeps. Peers choose some of these texts.
pub(crate) fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_LENGTH)]
}

const MAX_TEXT_LENGTH: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded_at_a_character() {
        let long = "é".repeat(MAX_TEXT_LENGTH);
        let kept = bounded(&long);
        assert_eq!(kept.len(), MAX_TEXT_LENGTH);
        assert_eq!(bounded(&format!("x{long}")).len(), MAX_TEXT_LENGTH - 1);
        let formatted = Value::from(format_args!("{long}{long}")).to_exported();
        assert_eq!(formatted.as_str().len(), MAX_TEXT_LENGTH);
    }
}
