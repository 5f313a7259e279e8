use smtp::{
    AddressError, AddressLiteral, Domain, ForwardPath, HeloName, LocalPart, Mailbox, ReversePath,
};

#[test]
fn domains() {
    let check = |text: &str, expected: Result<&str, AddressError>| {
        let parsed = Domain::parse(text);
        assert_eq!(
            parsed.as_ref().map(Domain::as_str).map_err(|e| *e),
            expected,
            "{text:?}"
        );
    };
    check("example.org", Ok("example.org"));
    check("EXAMPLE.Org", Ok("example.org"));
    check("localhost", Ok("localhost"));
    check("xn--bcher-kva.example", Ok("xn--bcher-kva.example"));
    check("3com.example", Ok("3com.example"));
    check(&"a".repeat(63), Ok(&"a".repeat(63)));
    check(&"a".repeat(64), Err(AddressError::Domain));
    let long = [
        "a".repeat(63),
        "b".repeat(63),
        "c".repeat(63),
        "d".repeat(63),
    ]
    .join(".");
    check(&long, Ok(&long));
    check(&format!("{long}.e"), Err(AddressError::DomainTooLong));
    for text in [
        "", ".", "a.", ".a", "a..b", "-a.b", "a-.b", "a_b.c", "a b", "a\r\nb", "a\0b", "[a]", "a@b",
    ] {
        check(text, Err(AddressError::Domain));
    }
    check("bücher.example", Err(AddressError::NonAscii));
}

#[test]
fn address_literals() {
    let check = |text: &str, expected: Option<&str>| {
        let parsed = AddressLiteral::parse(text)
            .ok()
            .map(|literal| literal.to_string());
        assert_eq!(parsed.as_deref(), expected, "{text:?}");
    };
    check("[192.0.2.1]", Some("[192.0.2.1]"));
    check("[IPv6:2001:DB8::1]", Some("[IPv6:2001:db8::1]"));
    check("[ipv6:::1]", Some("[IPv6:::1]"));
    for text in [
        "",
        "[]",
        "[",
        "]",
        "192.0.2.1",
        "[192.0.2]",
        "[192.0.2.256]",
        "[192.0.2.01]",
        "[192.0.2.1",
        "[2001:db8::1]",
        "[IPv6:]",
        "[IPv6:192.0.2.1]",
        "[IPv6:::1%eth0]",
        "[x-tag:abc]",
        "[ 192.0.2.1 ]",
    ] {
        check(text, None);
    }
}

#[test]
fn local_parts() {
    let check = |text: &str, expected: Result<&str, AddressError>| {
        let parsed = LocalPart::parse(text).map(|part| part.unquoted().into_owned());
        assert_eq!(parsed, expected.map(str::to_owned), "{text:?}");
    };
    check("Jones", Ok("Jones"));
    check("a.b+c", Ok("a.b+c"));
    check("!#$%&'*+-/=?^_`{|}~", Ok("!#$%&'*+-/=?^_`{|}~"));
    check(r#""a b""#, Ok("a b"));
    check(r#""a\"b\\c""#, Ok(r#"a"b\c"#));
    check(r#""a@b""#, Ok("a@b"));
    check(r#""""#, Ok(""));
    check(&"a".repeat(64), Ok(&"a".repeat(64)));
    check(&"a".repeat(65), Err(AddressError::LocalPartTooLong));
    for text in [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "a b",
        "a@b",
        "a\"b",
        "\"",
        "\"a",
        "a\"",
        "\"a\"b",
        "\"a\"b\"",
        "\"a\\\"",
        "\"a\r\nb\"",
        "\"a\0b\"",
        "\"a\\\0b\"",
        "(a)",
        "a,b",
        "a<b",
        "a:b",
        "a;b",
        "a[b",
    ] {
        check(text, Err(AddressError::LocalPart));
    }
    check("jürgen", Err(AddressError::NonAscii));
}

#[test]
fn quotes_stay() {
    let quoted: Mailbox = r#""a b"@Example.ORG"#.parse().unwrap();
    assert_eq!(quoted.to_string(), r#""a b"@example.org"#);
    let needless: Mailbox = r#""jones"@example.org"#.parse().unwrap();
    assert_eq!(needless.to_string(), r#""jones"@example.org"#);
}

#[test]
fn mailboxes() {
    let check = |text: &str, expected: Result<&str, AddressError>| {
        let parsed = Mailbox::parse(text).map(|mailbox| mailbox.to_string());
        assert_eq!(parsed, expected.map(str::to_owned), "{text:?}");
    };
    check("Smith@Example.ORG", Ok("Smith@example.org"));
    check("a@[192.0.2.1]", Ok("a@[192.0.2.1]"));
    check(r#""a@b"@c.example"#, Ok(r#""a@b"@c.example"#));
    check("a", Err(AddressError::MissingDomain));
    check(r#""a""#, Err(AddressError::MissingDomain));
    check(r#""a"b@c"#, Err(AddressError::MissingDomain));
    check("a@", Err(AddressError::Domain));
    check("@a", Err(AddressError::LocalPart));
    check("a@b@c", Err(AddressError::Domain));
    check("a@[1.2.3]", Err(AddressError::Literal));
    check("a b@c", Err(AddressError::LocalPart));
    let domain = ["a".repeat(63), "b".repeat(63), "c".repeat(61)].join(".");
    let longest = format!("{}@{domain}", "x".repeat(64));
    assert_eq!(longest.len(), 254);
    check(&longest, Ok(&longest));
    check(&format!("{longest}d"), Err(AddressError::PathTooLong));
}

#[test]
fn mailboxes_compare_by_case_on_the_left_only() {
    let mailbox = |text: &str| text.parse::<Mailbox>().unwrap();
    assert_eq!(mailbox("a@EXAMPLE.org"), mailbox("a@example.ORG"));
    assert_ne!(mailbox("A@example.org"), mailbox("a@example.org"));
}

#[test]
fn paths() {
    let reverse = |text: &str, expected: Result<&str, AddressError>| {
        let parsed = ReversePath::parse(text).map(|path| path.to_string());
        assert_eq!(parsed, expected.map(str::to_owned), "{text:?}");
    };
    reverse("<>", Ok("<>"));
    reverse("<a@b>", Ok("<a@b>"));
    reverse("<@x,@y:a@b>", Ok("<a@b>"));
    reverse("a@b", Err(AddressError::Brackets));
    reverse("<a@b", Err(AddressError::Brackets));
    reverse("< >", Err(AddressError::MissingDomain));
    reverse("<Postmaster>", Err(AddressError::MissingDomain));
    reverse("<@x:>", Err(AddressError::MissingDomain));
    reverse("<@x>", Err(AddressError::SourceRoute));
    reverse("<@x y:a@b>", Err(AddressError::SourceRoute));
    reverse("<x:a@b>", Err(AddressError::LocalPart));

    let forward = |text: &str, expected: Result<&str, AddressError>| {
        let parsed = ForwardPath::parse(text).map(|path| path.to_string());
        assert_eq!(parsed, expected.map(str::to_owned), "{text:?}");
    };
    forward("<postMASTER>", Ok("<Postmaster>"));
    forward("<Postmaster@b>", Ok("<Postmaster@b>"));
    forward("<@relay:a@b>", Ok("<a@b>"));
    forward("<>", Err(AddressError::MissingDomain));
    let route = format!("<@{}:a@b>", "x".repeat(250));
    forward(&route, Err(AddressError::PathTooLong));
}

#[test]
fn routes_are_seen_in_local_parts() {
    let check = |text: &str, expected: bool| {
        assert_eq!(
            LocalPart::parse(text).unwrap().hides_route(),
            expected,
            "{text:?}"
        );
    };
    check("user", false);
    check("user+tag", false);
    check("user%elsewhere.example", true);
    check("elsewhere!user", true);
    check(r#""user@elsewhere.example""#, true);
    check(r#""user\@elsewhere.example""#, true);
    check(r#""a b""#, false);
}

#[test]
fn helo_names() {
    let check = |text: &str, expected: bool| {
        assert_eq!(HeloName::parse(text).is_ok(), expected, "{text:?}");
    };
    for text in [
        "a.example",
        "MY_PC",
        "[192.0.2.1]",
        "[IPv6:::1]",
        "192.0.2.1",
        "localhost",
    ] {
        check(text, true);
    }
    for text in [
        "", "a b", "a\r\nb", "(a)", "a;b", "<a>", "ä", "a\0", "a\\b", "\"a\"",
    ] {
        check(text, false);
    }
    check(&"x".repeat(256), false);
    let host = |text: &str| {
        HeloName::parse(text)
            .unwrap()
            .host()
            .map(|host| host.to_string())
    };
    assert_eq!(host("A.example").as_deref(), Some("a.example"));
    assert_eq!(host("MY_PC"), None);
}
