//! Replies that never change, in their form on the wire.

use crate::address::AddressError;
use crate::command::CommandError;
use crate::data::DataRefusal;

pub(super) const ALREADY_AUTHENTICATED: &str = "503 5.5.1 already authenticated\r\n";
pub(super) const AUTHENTICATED: &str = "235 2.7.0 authenticated\r\n";
pub(super) const AUTH_BASE64: &str = "501 5.5.2 the response is not valid base64\r\n";
pub(super) const AUTH_CANCELLED: &str = "501 5.7.0 authentication cancelled\r\n";
pub(super) const AUTH_LINE_TOO_LONG: &str =
    "500 5.5.6 authentication exchange line is too long\r\n";
pub(super) const AUTH_MALFORMED: &str = "501 5.5.2 the response is not one of the mechanism\r\n";
pub(super) const AUTH_MECHANISM: &str = "504 5.5.4 authentication mechanism not supported\r\n";
pub(super) const AUTH_NEEDS_TLS: &str =
    "538 5.7.11 encryption required for this authentication mechanism\r\n";
pub(super) const AUTH_NOT_OFFERED: &str = "502 5.5.1 authentication is not offered here\r\n";
pub(super) const AUTH_REQUIRED: &str = "530 5.7.0 authentication required\r\n";
pub(super) const AUTH_TOO_MANY_FAILURES: &str =
    "421 4.7.0 too many authentication failures, closing connection\r\n";
pub(super) const BYE: &str = "221 2.0.0 closing connection\r\n";
pub(super) const EXPN: &str = "502 5.5.1 EXPN is not offered here\r\n";
pub(super) const HELLO_FIRST: &str = "503 5.5.1 send EHLO or HELO first\r\n";
pub(super) const HELP: &str = "214 2.0.0 see RFC 5321\r\n";
pub(super) const IN_TRANSACTION: &str = "503 5.5.1 not during a mail transaction\r\n";
pub(super) const LINE_TOO_LONG: &str = "500 5.5.2 command line is too long\r\n";
pub(super) const MAIL_FIRST: &str = "503 5.5.1 send MAIL first\r\n";
pub(super) const MAIL_TWICE: &str = "503 5.5.1 a mail transaction is open already\r\n";
pub(super) const NO_RECIPIENTS: &str = "554 5.5.1 no valid recipients\r\n";
pub(super) const OCTETS: &str =
    "500 5.5.2 bare CR, bare LF, NUL or another control character in a command\r\n";
pub(super) const OK: &str = "250 2.0.0 ok\r\n";
pub(super) const OK_RECIPIENT: &str = "250 2.1.5 ok\r\n";
pub(super) const OK_SENDER: &str = "250 2.1.0 ok\r\n";
pub(super) const PIPELINED: &str =
    "503 5.5.1 commands sent without waiting for a reply, closing connection\r\n";
pub(super) const SHUTDOWN: &str = "421 4.3.2 system is shutting down, closing connection\r\n";
pub(super) const START_MAIL_INPUT: &str = "354 end with <CR><LF>.<CR><LF>\r\n";
pub(super) const STARTTLS_FIRST: &str = "530 5.7.0 must issue a STARTTLS command first\r\n";
pub(super) const STARTTLS_NOT_OFFERED: &str = "502 5.5.1 STARTTLS is not offered here\r\n";
pub(super) const STARTTLS_READY: &str = "220 2.0.0 ready to start TLS\r\n";
pub(super) const STARTTLS_TWICE: &str = "503 5.5.1 TLS is active already\r\n";
pub(super) const TALKED_FIRST: &str =
    "554 5.5.1 commands sent before the greeting, closing connection\r\n";
pub(super) const TIMED_OUT: &str = "421 4.4.2 timeout, closing connection\r\n";
pub(super) const TOO_LARGE: &str = "552 5.3.4 message too large\r\n";
pub(super) const TOO_MANY_IDLE: &str =
    "421 4.7.0 too many commands without a message, closing connection\r\n";
pub(super) const TOO_MANY_JUNK: &str = "421 4.7.0 too many errors, closing connection\r\n";
pub(super) const TOO_MANY_RECIPIENTS: &str = "452 4.5.3 too many recipients\r\n";
pub(super) const VRFY: &str = "252 2.5.2 cannot verify the user, but will take mail\r\n";

pub(super) fn command_error(error: CommandError, verb: Verb) -> &'static str {
    match error {
        CommandError::Address(error) => address_error(error, verb),
        CommandError::Argument => "501 5.5.4 syntax error in arguments\r\n",
        CommandError::Octets => OCTETS,
        CommandError::ParameterTwice => "501 5.5.4 a parameter is given twice\r\n",
        // RFC 5321 §4.1.1.11
        CommandError::ParameterUnknown => "555 5.5.4 parameter not recognised\r\n",
        CommandError::ParameterValue => "501 5.5.4 parameter value not valid\r\n",
        CommandError::Unknown => "500 5.5.1 command not recognised\r\n",
    }
}

/// Which address a command is about: RFC 3463 has a code for either.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Mail,
    Other,
}

fn address_error(error: AddressError, verb: Verb) -> &'static str {
    match (error, verb) {
        // RFC 6531 §3.7.4.2 and RFC 5248
        (AddressError::NonAscii, _) => "553 5.6.7 address needs SMTPUTF8\r\n",
        (AddressError::Brackets, Verb::Mail) => {
            "501 5.1.7 syntax is MAIL FROM:<address>, in angle brackets\r\n"
        }
        (AddressError::Brackets, Verb::Other) => {
            "501 5.1.3 syntax is RCPT TO:<address>, in angle brackets\r\n"
        }
        (_, Verb::Mail) => "501 5.1.7 sender address is not valid\r\n",
        (_, Verb::Other) => "501 5.1.3 recipient address is not valid\r\n",
    }
}

pub(super) fn data_refusal(refusal: DataRefusal) -> &'static str {
    match refusal {
        DataRefusal::BareCarriageReturn | DataRefusal::BareLineFeed | DataRefusal::Nul => {
            "550 5.6.0 message has a bare CR, bare LF or NUL; lines end in CRLF\r\n"
        }
        DataRefusal::HeaderTooLarge => "552 5.3.4 message header section too large\r\n",
        DataRefusal::LineTooLong => "550 5.6.0 message has a line that is too long\r\n",
        DataRefusal::TooLarge => TOO_LARGE,
    }
}
