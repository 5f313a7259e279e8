//! The part for programs: `message/delivery-status` (RFC 3464 §2).

use std::net::IpAddr;

use bytes::BytesMut;
use smtp::Reply;

use super::{Action, Notification, Reason, RecipientReport};
use crate::text::{date, printable, token};

pub(super) fn write(notification: &Notification<'_>, out: &mut String) {
    // RFC 3464 §2.2
    out.push_str(&format!(
        "Reporting-MTA: dns; {}\r\n\
         X-Kurier-Queue-Id: {}\r\n\
         Arrival-Date: {}\r\n",
        notification.reporting_mta,
        token(notification.original_id, 64),
        date(notification.arrival),
    ));
    for report in notification.recipients {
        recipient(notification, report, out);
    }
}

/// RFC 3464 §2.3
fn recipient(notification: &Notification<'_>, report: &RecipientReport<'_>, out: &mut String) {
    let action = match notification.action {
        Action::Failed => "failed",
        Action::Delayed { .. } => "delayed",
    };
    out.push_str(&format!(
        "\r\nFinal-Recipient: rfc822; {}\r\nAction: {action}\r\nStatus: {}\r\n",
        report.recipient, report.status,
    ));
    match report.reason {
        Reason::Reply {
            host,
            address,
            reply,
        } => {
            out.push_str(&format!("Remote-MTA: dns; {}\r\n", remote(host, address)));
            diagnostic(reply, notification.words(), out);
        }
        // §2.3.6: the type names who speaks; what this host found is no SMTP reply.
        Reason::Local(phrase) => {
            let phrase = printable(phrase, notification.words().min(MAX_LINE));
            out.push_str(&format!("Diagnostic-Code: X-Kurier; {phrase}\r\n"));
        }
    }
    if let Some(at) = report.last_attempt {
        out.push_str(&format!("Last-Attempt-Date: {}\r\n", date(at)));
    }
    if let Action::Delayed { until } = notification.action {
        out.push_str(&format!("Will-Retry-Until: {}\r\n", date(until)));
    }
}

fn remote(host: &str, address: Option<IpAddr>) -> String {
    let host = token(host, 255);
    match address {
        Some(address) => format!("{host} [{address}]"),
        None => host,
    }
}

/// The reply as it came, each line of it a line of the folded field.
fn diagnostic(reply: &Reply, words: usize, out: &mut String) {
    let mut wire = BytesMut::new();
    reply.write_to(&mut wire);
    let wire = String::from_utf8_lossy(&wire);
    let mut left = words;
    out.push_str("Diagnostic-Code: smtp;");
    for (number, line) in wire.lines().enumerate() {
        let line = printable(line, left.min(MAX_LINE));
        left -= line.len();
        // A line of white space alone would end the fields for some readers.
        if line.trim().is_empty() {
            break;
        }
        out.push_str(if number == 0 { " " } else { "\r\n\t" });
        out.push_str(&line);
    }
    out.push_str("\r\n");
}

/// RFC 5322 §2.1.1 has 998 octets for all of the line.
const MAX_LINE: usize = 900;
