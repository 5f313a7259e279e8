use smtp::command::{Command, CommandError};
use smtp::{AddressError, Body};

#[test]
fn commands() {
    let check = |line: &str, expected: &str| {
        let command = Command::parse(line.as_bytes()).unwrap_or_else(|e| panic!("{line:?}: {e}"));
        assert_eq!(command.to_string(), expected, "{line:?}");
    };
    check("ehlo Client.example", "EHLO Client.example");
    check("HeLo [192.0.2.1]", "HELO [192.0.2.1]");
    check("mail from:<A@B.example>", "MAIL FROM:<A@b.example>");
    check(
        "MAIL FROM:<>  size=7   body=8bitmime ",
        "MAIL FROM:<> SIZE=7 BODY=8BITMIME",
    );
    check("MAIL FROM:<a@b> AUTH=<>", "MAIL FROM:<a@b> AUTH=<>");
    check(
        "MAIL FROM:<a@b> AUTH=e+3Dmc2@x",
        "MAIL FROM:<a@b> AUTH=e+3Dmc2@x",
    );
    check("MAIL  FROM: <a@b>", "MAIL FROM:<a@b>");
    check("rcpt to:<\"a > b\"@c>", "RCPT TO:<\"a > b\"@c>");
    check("RCPT TO:<POSTMASTER>", "RCPT TO:<Postmaster>");
    check("data  ", "DATA");
    check("quit", "QUIT");
    check("rset", "RSET");
    check("starttls", "STARTTLS");
    check("noop", "NOOP");
    check("noop  x y", "NOOP  x y");
    check("help mail", "HELP mail");
    check("vrfy a", "VRFY a");
    check("expn a", "EXPN a");
    check("auth PLAIN", "AUTH PLAIN");
    check("AUTH plain =", "AUTH plain =");
}

#[test]
fn no_commands() {
    let check = |line: &[u8], expected: CommandError| {
        assert_eq!(
            Command::parse(line),
            Err(expected),
            "{}",
            line.escape_ascii()
        );
    };
    check(b"", CommandError::Unknown);
    check(b"MAILFROM:<a@b>", CommandError::Unknown);
    check(b" NOOP", CommandError::Unknown);
    check(b"BDAT 1 LAST", CommandError::Unknown);
    check(b"\xffNOOP", CommandError::Octets);
    for line in [
        &b"NOOP\0"[..],
        b"NOOP\r",
        b"NO\nOP",
        b"NOOP\x7f",
        b"MAIL FROM:<a@b>\tSIZE=1",
    ] {
        check(line, CommandError::Octets);
    }
    for line in [
        &b"EHLO"[..],
        b"EHLO a b",
        b"HELO (x)",
        b"MAIL",
        b"MAIL FROM",
        b"MAIL TO:<a@b>",
        b"MAIL FROM:<a@b>SIZE=1",
        b"RCPT FROM:<a@b>",
        b"DATA x",
        b"RSET x",
        b"QUIT x",
        b"STARTTLS x",
        b"VRFY",
        b"AUTH",
        b"AUTH PL@IN",
        b"AUTH PLAIN a b",
        b"AUTH PLAIN  a",
    ] {
        check(line, CommandError::Argument);
    }
    let address = CommandError::Address;
    check(b"MAIL FROM:a@b", address(AddressError::Brackets));
    check(b"MAIL FROM:<a@b", address(AddressError::Brackets));
    check(b"MAIL FROM:<\"a@b>", address(AddressError::Brackets));
    check(b"RCPT TO:<>", address(AddressError::MissingDomain));
    check("RCPT TO:<ä@b>".as_bytes(), address(AddressError::NonAscii));
    for line in [
        &b"MAIL FROM:<a@b> X=1"[..],
        b"MAIL FROM:<a@b> RET=HDRS",
        b"RCPT TO:<a@b> X",
    ] {
        check(line, CommandError::ParameterUnknown);
    }
    for line in [
        &b"MAIL FROM:<a@b> SIZE"[..],
        b"MAIL FROM:<a@b> SIZE=",
        b"MAIL FROM:<a@b> SIZE=-1",
        b"MAIL FROM:<a@b> SIZE=+1",
        b"MAIL FROM:<a@b> SIZE=1x",
        b"MAIL FROM:<a@b> BODY=9BIT",
        b"MAIL FROM:<a@b> SIZE=111111111111111111111",
    ] {
        check(line, CommandError::ParameterValue);
    }
    check(
        b"MAIL FROM:<a@b> BODY=7BIT body=7bit",
        CommandError::ParameterTwice,
    );
}

/// xtext is decoded, and then parsed like any other input.
#[test]
fn xtext_cannot_smuggle() {
    for value in [
        "a+0D+0A@b",
        "a+00@b",
        "a@b+0D+0ARCPT+20TO:<x@y>",
        "a+@b",
        "a+4@b",
        "a+4g@b",
        "a=@b",
        "+3c",
    ] {
        let line = format!("MAIL FROM:<a@b> AUTH={value}");
        assert_eq!(
            Command::parse(line.as_bytes()),
            Err(CommandError::ParameterValue),
            "{value}"
        );
    }
}

#[test]
fn parameters() {
    let Ok(Command::Mail { parameters, .. }) =
        Command::parse(b"MAIL FROM:<a@b> BODY=7BIT SIZE=99999999999999999999")
    else {
        panic!("a MAIL command");
    };
    assert_eq!(parameters.body, Some(Body::SevenBit));
    assert_eq!(
        parameters.size,
        Some(u64::MAX),
        "too large for 64 bits is too large for us"
    );
}
