use bytes::Bytes;
use proptest::prelude::*;
use smtp::ReplyCode;

use super::*;

/// Owns what a [`Notification`] borrows.
struct Case {
    action: Action,
    to: Mailbox,
    reporting_mta: Domain,
    original: Content,
    recipient: Mailbox,
    reply: Reply,
    host: String,
    id: String,
    count: usize,
}

impl Case {
    fn new(original: &[u8]) -> Self {
        Self {
            action: Action::Failed,
            to: Mailbox::parse("alice@example.com").unwrap(),
            reporting_mta: Domain::parse("mail.example.com").unwrap(),
            original: Content::from_raw(original).unwrap(),
            recipient: Mailbox::parse("bob@example.org").unwrap(),
            reply: "550 5.1.1 <bob@example.org>: no such user here"
                .parse()
                .unwrap(),
            host: "mx1.example.org".to_owned(),
            id: "01aryz6s41tsv4rrffq69g5fav".to_owned(),
            count: 1,
        }
    }

    fn content(&self) -> Content {
        let report = RecipientReport {
            recipient: &self.recipient,
            status: self
                .reply
                .enhanced()
                .unwrap_or(EnhancedStatus::permanent(0, 0)),
            reason: Reason::Reply {
                host: &self.host,
                address: Some(IpAddr::from([192, 0, 2, 1])),
                reply: &self.reply,
            },
            last_attempt: Some("2026-11-24T09:00:00Z".parse().unwrap()),
        };
        Notification {
            action: self.action,
            to: &self.to,
            reporting_mta: &self.reporting_mta,
            id: &self.id,
            original_id: "01aryz6s40aaaaaaaaaaaaaaaa",
            arrival: "2026-11-24T08:13:41Z".parse().unwrap(),
            now: "2026-11-24T09:00:01Z".parse().unwrap(),
            recipients: &vec![report; self.count],
            original: &self.original,
            original_size: self.original.raw_len(),
        }
        .to_content()
    }

    fn text(&self) -> String {
        String::from_utf8(self.content().to_raw()).unwrap()
    }
}

const ORIGINAL: &[u8] =
    b"From: alice@example.com\r\nSubject: hi\r\nMessage-ID: <1@example.com>\r\n\
                          \r\n.dots\r\n..more\r\nend\r\n";

#[test]
fn failure_is_written_as_known() {
    let expected = include_str!("failed.txt").replace('\n', "\r\n");
    assert_eq!(Case::new(ORIGINAL).text(), expected);
}

#[test]
fn delay_is_written_as_known() {
    let mut case = Case::new(ORIGINAL);
    case.action = Action::Delayed {
        until: "2026-11-29T08:13:41Z".parse().unwrap(),
    };
    case.reply = "450 4.2.0 <bob@example.org>: greylisted, try again later"
        .parse()
        .unwrap();
    let expected = include_str!("delayed.txt").replace('\n', "\r\n");
    assert_eq!(case.text(), expected);
}

#[test]
fn original_goes_back_with_its_octets_as_they_were() {
    let original = b"Subject: x\r\n\r\n.\xe4\r\nlast line without an end";
    let notification = Case::new(original).content();
    let raw = notification.to_raw();
    let at = raw
        .windows(4)
        .position(|window| window == b".\xe4\r\n")
        .unwrap();
    assert!(raw[at..].starts_with(b".\xe4\r\nlast line without an end\r\n\r\n--=_report_"));
    assert!(notification.has_8bit());
    let text = String::from_utf8_lossy(&raw);
    assert_eq!(
        text.matches("Content-Transfer-Encoding: 8bit\r\n").count(),
        2,
        "{text}"
    );
}

#[test]
fn large_and_odd_originals_go_back_as_headers() {
    let check = |original: &[u8], whole: bool| {
        let text = Case::new(original).text();
        assert_eq!(
            text.contains("message/rfc822"),
            whole,
            "{} octets",
            original.len()
        );
        assert_eq!(text.contains("text/rfc822-headers"), !whole);
    };
    let body = |length: usize| {
        format!(
            "Subject: x\r\n\r\n{}",
            "0123456789abcd\r\n".repeat(length / 16)
        )
    };
    check(body(49_900).as_bytes(), true);
    check(body(50_100).as_bytes(), false);
    check(
        format!("Subject: x\r\n\r\n{}\r\n", "a".repeat(998)).as_bytes(),
        true,
    );
    check(
        format!("Subject: x\r\n\r\n{}\r\n", "a".repeat(999)).as_bytes(),
        false,
    );
    let endless = format!("{}\r\n", "X-Filler: filler\r\n".repeat(6_000));
    check(endless.as_bytes(), false);
    assert!(Case::new(endless.as_bytes()).text().len() < MAX_LENGTH + 1_000);
}

#[test]
fn many_recipients_stay_within_the_bound() {
    let mut case = Case::new(ORIGINAL);
    case.reply = Reply::new(ReplyCode::MAILBOX_UNAVAILABLE, None, "no ".repeat(160));
    for (count, bound) in [(1, 60 * 1024), (100, 100 * 1024), (1_000, 1_000 * 1024)] {
        case.count = count;
        let text = case.text();
        assert!(text.len() < bound, "{count}: {}", text.len());
        assert_eq!(text.matches("\r\nFinal-Recipient: ").count(), count);
    }
    assert!(
        case.text()
            .contains("and 950 more, listed in the attached delivery report")
    );
}

#[test]
fn boundary_is_not_in_the_original() {
    let first = Case::new(ORIGINAL).text();
    let (_, rest) = first.split_once("boundary=\"").unwrap();
    let (taken, _) = rest.split_once('"').unwrap();
    let original = format!("Subject: x\r\n\r\n--{taken}--\r\n");
    let text = Case::new(original.as_bytes()).text();
    assert!(!text.contains(&format!("boundary=\"{taken}\"")), "{text}");
}

#[test]
fn local_reasons_are_told_without_a_remote_host() {
    let case = Case::new(ORIGINAL);
    let report = RecipientReport {
        recipient: &case.recipient,
        status: EnhancedStatus::permanent(1, 2),
        reason: Reason::Local("the domain example.org does not exist"),
        last_attempt: None,
    };
    let notification = Notification {
        action: Action::Failed,
        to: &case.to,
        reporting_mta: &case.reporting_mta,
        id: &case.id,
        original_id: "x",
        arrival: Timestamp::UNIX_EPOCH,
        now: Timestamp::UNIX_EPOCH,
        recipients: &[report],
        original: &case.original,
        original_size: case.original.raw_len(),
    };
    let text = String::from_utf8(notification.to_content().to_raw()).unwrap();
    let report = "Status: 5.1.2\r\n\
                  Diagnostic-Code: X-Kurier; the domain example.org does not exist\r\n\r\n";
    assert!(text.contains(report), "{text}");
    assert!(
        !text.contains("Remote-MTA") && !text.contains("answered"),
        "{text}"
    );
}

#[test]
fn foreign_message_ids_are_quoted_only_if_they_are_some() {
    let check = |id: &str, expected: bool| {
        let original = format!("Message-ID: {id}\r\n\r\n");
        let text = Case::new(original.as_bytes()).text();
        assert_eq!(text.contains("\r\nReferences: "), expected, "{id:?}");
    };
    check("<1@example.com>", true);
    check("<1@example.com> <2@example.com>", false);
    check("1@example.com", false);
    check("<\u{e4}@example.com>", false);
    check(&format!("<{}@example.com>", "x".repeat(300)), false);
}

proptest! {
    /// Whatever a next hop and a sender say, a notification is a well-formed message with the
    /// fields that were meant and no others.
    #[test]
    fn hostile_words_stay_words(
        code in 400_u16..600,
        lines in proptest::collection::vec("[ -~\r\n\t\0é]{0,1200}", 1..8),
        host in "[ -~\r\n\0é]{0,300}",
        id in "[ -~\r\n\0é]{0,80}",
        header in "[ -~é\t]{0,1500}",
        body in "[ -~é.-]{0,200}",
        count in 1_usize..4,
    ) {
        let mut case = Case::new(format!("{header}\r\n\r\n{body}\r\n").as_bytes());
        case.reply = lines.iter().skip(1).fold(
            Reply::new(ReplyCode::new(code).unwrap(), None, lines[0].clone()),
            |reply, line| reply.with_line(line.clone()),
        );
        case.host = host;
        case.id = id;
        case.count = count;
        let notification = case.content();
        // Valid dot-stuffed content, and the counts in it are right.
        let again = Content::from_stuffed(notification.chunks().iter().map(Bytes::clone)).unwrap();
        prop_assert_eq!(again.raw_len(), notification.raw_len());

        let raw = notification.to_raw();
        let text = String::from_utf8_lossy(&raw);
        prop_assert!(raw.split(|octet| *octet == b'\n').all(|line| line.len() <= 999));
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        let names: Vec<&str> = head
            .lines()
            .filter(|line| !line.starts_with('\t'))
            .map(|line| line.split_once(':').unwrap().0)
            .filter(|name| !["References", "Content-Transfer-Encoding"].contains(name))
            .collect();
        prop_assert_eq!(
            names,
            ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version",
             "Content-Type"]
        );
        let report = text.split("message/delivery-status\r\n\r\n").nth(1).unwrap();
        let report = report.split("\r\n--=_report_").next().unwrap();
        let groups: Vec<&str> = report.split("\r\n\r\n").collect();
        prop_assert_eq!(groups.len(), count + 1);
        for group in &groups[1..] {
            let names: Vec<&str> = group
                .lines()
                .filter(|line| !line.starts_with('\t'))
                .map(|line| line.split_once(':').unwrap().0)
                .collect();
            prop_assert_eq!(
                names,
                ["Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code",
                 "Last-Attempt-Date"]
            );
        }
    }
}
