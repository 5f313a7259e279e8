use super::{Command, MailParameters, RecipientParameters};
use crate::address::{AddressError, ForwardPath, HeloName, ReversePath};

/// Why a line is not a command that can be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// An address that is not one.
    #[error(transparent)]
    Address(AddressError),
    /// An argument where none may be, or none where one must be, or not as it must be.
    #[error("syntax error in parameters or arguments")]
    Argument,
    /// A CR, LF or NUL, or another octet that no command has.
    #[error("the command line has octets that are not allowed")]
    Octets,
    /// A keyword that occurs twice.
    #[error("a parameter is given twice")]
    ParameterTwice,
    /// A keyword of an extension that is not offered.
    #[error("a parameter is not recognised")]
    ParameterUnknown,
    /// A value that its keyword does not allow.
    #[error("the value of a parameter is not valid")]
    ParameterValue,
    /// A verb that is not one.
    #[error("the command is not recognised")]
    Unknown,
}

pub(super) fn parse(line: &[u8]) -> Result<Command<'_>, CommandError> {
    // What is allowed in a command is printable ASCII; CR, LF and NUL above all are not. Octets
    // outside ASCII only occur in addresses, where they have an error of their own.
    if line.iter().any(u8::is_ascii_control) {
        return Err(CommandError::Octets);
    }
    let line = str::from_utf8(line).map_err(|_| CommandError::Octets)?;
    // RFC 5321 §4.1.1: white space before the CRLF is tolerated.
    let line = line.trim_end_matches(' ');
    let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
    let is = |name: &str| verb.eq_ignore_ascii_case(name);
    if is("MAIL") {
        let (path, rest) = path(argument, "FROM:")?;
        let reverse_path = ReversePath::parse(path).map_err(CommandError::Address)?;
        let parameters = MailParameters::parse(rest)?;
        Ok(Command::Mail {
            reverse_path,
            parameters,
        })
    } else if is("RCPT") {
        let (path, rest) = path(argument, "TO:")?;
        let forward_path = ForwardPath::parse(path).map_err(CommandError::Address)?;
        let parameters = RecipientParameters::parse(rest)?;
        Ok(Command::Rcpt {
            forward_path,
            parameters,
        })
    } else if is("DATA") {
        without_argument(argument, Command::Data)
    } else if is("EHLO") {
        HeloName::parse(argument.trim())
            .map(Command::Ehlo)
            .map_err(|_| CommandError::Argument)
    } else if is("RSET") {
        without_argument(argument, Command::Rset)
    } else if is("QUIT") {
        without_argument(argument, Command::Quit)
    } else if is("AUTH") {
        auth(argument)
    } else if is("STARTTLS") {
        without_argument(argument, Command::StartTls)
    } else if is("HELO") {
        HeloName::parse(argument.trim())
            .map(Command::Helo)
            .map_err(|_| CommandError::Argument)
    } else if is("NOOP") {
        Ok(Command::Noop(argument))
    } else if is("VRFY") {
        with_argument(argument).map(Command::Vrfy)
    } else if is("EXPN") {
        with_argument(argument).map(Command::Expn)
    } else if is("HELP") {
        Ok(Command::Help(argument))
    } else {
        Err(CommandError::Unknown)
    }
}

/// Splits `FROM:<path> parameters`. White space behind the colon breaks the grammar but is in wide
/// use, and cannot be mistaken for anything.
fn path<'a>(argument: &'a str, prefix: &str) -> Result<(&'a str, &'a str), CommandError> {
    let rest = argument
        .trim_start_matches(' ')
        .split_at_checked(prefix.len())
        .and_then(|(head, rest)| head.eq_ignore_ascii_case(prefix).then_some(rest))
        .ok_or(CommandError::Argument)?
        .trim_start_matches(' ');
    if !rest.starts_with('<') {
        return Err(CommandError::Address(AddressError::Brackets));
    }
    let end = path_len(rest.as_bytes()).ok_or(CommandError::Address(AddressError::Brackets))?;
    let (path, rest) = rest.split_at_checked(end).ok_or(CommandError::Argument)?;
    if rest.is_empty() || rest.starts_with(' ') {
        Ok((path, rest))
    } else {
        Err(CommandError::Argument)
    }
}

/// The length of `<...>`; a `>` inside a quoted string does not end it.
fn path_len(octets: &[u8]) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (index, octet) in octets.iter().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(index + 1),
            _ => {}
        }
    }
    None
}

fn auth(argument: &str) -> Result<Command<'_>, CommandError> {
    let (mechanism, initial) = match argument.split_once(' ') {
        Some((mechanism, initial)) => (mechanism, Some(initial)),
        None => (argument, None),
    };
    // RFC 4422 §3.1; a name that is no mechanism's name is a syntax error.
    let is_name = |o: u8| o.is_ascii_alphanumeric() || o == b'-' || o == b'_';
    let valid = (1..=20).contains(&mechanism.len()) && mechanism.bytes().all(is_name);
    if !valid || initial.is_some_and(|initial| initial.is_empty() || initial.contains(' ')) {
        return Err(CommandError::Argument);
    }
    Ok(Command::Auth { mechanism, initial })
}

fn without_argument<'a>(argument: &str, command: Command<'a>) -> Result<Command<'a>, CommandError> {
    if argument.is_empty() {
        Ok(command)
    } else {
        Err(CommandError::Argument)
    }
}

fn with_argument(argument: &str) -> Result<&str, CommandError> {
    if argument.is_empty() {
        Err(CommandError::Argument)
    } else {
        Ok(argument)
    }
}
