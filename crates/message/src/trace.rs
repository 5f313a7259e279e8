use std::fmt::Write as _;
use std::net::IpAddr;

use jiff::Timestamp;
use smtp::server::Protocol;
use smtp::{AddressLiteral, Content, Domain, ForwardPath, HeloName};

use crate::header::HeaderSection;
use crate::text::{content, date, token};

/// The trace field of RFC 5321 §4.4.
///
/// ```abnf
/// Time-stamp-line = "Received:" FWS Stamp CRLF
/// Stamp = From-domain By-domain Opt-info [CFWS] ";" FWS date-time
/// ```
#[derive(Clone, Debug)]
pub struct Received<'a> {
    /// What the client called itself.
    pub helo: &'a HeloName,
    /// Where it connected from.
    pub client: IpAddr,
    /// This host.
    pub by: &'a Domain,
    /// How the message came.
    pub protocol: Protocol,
    /// What secured the connection.
    pub tls: Option<Tls<'a>>,
    /// The queue id.
    pub id: &'a str,
    /// The recipients. Only a single one is named: the others would read about each other
    /// (RFC 5321 §7.2).
    pub recipients: &'a [ForwardPath],
    /// When the message was there.
    pub at: Timestamp,
}

/// What secured a connection, for a comment in the trace field.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'a> {
    /// `TLS1.3`
    pub version: &'a str,
    /// `TLS_AES_256_GCM_SHA384`
    pub cipher: &'a str,
}

/// What a relay may do to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The message comes from whoever wrote it: what it lacks is added (RFC 6409 §8).
    Submission,
    /// The message comes from another mail system: only the trace is added (RFC 5321 §6.4).
    Relay,
}

/// What the relay puts in front of a message: the trace field; in a submission also `Date`
/// (RFC 6409 §8.2) and `Message-ID` (§8.3) where they are missing; and an empty line if the
/// message has no header section.
pub fn trace_fields(received: &Received<'_>, header: &HeaderSection, role: Role) -> Content {
    let mut out = String::with_capacity(512);
    received.write_to(&mut out);
    if role == Role::Submission {
        let id = token(received.id, MAX_ID);
        // A section that was not read to its end may have both.
        if header.message_id().is_none() && header.is_complete() {
            push(
                &mut out,
                format_args!("Message-ID: <{id}@{}>\r\n", received.by),
            );
        }
        if !header.has_date() && header.is_complete() {
            push(&mut out, format_args!("Date: {}\r\n", date(received.at)));
        }
    }
    if header.starts_with_text() {
        out.push_str("\r\n");
    }
    content(&out)
}

impl Received<'_> {
    fn write_to(&self, out: &mut String) {
        let client = AddressLiteral::from(self.client.to_canonical());
        push(
            out,
            format_args!("Received: from {} ({client})\r\n", self.helo),
        );
        // RFC 3848 has the names behind "with".
        let id = token(self.id, MAX_ID);
        push(
            out,
            format_args!("\tby {} with {} id {id}", self.by, self.protocol),
        );
        if let Some(tls) = self.tls {
            let (version, cipher) = (token(tls.version, MAX_ID), token(tls.cipher, MAX_ID));
            push(out, format_args!("\r\n\t({version} {cipher})"));
        }
        if let [ForwardPath::Mailbox(recipient)] = self.recipients {
            push(out, format_args!("\r\n\tfor <{recipient}>"));
        }
        push(out, format_args!(";\r\n\t{}\r\n", date(self.at)));
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes any text");
}

const MAX_ID: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn helo(text: &str) -> HeloName {
        HeloName::parse(text).unwrap()
    }

    fn received<'a>(helo: &'a HeloName, by: &'a Domain) -> Received<'a> {
        Received {
            helo,
            client: IpAddr::from([192, 0, 2, 1]),
            by,
            protocol: Protocol::Esmtpsa,
            tls: None,
            id: "01aryz6s41tsv4rrffq69g5fav",
            recipients: &[],
            at: "2026-11-24T08:13:41Z".parse().unwrap(),
        }
    }

    fn by() -> Domain {
        Domain::parse("mail.example.com").unwrap()
    }

    fn written(received: &Received<'_>, raw: &str, role: Role) -> String {
        let header = HeaderSection::scan(&Content::from_raw(raw.as_bytes()).unwrap());
        String::from_utf8(trace_fields(received, &header, role).to_raw()).unwrap()
    }

    const COMPLETE: &str = "Date: x\r\nMessage-ID: <x@y>\r\n\r\n";

    #[test]
    fn all_clauses() {
        let one = [ForwardPath::parse("<bob@example.net>").unwrap()];
        let (helo, by) = (helo("client.example.org"), by());
        let field = Received {
            tls: Some(Tls {
                version: "TLS1.3",
                cipher: "TLS_AES_256_GCM_SHA384",
            }),
            recipients: &one,
            ..received(&helo, &by)
        };
        assert_eq!(
            written(&field, COMPLETE, Role::Relay),
            "Received: from client.example.org ([192.0.2.1])\r\n\
             \tby mail.example.com with ESMTPSA id 01aryz6s41tsv4rrffq69g5fav\r\n\
             \t(TLS1.3 TLS_AES_256_GCM_SHA384)\r\n\
             \tfor <bob@example.net>;\r\n\
             \tTue, 24 Nov 2026 08:13:41 +0000\r\n"
        );
    }

    #[test]
    fn several_recipients_are_not_named() {
        let two =
            ["<bob@example.net>", "<eve@example.net>"].map(|p| ForwardPath::parse(p).unwrap());
        let (helo, by) = (helo("[IPv6:2001:db8::1]"), by());
        let field = Received {
            client: "2001:db8::1".parse().unwrap(),
            protocol: Protocol::Smtp,
            recipients: &two,
            ..received(&helo, &by)
        };
        assert_eq!(
            written(&field, COMPLETE, Role::Submission),
            "Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])\r\n\
             \tby mail.example.com with SMTP id 01aryz6s41tsv4rrffq69g5fav;\r\n\
             \tTue, 24 Nov 2026 08:13:41 +0000\r\n"
        );
    }

    #[test]
    fn submissions_get_what_they_lack() {
        let (helo, by) = (helo("client.example.org"), by());
        let check = |raw: &str, role: Role, expected: &str| {
            let fields = written(&received(&helo, &by), raw, role);
            let (_, added) = fields.split_once("08:13:41 +0000\r\n").unwrap();
            assert_eq!(added, expected, "{raw:?} {role:?}");
        };
        let id = "Message-ID: <01aryz6s41tsv4rrffq69g5fav@mail.example.com>\r\n";
        let date = "Date: Tue, 24 Nov 2026 08:13:41 +0000\r\n";
        check(COMPLETE, Role::Submission, "");
        check(
            "Subject: x\r\n\r\n",
            Role::Submission,
            &format!("{id}{date}"),
        );
        check("Date: x\r\n\r\n", Role::Submission, id);
        check("Message-ID: <x@y>\r\n\r\n", Role::Submission, date);
        check("Subject: x\r\n\r\n", Role::Relay, "");
        // A message without a header section keeps its first line.
        check("Hello\r\n", Role::Submission, &format!("{id}{date}\r\n"));
        check("Hello\r\n", Role::Relay, "\r\n");
        check("\r\nHello\r\n", Role::Relay, "");
        check(&"X-Filler: x\r\n".repeat(20_000), Role::Submission, "");
    }

    #[test]
    fn nothing_breaks_out() {
        let (helo, by) = (helo("client.example.org"), by());
        let field = Received {
            client: "::ffff:192.0.2.1".parse().unwrap(),
            tls: Some(Tls {
                version: "1)\r\n\r\n",
                cipher: "\0(",
            }),
            id: "x\r\nBcc: eve@example.org",
            ..received(&helo, &by)
        };
        assert_eq!(
            written(&field, COMPLETE, Role::Relay),
            "Received: from client.example.org ([192.0.2.1])\r\n\
             \tby mail.example.com with ESMTPSA id xBcc:eveexample.org\r\n\
             \t(1 );\r\n\
             \tTue, 24 Nov 2026 08:13:41 +0000\r\n"
        );
    }
}
