//! What each message is and what is due to happen to it.

use sha2::{Digest as _, Sha256};

/// The header field by which a message is known again, in its copies and in its notices.
pub(super) const NUMBER_FIELD: &str = "X-Demo-Message";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// Taken at the first attempt.
    Delivered,
    /// Put off once with a 4yz, then taken.
    DeferredThenDelivered,
    /// Refused with a 5yz: its sender gets a notice.
    Bounced,
    /// Put off until its lifetime is over: its sender gets a notice.
    Expired,
}

pub(super) struct Plan {
    messages: Vec<Planned>,
}

pub(super) struct Planned {
    pub(super) number: u32,
    pub(super) due: Due,
    /// Header section and body, lines ended by CRLF.
    pub(super) raw: Vec<u8>,
    /// SHA-256 of the body, hex.
    pub(super) digest: String,
}

impl Plan {
    pub(super) fn new(messages: u32) -> Self {
        Self {
            messages: (1..=messages)
                .map(|number| Planned::new(number, messages))
                .collect(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Planned> {
        self.messages.iter()
    }

    pub(super) fn message(&self, number: u32) -> Option<&Planned> {
        self.messages
            .get(usize::try_from(number).ok()?.checked_sub(1)?)
    }
}

impl Planned {
    fn new(number: u32, messages: u32) -> Self {
        let due = match number {
            last if last == messages => Due::Expired,
            _ if number % 7 == 3 => Due::DeferredThenDelivered,
            _ if number % 14 == 5 => Due::Bounced,
            _ => Due::Delivered,
        };
        let body = body(number);
        let mut raw = format!(
            "From: Shop <{}>\r\nTo: <{}>\r\nSubject: Order {number}\r\n\
             {NUMBER_FIELD}: {number}\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
            sender(number),
            recipient(number)
        )
        .into_bytes();
        raw.extend_from_slice(body.as_bytes());
        Self {
            number,
            due,
            raw,
            digest: digest(body.as_bytes()),
        }
    }
}

pub(super) fn sender(number: u32) -> String {
    format!("order-{number}@shop.example")
}

pub(super) fn recipient(number: u32) -> String {
    format!("customer-{number}@mail.example")
}

/// The number in `customer-<number>` or `order-<number>`.
pub(super) fn number_of(local_part: &str) -> Option<u32> {
    local_part.rsplit('-').next()?.parse().ok()
}

pub(super) fn digest(body: &[u8]) -> String {
    Sha256::digest(body)
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect()
}

/// From one line to some 40 kB, with what mail systems trip over: lines that begin with dots, octets
/// above 127, long lines.
fn body(number: u32) -> String {
    let mut body = format!("Dear customer {number},\r\n.\r\n..\r\nGrüße, 漢字\r\n");
    for line in 0..(number % 20) * 40 {
        body.push_str(&format!(
            "{line:4}  one item, packed with care and sent today\r\n"
        ));
    }
    if number.is_multiple_of(5) {
        body.push_str(&"x".repeat(998));
        body.push_str("\r\n");
    }
    body
}

#[cfg(test)]
mod tests {
    use super::{Due, Plan, number_of, recipient};

    #[test]
    fn the_default_has_every_kind_of_journey() {
        let plan = Plan::new(200);
        let count = |due| plan.iter().filter(|message| message.due == due).count();
        assert!(count(Due::DeferredThenDelivered) >= 20);
        assert!(count(Due::Bounced) >= 10);
        assert_eq!(count(Due::Expired), 1);
        assert_eq!(plan.message(7).map(|message| message.number), Some(7));
        assert_eq!(
            number_of(recipient(12).split('@').next().unwrap_or_default()),
            Some(12)
        );
    }
}
