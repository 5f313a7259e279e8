//! Commands (RFC 5321 §4.1.1 and the extensions), both ways: a line becomes a [`Command`], and a
//! [`Command`] displays as its line.

mod parameters;
mod parser;

pub use parameters::{Body, MailParameters, RecipientParameters};
pub use parser::CommandError;

use std::fmt;

use crate::address::{ForwardPath, HeloName, ReversePath};

/// A command, without its CRLF.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command<'a> {
    /// `AUTH mechanism [initial-response]` (RFC 4954).
    Auth {
        /// The mechanism, as the client named it.
        mechanism: &'a str,
        /// The initial response in base64.
        initial: Option<&'a str>,
    },
    /// `DATA`
    Data,
    /// `EHLO name`
    Ehlo(HeloName),
    /// `EXPN list`
    Expn(&'a str),
    /// `HELO name`
    Helo(HeloName),
    /// `HELP [topic]`
    Help(&'a str),
    /// `MAIL FROM:<reverse-path> [parameters]`
    Mail {
        /// Whom to tell about failures.
        reverse_path: ReversePath,
        /// What the extensions add.
        parameters: MailParameters,
    },
    /// `NOOP [anything]`
    Noop(&'a str),
    /// `QUIT`
    Quit,
    /// `RCPT TO:<forward-path> [parameters]`
    Rcpt {
        /// Whom the message is for.
        forward_path: ForwardPath,
        /// What the extensions add.
        parameters: RecipientParameters,
    },
    /// `RSET`
    Rset,
    /// `STARTTLS` (RFC 3207).
    StartTls,
    /// `VRFY user`
    Vrfy(&'a str),
}

impl<'a> Command<'a> {
    /// Parses a line without its CRLF.
    ///
    /// # Errors
    ///
    /// [`CommandError`], which knows its reply.
    pub fn parse(line: &'a [u8]) -> Result<Self, CommandError> {
        parser::parse(line)
    }

    /// Whether this must be the last command of a pipelined group (RFC 2920 §3.1; STARTTLS and AUTH
    /// by RFC 3207 §4 and RFC 4954 §4): what follows depends on the reply.
    pub fn ends_group(&self) -> bool {
        !matches!(self, Self::Mail { .. } | Self::Rcpt { .. } | Self::Rset)
    }
}

impl fmt::Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = |f: &mut fmt::Formatter<'_>, verb: &str, argument: &str| match argument {
            "" => f.write_str(verb),
            _ => write!(f, "{verb} {argument}"),
        };
        match self {
            Self::Auth { mechanism, initial } => {
                write!(f, "AUTH {mechanism}")?;
                initial.map_or(Ok(()), |initial| write!(f, " {initial}"))
            }
            Self::Data => f.write_str("DATA"),
            Self::Ehlo(name) => write!(f, "EHLO {name}"),
            Self::Expn(list) => with(f, "EXPN", list),
            Self::Helo(name) => write!(f, "HELO {name}"),
            Self::Help(topic) => with(f, "HELP", topic),
            Self::Mail {
                reverse_path,
                parameters,
            } => {
                write!(f, "MAIL FROM:{reverse_path}{parameters}")
            }
            Self::Noop(argument) => with(f, "NOOP", argument),
            Self::Quit => f.write_str("QUIT"),
            Self::Rcpt {
                forward_path,
                parameters,
            } => {
                write!(f, "RCPT TO:{forward_path}{parameters}")
            }
            Self::Rset => f.write_str("RSET"),
            Self::StartTls => f.write_str("STARTTLS"),
            Self::Vrfy(user) => with(f, "VRFY", user),
        }
    }
}
