use bytes::BytesMut;
use smtp::reply::{ReplyError, ReplyReader};
use smtp::{EnhancedStatus, Reply, ReplyCode, Severity};

#[test]
fn replies_are_read() {
    let check = |wire: &str, code: u16, status: Option<&str>, lines: &[&str]| {
        let mut input = BytesMut::from(wire);
        let reply = ReplyReader::default().read(&mut input).unwrap().unwrap();
        assert_eq!(reply.code().value(), code, "{wire:?}");
        assert_eq!(
            reply.enhanced().map(|s| s.to_string()).as_deref(),
            status,
            "{wire:?}"
        );
        assert_eq!(reply.lines().collect::<Vec<_>>(), lines, "{wire:?}");
        assert!(input.is_empty());
    };
    check("250 ok\r\n", 250, None, &["ok"]);
    check("250\r\n", 250, None, &[""]);
    check("250 \r\n", 250, None, &[""]);
    check("250-a\r\n250-\r\n250 b\r\n", 250, None, &["a", "", "b"]);
    check("550 5.1.1 no\r\n", 550, Some("5.1.1"), &["no"]);
    check("550 5.7.509 no\r\n", 550, Some("5.7.509"), &["no"]);
    check(
        "550-5.1.1 a\r\n550 5.1.1 b\r\n",
        550,
        Some("5.1.1"),
        &["a", "b"],
    );
    check(
        "550-5.1.1 a\r\n550 5.1.2 b\r\n",
        550,
        Some("5.1.1"),
        &["a", "5.1.2 b"],
    );
    check(
        "550 4.1.1 class of another code\r\n",
        550,
        None,
        &["4.1.1 class of another code"],
    );
    check("250 2.0 is no status\r\n", 250, None, &["2.0 is no status"]);
    check(
        "250 2.1.1000 is no status\r\n",
        250,
        None,
        &["2.1.1000 is no status"],
    );
    check("570 odd\r\n", 570, None, &["odd"]);
    check("250 tab\there\x1b[31m\r\n", 250, None, &["tab here [31m"]);
    check("250 grüße\r\n", 250, None, &["grüße"]);
}

#[test]
fn what_is_no_reply_is_refused() {
    let check = |wire: &[u8], expected: ReplyError| {
        let mut input = BytesMut::from(wire);
        let read = ReplyReader::default().read(&mut input);
        assert_eq!(read, Err(expected), "{}", wire.escape_ascii());
    };
    for wire in [
        &b"\r\n"[..],
        b"25\r\n",
        b"2500\r\n",
        b"199 x\r\n",
        b"600 x\r\n",
        b"999 x\r\n",
        b"abc\r\n",
        b"250_x\r\n",
        b" 250 x\r\n",
        b"+50 x\r\n",
        b"250-a\r\n\r\n",
    ] {
        check(wire, ReplyError::Malformed);
    }
    check(b"250 ok\n", ReplyError::BareLineFeed);
    check(b"250 o\rk\r\n", ReplyError::BareCarriageReturn);
    check(b"250-a\r\n251 b\r\n", ReplyError::MixedCodes);
    check(&b"x".repeat(2049), ReplyError::LineTooLong);
    check(&b"250-x\r\n".repeat(128), ReplyError::TooManyLines);
}

#[test]
fn replies_are_written() {
    let check = |reply: &Reply, expected: &str| {
        let mut out = BytesMut::new();
        reply.write_to(&mut out);
        assert_eq!(str::from_utf8(&out).unwrap(), expected);
    };
    let code = ReplyCode::MAILBOX_UNAVAILABLE;
    let status = Some(EnhancedStatus::permanent(1, 1));
    check(&Reply::new(code, status, "no"), "550 5.1.1 no\r\n");
    check(&Reply::new(code, None, ""), "550 \r\n");
    check(
        &Reply::new(code, status, "a\nb"),
        "550-5.1.1 a\r\n550 5.1.1 b\r\n",
    );
    check(
        &Reply::new(code, status, "a").with_line("b"),
        "550-5.1.1 a\r\n550 5.1.1 b\r\n",
    );
    check(
        &Reply::new(code, Some(EnhancedStatus::permanent(7, 509)), "x"),
        "550 5.7.509 x\r\n",
    );
}

/// Whatever text a reply is made of, it stays one reply and its lines stay within 512 octets.
#[test]
fn text_cannot_break_out_of_a_reply() {
    let check = |text: &str, expected: &[&str]| {
        let reply = Reply::new(ReplyCode::OK, None, text.to_owned());
        assert_eq!(reply.lines().collect::<Vec<_>>(), expected, "{text:?}");
    };
    check("a\r\n221 bye", &["a", "221 bye"]);
    check("a\rb\0c\x7fd", &["a b c d"]);
    check("a\r\r\nb", &["a ", "b"]);
    let long = "ä".repeat(400);
    let reply = Reply::new(ReplyCode::OK, Some(EnhancedStatus::success(999, 999)), long);
    let mut out = BytesMut::new();
    reply.write_to(&mut out);
    assert!(out.len() <= 512 && out.len() > 500, "{}", out.len());
    assert!(str::from_utf8(&out).is_ok());
}

#[test]
fn a_reply_survives_its_display() {
    let check = |text: &str| {
        let reply: Reply = text.parse().unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert_eq!(reply.to_string(), text);
    };
    check("250 2.0.0 ok");
    check("550 5.7.1 go away: see https://example.org/");
    check("354 go");
    check("250");
    for text in ["", "25", "250 a\r\n250 b", "250-a", "600 x"] {
        assert!(text.parse::<Reply>().is_err(), "{text:?}");
    }
}

#[test]
fn severities() {
    let check = |code: u16, expected: Severity| {
        assert_eq!(ReplyCode::new(code).unwrap().severity(), expected);
    };
    check(200, Severity::PositiveCompletion);
    check(354, Severity::PositiveIntermediate);
    check(499, Severity::TransientNegative);
    check(599, Severity::PermanentNegative);
    for code in [0, 99, 199, 600, 999, 65535] {
        assert_eq!(ReplyCode::new(code), None);
    }
}

#[test]
fn status_codes() {
    let check = |text: &str, expected: Option<(u16, u16)>| {
        let parsed = text.parse::<EnhancedStatus>().ok();
        assert_eq!(
            parsed.map(|s| (s.subject(), s.detail())),
            expected,
            "{text:?}"
        );
        if let Some(status) = parsed {
            assert_eq!(status.to_string(), text);
        }
    };
    check("2.0.0", Some((0, 0)));
    check("4.7.25", Some((7, 25)));
    check("5.999.999", Some((999, 999)));
    for text in [
        "", "5", "5.1", "5.1.", "3.1.1", "5.1.1.1", "5.1000.1", "5.+1.1", "5. 1.1", "a.b.c",
    ] {
        check(text, None);
    }
}
