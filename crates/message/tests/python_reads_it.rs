//! A mail parser that is not ours reads what we write: the `email` package of Python.

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use message::dsn::{Action, Notification, Reason, RecipientReport};
use message::{HeaderSection, Received, Role, Tls, trace_fields};
use smtp::server::Protocol;
use smtp::{Content, Domain, EnhancedStatus, ForwardPath, HeloName, Mailbox, Reply};

const READ_NOTIFICATION: &str = r#"
import email, email.policy, sys
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.SMTP)
assert not m.defects, m.defects
assert m.get_content_type() == "multipart/report", m.get_content_type()
assert m.get_param("report-type") == "delivery-status"
assert m["From"].addresses[0].addr_spec == "MAILER-DAEMON@mail.example.com", m["From"]
assert m["To"].addresses[0].addr_spec == '"a b"@example.com', m["To"]
assert m["Auto-Submitted"] == "auto-replied"
assert m["Date"].datetime.isoformat() == "2026-11-24T09:00:01+00:00", m["Date"]
assert m["Content-Transfer-Encoding"] == "8bit"
text, report, original = m.get_payload()
assert text.get_content_type() == "text/plain"
assert "550 5.1.1" in text.get_content(), text.get_content()
assert report.get_content_type() == "message/delivery-status"
message_fields, first, second = report.get_payload()
assert message_fields["Reporting-MTA"] == "dns; mail.example.com"
assert first["Final-Recipient"] == "rfc822; bob@example.org"
assert first["Action"] == "failed" and first["Status"] == "5.1.1"
assert first["Remote-MTA"] == "dns; mx1.example.org [192.0.2.1]"
lines = first["Diagnostic-Code"].split("\t")
assert first["Diagnostic-Code"].startswith("smtp; 550-5.1.1 no such user"), first["Diagnostic-Code"]
assert "550 5.1.1 ask postmaster" in first["Diagnostic-Code"], first["Diagnostic-Code"]
assert second["Final-Recipient"] == "rfc822; eve@gone.example"
assert second["Diagnostic-Code"] == "X-Kurier; the domain gone.example does not exist"
assert original.get_content_type() == "message/rfc822"
inner = original.get_payload()[0]
assert inner["Subject"] == "hi" and inner["Message-ID"] == "<1@example.com>"
body = inner.get_payload(decode=True)
assert body == b".dot\r\n\xe4\r\n", body
for part in m.walk():
    assert not part.defects, (part.get_content_type(), part.defects)
"#;

const READ_TRACE: &str = r#"
import email, email.policy, email.utils, sys
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.SMTP)
assert not m.defects, m.defects
assert m.keys() == ["Received", "Message-ID", "Date", "Subject"], m.keys()
stamp, _, at = m["Received"].rpartition(";")
assert email.utils.parsedate_to_datetime(at).isoformat() == "2026-11-24T08:13:41+00:00", at
assert stamp.split() == ("from client.example.org ([192.0.2.1]) by mail.example.com with ESMTPSA "
    "id 01aryz6s41tsv4rrffq69g5fav (TLS1.3 TLS_AES_128_GCM_SHA256) for <bob@example.org>").split()
assert m["Date"].datetime.isoformat() == "2026-11-24T08:13:41+00:00"
assert m["Message-ID"] == "<01aryz6s41tsv4rrffq69g5fav@mail.example.com>"
assert m.get_payload() == "body\r\n", m.get_payload()
"#;

#[test]
fn notification() {
    let original = b"From: a@example.com\r\nSubject: hi\r\nMessage-ID: <1@example.com>\r\n\
                     Content-Transfer-Encoding: 8bit\r\n\r\n.dot\r\n\xe4\r\n";
    let [bob, eve, to] = ["bob@example.org", "eve@gone.example", "\"a b\"@example.com"]
        .map(|address| Mailbox::parse(address).unwrap());
    let reply: Reply = "550 5.1.1 no such user".parse().unwrap();
    let reply = reply.with_line("ask postmaster");
    let recipients = [
        RecipientReport {
            recipient: &bob,
            status: EnhancedStatus::permanent(1, 1),
            reason: Reason::Reply {
                host: "mx1.example.org",
                address: Some(IpAddr::from([192, 0, 2, 1])),
                reply: &reply,
            },
            last_attempt: Some("2026-11-24T09:00:00Z".parse().unwrap()),
        },
        RecipientReport {
            recipient: &eve,
            status: EnhancedStatus::permanent(1, 2),
            reason: Reason::Local("the domain gone.example does not exist"),
            last_attempt: None,
        },
    ];
    let notification = Notification {
        action: Action::Failed,
        to: &to,
        reporting_mta: &Domain::parse("mail.example.com").unwrap(),
        id: "01aryz6s41tsv4rrffq69g5fav",
        original_id: "01aryz6s40aaaaaaaaaaaaaaaa",
        arrival: "2026-11-24T08:13:41Z".parse().unwrap(),
        now: "2026-11-24T09:00:01Z".parse().unwrap(),
        recipients: &recipients,
        original: &Content::from_raw(original).unwrap(),
        original_size: original.len() as u64,
    };
    python(READ_NOTIFICATION, &notification.to_content());
}

#[test]
fn trace_fields_of_a_submission() {
    let mut content = Content::from_raw(b"Subject: hi\r\n\r\nbody\r\n").unwrap();
    let received = Received {
        helo: &HeloName::parse("client.example.org").unwrap(),
        client: IpAddr::from([192, 0, 2, 1]),
        by: &Domain::parse("mail.example.com").unwrap(),
        protocol: Protocol::Esmtpsa,
        tls: Some(Tls {
            version: "TLS1.3",
            cipher: "TLS_AES_128_GCM_SHA256",
        }),
        id: "01aryz6s41tsv4rrffq69g5fav",
        recipients: &[ForwardPath::parse("<bob@example.org>").unwrap()],
        at: "2026-11-24T08:13:41Z".parse().unwrap(),
    };
    content.prepend(trace_fields(
        &received,
        &HeaderSection::scan(&content),
        Role::Submission,
    ));
    python(READ_TRACE, &content);
}

fn python(script: &str, message: &Content) {
    let mut child = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs python3");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&message.to_raw())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let text = message.to_raw();
    assert!(
        output.status.success(),
        "{error}\n{}",
        String::from_utf8_lossy(&text)
    );
}
