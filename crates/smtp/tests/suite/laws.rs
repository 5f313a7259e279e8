//! Laws that hold for any input.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use proptest::sample::select;
use smtp::command::Command;
use smtp::data::{DataLimits, DataReader, DataRefusal};
use smtp::reply::ReplyReader;
use smtp::server::{Config, ConnectionSecurity, Output, Session};
use smtp::{Content, EnhancedStatus, ForwardPath, Mailbox, Reply, ReplyCode, ReversePath, client};

use crate::transcript::epoch;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mailbox_survives_its_text(text in mailbox_text()) {
        let mailbox: Mailbox = text.parse().unwrap();
        prop_assert_eq!(&mailbox.to_string().parse::<Mailbox>().unwrap(), &mailbox);
        let path = ForwardPath::Mailbox(mailbox.clone());
        prop_assert_eq!(&path.to_string().parse::<ForwardPath>().unwrap(), &path);
        let path = ReversePath::Mailbox(mailbox);
        prop_assert_eq!(&path.to_string().parse::<ReversePath>().unwrap(), &path);
    }

    #[test]
    fn what_parses_as_a_mailbox_is_harmless(text in "[ -~\\r\\n\\x00<>@\"\\\\.a-c]{0,20}") {
        if let Ok(mailbox) = text.parse::<Mailbox>() {
            let text = mailbox.to_string();
            prop_assert!(!text.bytes().any(|o| o.is_ascii_control()));
            prop_assert_eq!(text.parse::<Mailbox>(), Ok(mailbox));
        }
    }

    #[test]
    fn a_command_survives_its_line(command in command_line()) {
        let parsed = Command::parse(command.as_bytes()).unwrap();
        let line = parsed.to_string();
        prop_assert_eq!(Command::parse(line.as_bytes()), Ok(parsed));
    }

    #[test]
    fn any_octets_are_a_command_or_an_error(line in vec(any::<u8>(), 0..80)) {
        if let Ok(command) = Command::parse(&line) {
            let line = command.to_string();
            prop_assert!(!line.bytes().any(|o| o.is_ascii_control()));
        }
    }

    #[test]
    fn a_reply_survives_the_wire(reply in reply(), cut in 1usize..20) {
        let mut wire = BytesMut::new();
        reply.write_to(&mut wire);
        let mut reader = ReplyReader::default();
        let mut input = BytesMut::new();
        let mut read = None;
        for piece in wire.chunks(cut) {
            prop_assert!(read.is_none());
            input.extend_from_slice(piece);
            read = reader.read(&mut input).unwrap();
        }
        prop_assert_eq!(read, Some(reply));
    }

    #[test]
    fn any_text_makes_one_reply(text in any::<String>()) {
        let reply = Reply::new(ReplyCode::OK, Some(EnhancedStatus::success(0, 0)), text);
        let mut wire = BytesMut::new();
        reply.write_to(&mut wire);
        let read = ReplyReader::default().read(&mut wire).unwrap();
        prop_assert!(read.is_some());
        prop_assert!(wire.is_empty());
    }

    #[test]
    fn content_is_stuffed_and_unstuffed(raw in raw_content(), cut in 1usize..40) {
        let content = Content::from_raw(&raw).unwrap();
        prop_assert_eq!(&content.to_raw(), &raw);
        prop_assert_eq!(content.raw_len(), raw.len() as u64);
        prop_assert_eq!(content.has_8bit(), !raw.is_ascii());
        let mut lines = content.lines().collect::<Vec<_>>().join(&b"\r\n"[..]);
        if !raw.is_empty() {
            lines.extend_from_slice(b"\r\n");
        }
        prop_assert_eq!(&lines, &raw);

        let wire = [&content.chunks().concat()[..], b".\r\n"].concat();
        let read = read_cut(&wire, cut).unwrap();
        prop_assert_eq!(read.to_raw(), raw);
        prop_assert_eq!(read.raw_len(), content.raw_len());

        let pieces: Vec<_> = content.chunks().concat().chunks(cut).map(Bytes::copy_from_slice).collect();
        let again = Content::from_stuffed(pieces).unwrap();
        prop_assert_eq!(again.to_raw(), content.to_raw());
        prop_assert_eq!(again.lines().collect::<Vec<_>>(), content.lines().collect::<Vec<_>>());
    }

    /// A second opinion on the end of the content and on the line rule, written without cleverness.
    #[test]
    fn the_reader_agrees_with_the_rule(octets in hostile_content(), cut in 1usize..9) {
        let wire = [&octets[..], b"\r\n.\r\n"].concat();
        let end = if wire.starts_with(b".\r\n") {
            0
        } else {
            memchr::memmem::find(&wire, b"\r\n.\r\n").unwrap() + 2
        };
        let (content, behind) = (&wire[..end], &wire[end + 3..]);
        let is_broken = content.iter().enumerate().any(|(i, octet)| match octet {
            0 => true,
            b'\r' => content.get(i + 1) != Some(&b'\n'),
            b'\n' => i == 0 || content[i - 1] != b'\r',
            _ => false,
        });
        for cut in [cut, usize::MAX] {
            let mut reader = DataReader::new(DataLimits::with_size(1 << 20));
            let mut input = BytesMut::new();
            let mut pieces = wire.chunks(cut.min(wire.len()));
            let read = loop {
                input.extend_from_slice(pieces.next().unwrap());
                if let Some(read) = reader.read(&mut input) {
                    break read;
                }
            };
            let rest = [&input[..], &pieces.collect::<Vec<_>>().concat()].concat();
            prop_assert_eq!(&rest[..], behind);
            prop_assert_eq!(read.is_err(), is_broken);
            if let Ok(read) = read {
                prop_assert_eq!(read.chunks().concat(), content);
                prop_assert!(Content::from_stuffed(read.chunks().to_vec()).is_ok());
            }
        }
    }

    /// Groups of commands, with content between them, whose octets arrive in any pieces.
    #[test]
    fn the_cut_of_the_stream_makes_no_difference(
        groups in vec(group(), 1..6),
        cuts in vec(1usize..30, 1..6),
    ) {
        let whole = dialogue(&groups, &[usize::MAX]);
        prop_assert_eq!(&dialogue(&groups, &cuts), &whole);
        prop_assert_eq!(dialogue(&groups, &[1]), whole);
    }

    #[test]
    fn any_octets_leave_a_server_alive_and_small(pieces in vec(vec(noise(), 0..60), 0..12)) {
        let mut session = server();
        let mut input = BytesMut::new();
        drain(&mut session, &mut input);
        let mut closed = false;
        for piece in pieces {
            input.extend_from_slice(&piece.concat());
            session.handle_input(epoch(), &mut input);
            closed |= drain(&mut session, &mut input).1;
            prop_assert!(!closed || input.is_empty());
        }
    }

    #[test]
    fn any_octets_leave_a_client_alive(pieces in vec(vec(reply_noise(), 0..20), 0..12)) {
        let config = client::Config::new("client.example.org".parse().unwrap());
        let mut session = client::Session::new(config, epoch());
        let mut input = BytesMut::new();
        for piece in pieces {
            input.extend_from_slice(&piece.concat());
            session.handle_input(epoch(), &mut input);
            while let Some(output) = session.poll_output() {
                match output {
                    client::Output::StartTls => session.handle_tls_established(epoch()),
                    client::Output::Event(client::Event::FinalDot) => {
                        session.release_final_dot(epoch());
                    }
                    _ => {}
                }
            }
            if session.is_ready() {
                let transaction = client::Transaction {
                    reverse_path: ReversePath::Null,
                    recipients: vec!["<a@b.example>".parse().unwrap(); 2],
                    content: Content::from_raw(b"x\r\n").unwrap().into(),
                };
                prop_assert_eq!(session.send(epoch(), transaction), Ok(()));
            }
        }
    }
}

fn mailbox_text() -> impl Strategy<Value = String> {
    let local = prop_oneof![
        "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,8}(\\.[a-zA-Z0-9]{1,8}){0,2}",
        "\"([ !#-\\[\\]-~]|\\\\[ -~]){0,10}\"",
    ];
    let host = prop_oneof![
        "[a-zA-Z0-9]([a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?(\\.[a-zA-Z]{1,8}){0,3}",
        any::<std::net::Ipv4Addr>().prop_map(|address| format!("[{address}]")),
        any::<std::net::Ipv6Addr>().prop_map(|address| format!("[IPv6:{address}]")),
    ];
    (local, host).prop_map(|(local, host)| format!("{local}@{host}"))
}

fn command_line() -> impl Strategy<Value = String> {
    let parameters = (
        any::<Option<u64>>(),
        0..3usize,
        proptest::option::of(mailbox_text()),
    )
        .prop_map(|(size, body, auth)| {
            let mut text = size.map(|size| format!(" SIZE={size}")).unwrap_or_default();
            text.push_str(["", " BODY=7BIT", " BODY=8BITMIME"][body]);
            if let Some(auth) = auth {
                // Through the type, which encodes it as xtext.
                let auth = auth.parse::<Mailbox>().unwrap();
                let parameters = smtp::MailParameters {
                    auth: Some(ReversePath::Mailbox(auth)),
                    ..Default::default()
                };
                text.push_str(&parameters.to_string());
            }
            text
        });
    prop_oneof![
        (mailbox_text(), parameters).prop_map(|(m, p)| format!("MAIL FROM:<{m}>{p}")),
        mailbox_text().prop_map(|m| format!("RCPT TO:<{m}>")),
        "(EHLO|HELO) [a-zA-Z0-9._-]{1,20}",
        "(DATA|RSET|QUIT|STARTTLS)",
        "(NOOP|HELP)( [!-~]{1,10})?",
        "(VRFY|EXPN) [!-~]{1,10}",
        "AUTH [A-Z0-9_-]{1,20}( [A-Za-z0-9+/=]{1,20})?",
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let status = (0u16..=999, 0u16..=999);
    (
        200u16..600,
        proptest::option::of(status),
        vec("([a-z][ -~]{0,30})?", 1..4),
    )
        .prop_map(|(code, status, lines)| {
            let code = ReplyCode::new(code).unwrap();
            let status = status.and_then(|(subject, detail)| match code.value() / 100 {
                2 => Some(EnhancedStatus::success(subject, detail)),
                4 => Some(EnhancedStatus::transient(subject, detail)),
                5 => Some(EnhancedStatus::permanent(subject, detail)),
                _ => None,
            });
            Reply::new(code, status, lines.join("\n"))
        })
}

fn raw_content() -> impl Strategy<Value = Vec<u8>> {
    const PARTS: &[&[u8]] = &[b".", b"..", b"a", b"\r\n", b"\xe4"];
    vec(select(PARTS), 0..60).prop_map(|parts| {
        let mut raw = parts.concat();
        if !raw.is_empty() && !raw.ends_with(b"\r\n") {
            raw.extend_from_slice(b"\r\n");
        }
        raw
    })
}

fn hostile_content() -> impl Strategy<Value = Vec<u8>> {
    const GOOD: &[&[u8]] = &[b"a", b".", b"\r\n"];
    const BAD: &[&[u8]] = &[b"\r", b"\n", b"\0"];
    let part = prop_oneof![4 => select(GOOD), 1 => select(BAD)];
    vec(part, 0..14).prop_map(|parts| parts.concat())
}

fn read_cut(wire: &[u8], cut: usize) -> Result<Content, DataRefusal> {
    let mut reader = DataReader::new(DataLimits::with_size(1 << 20));
    let mut input = BytesMut::new();
    for piece in wire.chunks(cut) {
        input.extend_from_slice(piece);
        if let Some(read) = reader.read(&mut input) {
            return read;
        }
    }
    panic!("the end must be found");
}

/// What a client may send without waiting.
fn group() -> impl Strategy<Value = Vec<u8>> {
    let quick = prop_oneof![
        Just("MAIL FROM:<a@b.example>\r\n"),
        Just("MAIL FROM:<> SIZE=7\r\n"),
        Just("RCPT TO:<c@d.example>\r\n"),
        Just("RCPT TO:c\r\n"),
        Just("RSET\r\n"),
        Just("JUNK\r\n"),
        Just("NOOP\0\r\n"),
        Just("RSET\n"),
    ];
    let last = prop_oneof![
        4 => Just("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"),
        1 => Just("DATA\r\n"),
        1 => Just("EHLO e.example\r\n"),
        1 => Just("NOOP\r\n"),
        1 => Just("AUTH PLAIN AGEAYg==\r\n"),
    ];
    let content = hostile_content().prop_map(|content| [&content[..], b"\r\n.\r\n"].concat());
    prop_oneof![
        2 => (vec(quick, 0..5), last)
            .prop_map(|(quick, last)| [quick.concat(), last.to_owned()].concat().into_bytes()),
        1 => content,
    ]
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    const WORDS: &[&str] = &[
        "EHLO a",
        "HELO a",
        "MAIL FROM:<a@b.example>",
        "RCPT TO:<a@b.example>",
        "DATA",
        "RSET",
        "QUIT",
        "AUTH LOGIN",
        "\r\n",
        "\r\n.\r\n",
        "\r\n",
        "\r\n",
        ".",
        "\n",
        "\r",
        "\0",
        "<",
        ">",
        "\"",
        " ",
        "=",
        "AGEAYg==",
    ];
    prop_oneof![
        9 => select(WORDS).prop_map(|word| word.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 1..4),
    ]
}

fn reply_noise() -> impl Strategy<Value = Vec<u8>> {
    const WORDS: &[&str] = &[
        "220 a\r\n",
        "250 a\r\n",
        "250-a\r\n",
        "250 STARTTLS\r\n",
        "250-PIPELINING\r\n",
        "354 a\r\n",
        "550 5.1.1 a\r\n",
        "450 a\r\n",
        "421 a\r\n",
        "334 a\r\n",
        "2",
        "5",
        "0",
        "\r\n",
        "\n",
        " ",
        "-",
    ];
    prop_oneof![
        9 => select(WORDS).prop_map(|word| word.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 1..4),
    ]
}

fn server() -> Session {
    let mut config = Config::new("relay.example.net".parse().unwrap());
    config.authentication = smtp::server::Authentication::Offered;
    config.clear_text_authentication = smtp::server::ClearTextAuthentication::Allowed;
    Session::new(Arc::new(config), epoch(), ConnectionSecurity::Clear)
}

/// All that came out, in order, events as text; and whether the session ended.
fn drain(session: &mut Session, input: &mut BytesMut) -> (Vec<String>, bool) {
    let (mut out, mut closed) = (Vec::new(), false);
    while let Some(output) = session.poll_output() {
        match output {
            Output::Event(event) => {
                out.push(match &event {
                    // Chunks may be cut differently; the octets may not.
                    smtp::server::Event::Message(message) => {
                        format!("{} {:?}", message.reverse_path, message.content.to_raw())
                    }
                    other => format!("{other:?}"),
                });
                match event {
                    smtp::server::Event::Authenticate(_) => {
                        session.authentication_accepted(epoch(), "a");
                    }
                    _ => session.accept(epoch()),
                }
                session.handle_input(epoch(), input);
            }
            Output::Write(octets) => out.push(String::from_utf8(octets.to_vec()).unwrap()),
            Output::StartTls => {}
            Output::Close => closed = true,
        }
    }
    (out, closed)
}

fn dialogue(groups: &[Vec<u8>], cuts: &[usize]) -> (Vec<String>, String) {
    let mut session = server();
    let mut input = BytesMut::new();
    let mut cuts = cuts.iter().copied().cycle();
    let (mut events, mut replies) = (Vec::new(), String::new());
    let mut take = |session: &mut Session, input: &mut BytesMut| {
        for line in drain(session, input).0 {
            if line.ends_with("\r\n") {
                replies.push_str(&line)
            } else {
                events.push(line)
            }
        }
    };
    take(&mut session, &mut input);
    for group in groups {
        let mut rest = &group[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            input.extend_from_slice(piece);
            session.handle_input(epoch(), &mut input);
            take(&mut session, &mut input);
            rest = behind;
        }
    }
    (events, replies)
}
