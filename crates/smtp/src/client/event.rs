use std::fmt;

use bytes::Bytes;

use super::Capabilities;
use crate::address::{ForwardPath, ReversePath};
use crate::data::Content;
use crate::reply::{EnhancedStatus, Reply, ReplyError};

/// A message to send.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Whom to tell about failures.
    pub reverse_path: ReversePath,
    /// The recipients.
    pub recipients: Vec<ForwardPath>,
    /// The content.
    pub content: Payload,
}

/// What a transaction sends.
#[derive(Clone, Debug)]
pub enum Payload {
    /// All of it. Its octets are shared, not copied.
    Whole(Content),
    /// Content that the driver has at hand only piece by piece, and sends at [`Event::Content`].
    Streamed {
        /// How many octets the message has (RFC 1870 §3).
        raw_len: u64,
        /// Whether there are octets outside ASCII.
        has_8bit: bool,
    },
}

impl Payload {
    /// How many octets the message has (RFC 1870 §3).
    pub fn raw_len(&self) -> u64 {
        match self {
            Self::Whole(content) => content.raw_len(),
            Self::Streamed { raw_len, .. } => *raw_len,
        }
    }

    /// Whether there are octets outside ASCII.
    pub fn has_8bit(&self) -> bool {
        match self {
            Self::Whole(content) => content.has_8bit(),
            Self::Streamed { has_8bit, .. } => *has_8bit,
        }
    }
}

impl From<Content> for Payload {
    fn from(content: Content) -> Self {
        Self::Whole(content)
    }
}

/// What a session wants its driver to do, in this order.
pub enum Output {
    /// Write these octets.
    Write(Bytes),
    /// Everything is written; begin the TLS handshake as the client.
    StartTls,
    /// Something happened.
    Event(Event),
    /// Close the connection. Nothing follows.
    Close,
}

/// What is written may be a password, or somebody's letter.
impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(octets) => write!(f, "Write({} octets)", octets.len()),
            Self::StartTls => f.write_str("StartTls"),
            Self::Event(event) => f.debug_tuple("Event").field(event).finish(),
            Self::Close => f.write_str("Close"),
        }
    }
}

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The session is set up: [`send`](super::Session::send) or
    /// [`quit`](super::Session::quit).
    Ready(Capabilities),
    /// The peer awaits the content of a [`Payload::Streamed`]: [`send_content`](super::Session::send_content)
    /// for each piece of it, then [`end_content`](super::Session::end_content); or
    /// [`withhold`](super::Session::withhold) where the rest cannot be had.
    Content,
    /// Everything but the line that ends the content was put out. Not before
    /// [`release_final_dot`](super::Session::release_final_dot) can the peer accept the message.
    FinalDot,
    /// The transaction ended, and the session is ready for the next one.
    Finished(Finished),
    /// The session ended, other than by [`quit`](super::Session::quit). A peer that ends it right
    /// behind its reply to a message does not spoil that: [`Event::Finished`] is then the last event.
    Failed(Failure),
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// What became of each recipient, in the order of the transaction.
    pub recipients: Vec<RecipientOutcome>,
}

/// What became of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecipientOutcome {
    /// The peer took the responsibility, with this reply to the final dot.
    Accepted(Reply),
    /// The peer refused.
    Refused {
        /// What it refused: MAIL, this RCPT, DATA, or the final dot.
        phase: Phase,
        /// With what, verbatim.
        reply: Reply,
    },
    /// The message cannot be sent to this peer; nothing was sent.
    Unsendable(Unsendable),
    /// The session ended before. With [`Failure::is_in_doubt`] the peer may have the message.
    Undecided,
}

/// Why a message cannot be sent to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsendable {
    /// It has octets outside ASCII, and the peer has no 8BITMIME.
    #[error("the message has 8-bit content, which the next hop does not take")]
    EightBit,
    /// It is larger than the peer's SIZE.
    #[error("the message is larger than the {limit} octets that the next hop takes")]
    TooLarge {
        /// The peer's limit in octets.
        limit: u64,
    },
}

impl Unsendable {
    /// The status of RFC 3463.
    pub const fn status(self) -> EnhancedStatus {
        match self {
            // RFC 6152 §3
            Self::EightBit => EnhancedStatus::permanent(6, 3),
            // RFC 1870 §6.1
            Self::TooLarge { .. } => EnhancedStatus::permanent(3, 4),
        }
    }
}

/// How a session ended, if not by QUIT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was going on.
    pub phase: Phase,
    /// What happened.
    pub cause: FailureCause,
    /// What became of the recipients of the open transaction; empty if none was open.
    pub recipients: Vec<RecipientOutcome>,
}

impl Failure {
    /// Whether the peer may have accepted the message without our hearing it (RFC 1047).
    pub fn is_in_doubt(&self) -> bool {
        self.phase == Phase::FinalDot && !matches!(self.cause, FailureCause::Refused(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.cause, self.phase)
    }
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FailureCause {
    /// There are credentials, but no mechanism that both sides know.
    #[error("the peer offers no authentication mechanism that is known here")]
    AuthenticationUnavailable,
    /// The stream ended.
    #[error("the connection was closed")]
    Closed,
    /// There are credentials, but the connection is not encrypted.
    #[error("credentials are not sent without TLS")]
    CredentialsInClear,
    /// A negative reply that ends the session.
    #[error("the peer replied {0}")]
    Refused(Reply),
    /// The peer was too slow.
    #[error("the peer did not reply in time")]
    TimedOut,
    /// The handshake failed.
    #[error("the TLS handshake failed")]
    TlsFailed,
    /// TLS is required and not offered.
    #[error("the peer does not offer STARTTLS, which is required")]
    TlsUnavailable,
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Violation(Violation),
    /// The driver withheld the final dot.
    #[error("the message was withheld")]
    Withheld,
}

/// How a peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Octets in clear behind the reply to STARTTLS.
    #[error("octets in clear behind the reply to STARTTLS")]
    OctetsBehindStartTls,
    /// Something that is not a reply.
    #[error(transparent)]
    Reply(ReplyError),
    /// A reply that nothing was asked for, or one that does not fit what was asked.
    #[error("an unexpected reply")]
    UnexpectedReply,
}

/// What was going on, as a phrase for logs and notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Waiting for the greeting.
    Greeting,
    /// EHLO.
    Ehlo,
    /// HELO, after EHLO was refused.
    Helo,
    /// STARTTLS.
    StartTls,
    /// The TLS handshake.
    TlsHandshake,
    /// AUTH.
    Auth,
    /// Between transactions.
    Idle,
    /// RSET.
    Rset,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The content, without the final dot.
    Content,
    /// The final dot.
    FinalDot,
    /// QUIT.
    Quit,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greeting => "waiting for the greeting",
            Self::Ehlo => "in reply to EHLO",
            Self::Helo => "in reply to HELO",
            Self::StartTls => "in reply to STARTTLS",
            Self::TlsHandshake => "in the TLS handshake",
            Self::Auth => "in reply to AUTH",
            Self::Idle => "between transactions",
            Self::Rset => "in reply to RSET",
            Self::Mail => "in reply to MAIL",
            Self::Rcpt => "in reply to RCPT",
            Self::Data => "in reply to DATA",
            Self::Content => "sending the message content",
            Self::FinalDot => "in reply to the end of the message",
            Self::Quit => "in reply to QUIT",
        })
    }
}
