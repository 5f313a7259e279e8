//! Delivery status notifications (RFC 3464): of failure, what people call bounces, and of delay.

mod advice;
mod report;
mod returned;

use std::net::IpAddr;

use jiff::Timestamp;
use smtp::{Content, Domain, EnhancedStatus, Mailbox, Reply};

use crate::header::HeaderSection;
use crate::text::{content, date, token};
use returned::Returned;

/// A notification to whoever sent a message, about recipients that were given up, or that have been
/// waited for for long.
///
/// To a [`Mailbox`]: a message from the null reverse-path has nobody to be told
/// (RFC 5321 §6.1).
#[derive(Clone, Debug)]
pub struct Notification<'a> {
    /// What became of the recipients.
    pub action: Action,
    /// The reverse-path of the original.
    pub to: &'a Mailbox,
    /// The host that tells.
    pub reporting_mta: &'a Domain,
    /// The left side of the `Message-ID`. The same for each attempt to make this notification, so
    /// that a receiver can tell repetitions.
    pub id: &'a str,
    /// The queue id of the original.
    pub original_id: &'a str,
    /// When the original was accepted.
    pub arrival: Timestamp,
    /// When this is written.
    pub now: Timestamp,
    /// Whom it is about, at least one.
    pub recipients: &'a [RecipientReport<'a>],
    /// The original, as it is in the queue. Of a delayed one the header section is enough.
    pub original: &'a Content,
    /// How many octets the original has. Of a large one the header section is enough, too.
    pub original_size: u64,
}

/// What became of the recipients (RFC 3464 §2.3.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// They were given up.
    Failed,
    /// They will be tried on.
    Delayed {
        /// When they will be given up (RFC 3464 §2.3.9).
        until: Timestamp,
    },
}

/// Why one recipient has not got the message.
#[derive(Clone, Debug)]
pub struct RecipientReport<'a> {
    /// Whom the message was for.
    pub recipient: &'a Mailbox,
    /// Why.
    pub status: EnhancedStatus,
    /// Why, in words.
    pub reason: Reason<'a>,
    /// When it was tried for the last time.
    pub last_attempt: Option<Timestamp>,
}

/// Why a recipient got its status.
#[derive(Clone, Copy, Debug)]
pub enum Reason<'a> {
    /// A remote host said so. Its words go into the notification as they are.
    Reply {
        /// The name of the host.
        host: &'a str,
        /// Its address.
        address: Option<IpAddr>,
        /// What it answered.
        reply: &'a Reply,
    },
    /// This host found out, in a phrase such as `the domain example.org does not exist`.
    Local(&'a str),
}

impl Notification<'_> {
    /// Makes the message, from `MAILER-DAEMON` at the reporting host, dot-stuffed.
    ///
    /// An original that failed is returned whole if it has at most 50 kB and everything together stays
    /// below 60 KiB; otherwise its header section is returned, as far as it fits.
    /// Beyond that bound a notification grows only by its recipients, by some 2 KiB for each at most.
    pub fn to_content(&self) -> Content {
        let boundary = returned::boundary(self.original, &token(self.id, MAX_ID));
        let mut head = self.header_section(&boundary);
        head.push_str(&format!(
            "\r\n--{boundary}\r\n\
             Content-Description: Notification\r\n\
             Content-Type: text/plain; charset=us-ascii\r\n\
             \r\n"
        ));
        advice::write(self, &mut head);
        head.push_str(&format!(
            "\r\n--{boundary}\r\n\
             Content-Description: Delivery report\r\n\
             Content-Type: message/delivery-status\r\n\
             \r\n"
        ));
        report::write(self, &mut head);
        head.push_str(&format!("\r\n--{boundary}\r\n"));
        let room = MAX_LENGTH.saturating_sub(head.len());
        let returned = match self.action {
            Action::Failed => Returned::new(self.original, self.original_size, room),
            // Its sender need not send it again.
            Action::Delayed { .. } => Returned::headers(self.original, room),
        };
        head.push_str(returned.part_header());
        // RFC 6152 §3, RFC 2045 §6.4: an 8-bit part makes the whole an 8-bit message.
        if returned.content().has_8bit() {
            head = head.replacen(MIME_VERSION, MIME_VERSION_8BIT, 1);
        }
        let mut message = content(&format!("\r\n--{boundary}--\r\n"));
        message.prepend(returned.into_content());
        message.prepend(content(&head));
        message
    }

    fn header_section(&self, boundary: &str) -> String {
        let host = self.reporting_mta;
        let subject = match self.action {
            Action::Failed => "Your message could not be delivered",
            Action::Delayed { .. } => "Your message is delayed",
        };
        let mut out = format!(
            "From: Mail Delivery System <MAILER-DAEMON@{host}>\r\n\
             To: <{}>\r\n\
             Subject: {subject}\r\n\
             Date: {}\r\n\
             Message-ID: <{}@{host}>\r\n",
            self.to,
            date(self.now),
            token(self.id, MAX_ID),
        );
        if let Some(id) = HeaderSection::scan(self.original)
            .message_id()
            .filter(|id| is_msg_id(id))
        {
            out.push_str(&format!("References: {id}\r\n"));
        }
        // RFC 3834 §5
        out.push_str("Auto-Submitted: auto-replied\r\n");
        out.push_str(MIME_VERSION);
        // RFC 6522 §3
        out.push_str(&format!(
            "Content-Type: multipart/report; report-type=delivery-status;\r\n\
             \tboundary=\"{boundary}\"\r\n"
        ));
        out
    }

    /// How many octets of a next hop's words are kept: fewer, the more recipients there are.
    fn words(&self) -> usize {
        (20_000 / self.recipients.len().max(1)).clamp(200, 4_000)
    }
}

/// What others wrote is quoted only in the form `<left@right>`.
fn is_msg_id(id: &str) -> bool {
    let inner = id.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    id.len() <= 256
        && inner.is_some_and(|inner| {
            inner.contains('@')
                && inner
                    .bytes()
                    .all(|o| o.is_ascii_graphic() && !b"<>".contains(&o))
        })
}

const MIME_VERSION: &str = "MIME-Version: 1.0\r\n";
const MIME_VERSION_8BIT: &str = "MIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n";
const MAX_ID: usize = 64;
const MAX_LENGTH: usize = 60 * 1024;

#[cfg(test)]
mod tests;
