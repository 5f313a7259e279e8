//! SMTP smuggling (CVE-2023-51764, -51765, -51766): octets that some hosts take for the end of the
//! content and others do not.

use std::sync::Arc;

use bytes::BytesMut;
use smtp::data::DataRefusal;
use smtp::server::{Abandonment, Config, ConnectionSecurity, Event, Output, Session};

use crate::transcript::epoch;

/// Each is put between two lines of a message, with a whole second dialogue behind it. It must be
/// refused, the dialogue behind it must not be carried out, and the session must go on at the real
/// end.
#[test]
fn nothing_but_crlf_dot_crlf_ends_the_content() {
    use DataRefusal::{BareCarriageReturn as Cr, BareLineFeed as Lf, Nul};
    let check = |end: &[u8], expected: DataRefusal| {
        for cut in [1, 2, 3, usize::MAX] {
            let (refusals, messages, replies) = dialogue(end, cut);
            let what = end.escape_ascii();
            assert_eq!(refusals, [expected], "{what} in pieces of {cut}");
            assert_eq!(messages, 0, "{what} in pieces of {cut}");
            assert_eq!(
                replies,
                ["550 5.6.0", "250 2.0.0"],
                "{what} in pieces of {cut}"
            );
        }
    };
    check(b"\n.\n", Lf);
    check(b"\n.\r\n", Lf);
    check(b"\r\n.\n", Lf);
    check(b"\r.\r", Cr);
    check(b"\r.\r\n", Cr);
    check(b"\r\n.\r", Cr);
    check(b"\n.\r", Lf);
    check(b"\r.\n", Cr);
    check(b"\r\n\0.\r\n", Nul);
    check(b"\r\n.\0\r\n", Nul);
    check(b"\0\r\n.\n", Nul);
    check(b"\r\r\n.\r\r\n", Cr);
    check(b"\r\n.\r\r\n", Cr);
    check(b"\n\n.\n\n", Lf);
    check(b"\r\n.\n\r\n", Lf);
    check(b"\n\r.\r\n", Lf);
    check(b"\r\n\r.\r\n", Cr);
    check(b"\n", Lf);
    check(b"\r", Cr);
    check(b"\0", Nul);
}

/// What looks like an end but is content by the rule.
#[test]
fn content_that_only_looks_like_an_end_is_kept() {
    for line in [&b"\r\n..\r\n"[..], b"\r\n. \r\n", b"\r\n.x\r\n", b" .\r\n"] {
        for cut in [1, 2, 3, usize::MAX] {
            let (refusals, messages, replies) = dialogue(line, cut);
            assert_eq!(
                (refusals.len(), messages),
                (0, 1),
                "{}",
                line.escape_ascii()
            );
            assert_eq!(replies, ["250 2.0.0", "250 2.0.0"]);
        }
    }
}

/// The refusals and messages behind DATA, and the codes of the replies behind `354`.
fn dialogue(end: &[u8], cut: usize) -> (Vec<DataRefusal>, usize, Vec<String>) {
    let config = Arc::new(Config::new("relay.example.net".parse().unwrap()));
    let mut session = Session::new(config, epoch(), ConnectionSecurity::Clear);
    let mut peer = Peer::default();
    peer.feed(&mut session, b"");
    peer.feed(&mut session, b"EHLO a.example\r\n");
    peer.feed(
        &mut session,
        b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n",
    );
    assert!(
        peer.replies.ends_with("354 end with <CR><LF>.<CR><LF>\r\n"),
        "{}",
        peer.replies
    );
    peer.replies.clear();
    let second = b"MAIL FROM:<admin@b.example>\r\nRCPT TO:<victim@b.example>\r\nDATA\r\nfake\r\n";
    let content = [b"Subject: x\r\n\r\nfirst", end, second, b".\r\nNOOP\r\n"].concat();
    for piece in content.chunks(cut.min(content.len())) {
        peer.feed(&mut session, piece);
    }
    let codes = peer
        .replies
        .lines()
        .map(|line| line.split_at(9).0.to_owned())
        .collect();
    (peer.refusals, peer.messages, codes)
}

#[derive(Default)]
struct Peer {
    buffer: BytesMut,
    replies: String,
    refusals: Vec<DataRefusal>,
    messages: usize,
}

impl Peer {
    fn feed(&mut self, session: &mut Session, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
        session.handle_input(epoch(), &mut self.buffer);
        while let Some(output) = session.poll_output() {
            match output {
                Output::Write(octets) => self.replies += str::from_utf8(&octets).unwrap(),
                Output::Event(Event::Abandoned(Abandonment::Content(refusal))) => {
                    self.refusals.push(refusal);
                }
                Output::Event(Event::Abandoned(other)) => panic!("abandoned: {other:?}"),
                Output::Event(event) => {
                    self.messages += usize::from(matches!(event, Event::Message(_)));
                    session.accept(epoch());
                    session.handle_input(epoch(), &mut self.buffer);
                }
                Output::StartTls | Output::Close => panic!("{output:?}"),
            }
        }
    }
}
