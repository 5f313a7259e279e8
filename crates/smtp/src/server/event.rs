use std::fmt;

use bytes::Bytes;

use crate::address::{ForwardPath, ReversePath};
use crate::command::{MailParameters, RecipientParameters};
use crate::data::{Content, DataRefusal};
use crate::sasl::{Credentials, Mechanism};

/// What a session wants its driver to do, in this order.
pub enum Output {
    /// Something happened.
    Event(Event),
    /// Write these octets.
    Write(Bytes),
    /// Everything is written; begin the TLS handshake as the server.
    StartTls,
    /// Everything is written; close the connection.
    Close,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(event) => f.debug_tuple("Event").field(event).finish(),
            Self::Write(octets) => write!(f, "Write({} octets)", octets.len()),
            Self::StartTls => f.write_str("StartTls"),
            Self::Close => f.write_str("Close"),
        }
    }
}

/// What a client did. All but [`Event::Abandoned`] await an answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The client gave credentials. Answered by
    /// [`authentication_accepted`](super::Session::authentication_accepted) or
    /// [`authentication_refused`](super::Session::authentication_refused).
    Authenticate(AuthenticationRequest),
    /// MAIL. A positive answer opens the transaction.
    Mail(MailRequest),
    /// RCPT. A positive answer adds the recipient.
    Recipient {
        /// Whom the message is for.
        forward_path: ForwardPath,
        /// What the extensions add.
        parameters: RecipientParameters,
    },
    /// DATA, with one recipient at least. A positive answer becomes `354`; a negative one leaves
    /// the transaction open.
    Data,
    /// The whole message is there. A positive answer takes on the responsibility for it.
    Message(Message),
    /// A part of the content of a large message, dot-stuffed, in pieces that may be cut anywhere. The
    /// first part holds all of the header section. The client hears nothing of a positive answer; a
    /// negative one is what it hears at the end of its content, of which nothing more is handed over.
    Content(Vec<Bytes>),
    /// All of a message is there whose content was handed over in parts. A positive answer takes on the
    /// responsibility for it.
    LargeMessage(LargeMessage),
    /// The open transaction ended without a message. No answer.
    Abandoned(Abandonment),
}

/// A request to judge credentials.
#[derive(Debug)]
pub struct AuthenticationRequest {
    /// How they came.
    pub mechanism: Mechanism,
    /// What they are.
    pub credentials: Credentials,
}

/// A request to open a transaction.
#[derive(Debug)]
pub struct MailRequest {
    /// Whom to tell about failures.
    pub reverse_path: ReversePath,
    /// What the extensions add. A size over the limit was refused already.
    pub parameters: MailParameters,
}

/// A message as it was handed over, with its envelope.
#[derive(Debug)]
pub struct Message {
    /// Whom to tell about failures.
    pub reverse_path: ReversePath,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// The recipients that were accepted, in order.
    pub forward_paths: Vec<ForwardPath>,
    /// The content.
    pub content: Content,
}

/// The envelope of a message whose content was handed over in parts.
#[derive(Debug)]
pub struct LargeMessage {
    /// Whom to tell about failures.
    pub reverse_path: ReversePath,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// The recipients that were accepted, in order.
    pub forward_paths: Vec<ForwardPath>,
}

/// Why a transaction ended without a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Abandonment {
    /// The driver answered a part of the content negatively.
    Answered,
    /// The stream ended.
    Closed,
    /// The content broke a rule.
    Content(DataRefusal),
    /// EHLO or HELO, which is as good as RSET (RFC 5321 §4.1.4).
    Hello,
    /// QUIT.
    Quit,
    /// The session ended the connection because of what the client did.
    Refused,
    /// RSET.
    Reset,
    /// The client was too slow.
    TimedOut,
}
