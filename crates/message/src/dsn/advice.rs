//! The part for people: what happened, and what to do now.

use smtp::EnhancedStatus;

use super::{Action, Notification, Reason, RecipientReport};
use crate::text::{date, printable, wrap};

pub(super) fn write(notification: &Notification<'_>, out: &mut String) {
    let host = notification.reporting_mta;
    let arrival = date(notification.arrival);
    let what = match notification.action {
        Action::Failed => "could not be delivered to:",
        Action::Delayed { .. } => "could not be delivered yet to:",
    };
    out.push_str(&format!(
        "This is the mail system at {host}.\r\n\
         \r\n\
         Your message of {arrival}\r\n\
         {what}\r\n"
    ));
    let recipients = notification.recipients;
    for report in recipients.iter().take(MAX_LISTED) {
        out.push_str(&format!("\r\n  <{}>\r\n", report.recipient));
        reason(&report.reason, notification.words(), out);
    }
    let more = recipients.len().saturating_sub(MAX_LISTED);
    if more > 0 {
        out.push_str("\r\n");
        wrap(
            out,
            "  ",
            &format!("and {more} more, listed in the attached delivery report"),
        );
    }
    out.push_str("\r\n");
    match notification.action {
        Action::Failed => {
            for line in what_to_do(recipients) {
                wrap(out, "", line);
            }
        }
        Action::Delayed { until } => {
            let until = date(until);
            wrap(
                out,
                "",
                &format!(
                    "You need not send it again: it will be tried until {until}. If it cannot be \
                     delivered by then, you will be told."
                ),
            );
        }
    }
    out.push_str("\r\n");
    let id = printable(notification.original_id, 64);
    wrap(
        out,
        "",
        &format!("When you ask about this message, name its id at {host}: {id}"),
    );
}

fn reason(reason: &Reason<'_>, words: usize, out: &mut String) {
    match reason {
        Reason::Reply {
            host,
            address,
            reply,
        } => {
            let address = address
                .map(|address| format!(" [{address}]"))
                .unwrap_or_default();
            wrap(
                out,
                "    ",
                &format!("{}{address} answered:", printable(host, 255)),
            );
            wrap(out, "    ", &printable(&reply.to_string(), words));
        }
        Reason::Local(phrase) => wrap(out, "    ", &printable(phrase, words)),
    }
}

fn what_to_do(recipients: &[RecipientReport<'_>]) -> Vec<&'static str> {
    let mut lines = vec!["This is final: nobody will try again."];
    for report in recipients {
        let advice = advice(report.status);
        if !lines.contains(&advice) {
            lines.push(advice);
        }
    }
    lines
}

/// By RFC 3463, subject and detail.
fn advice(status: EnhancedStatus) -> &'static str {
    match (status.subject(), status.detail()) {
        (1, 10) => "The domain takes no mail: find out another address of the recipient.",
        (1, 7 | 8) => "Check your own address, the one you sent from.",
        (1, _) => "Check the address for a typing error, and send the message again.",
        (2, 2) => "The mailbox is full: reach the recipient in another way, or send again later.",
        (2, 3) | (3, 4) => "The message is too large: send less, or a link to what is large.",
        (2, _) => "The mailbox cannot take mail now: reach the recipient in another way.",
        (4, 6) => {
            "The message went in a circle: tell the administrators of the recipient's domain."
        }
        (4, 7) => {
            "The recipient's mail system could not be reached in all that time: send the \
                   message again if it still matters."
        }
        (4, _) => {
            "There is no way to the recipient's mail system: check the address, or tell the \
                   administrators of its domain."
        }
        (6, _) => {
            "The recipient's mail system cannot take a message of this form: send it as plain \
                   text."
        }
        (7, _) => {
            "The recipient's mail system refuses the message on principle. Its answer says \
                   why; its administrators can tell more."
        }
        _ => {
            "The answer above says why; the administrators of the recipient's domain can tell more."
        }
    }
}

const MAX_LISTED: usize = 50;
