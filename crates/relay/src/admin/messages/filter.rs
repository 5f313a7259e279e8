//! Which tasks are wanted.

use std::time::Duration;

use jiff::Timestamp;
use queue::RecordError;
use queue::operation::{List, PlaceName, Seen};
use queue::record::Header;
use serde::Deserialize;

use super::Problem;
use crate::delivery::notes::Notes;

/// As it stands in a query.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::admin) struct Wanted {
    place: Option<String>,
    tenant: Option<String>,
    route: Option<String>,
    /// An address, or a domain.
    sender: Option<String>,
    recipient: Option<String>,
    /// For longer than this in the queue, as `1h30m`.
    older_than: Option<String>,
    younger_than: Option<String>,
    /// A part of what a next hop said last.
    last_reply: Option<String>,
    cursor: Option<String>,
    pub(super) limit: Option<u16>,
}

/// What only the record of a message or the notes about a task tell.
pub(super) struct Filter {
    sender: Option<String>,
    recipient: Option<String>,
    last_reply: Option<String>,
    received_before: Option<u64>,
    received_after: Option<u64>,
}

impl Wanted {
    pub(super) fn parse(self) -> Result<(List, Filter), Problem> {
        let place = self.place.as_deref().map(place).transpose()?;
        let cursor = self.cursor.map(|cursor| cursor.parse());
        let list = List {
            place,
            tenant: self.tenant,
            route: self.route,
            after: cursor
                .transpose()
                .map_err(|error| Problem::bad(format!("cursor: {error}")))?,
            looks: 0,
        };
        let filter = Filter {
            sender: self.sender.map(|text| text.to_lowercase()),
            recipient: self.recipient.map(|text| text.to_lowercase()),
            last_reply: self.last_reply.map(|text| text.to_lowercase()),
            received_before: ago("olderThan", self.older_than.as_deref())?,
            received_after: ago("youngerThan", self.younger_than.as_deref())?,
        };
        Ok((list, filter))
    }
}

fn place(text: &str) -> Result<PlaceName, Problem> {
    let found = PlaceName::ALL
        .into_iter()
        .find(|name| name.as_str() == text);
    found.ok_or_else(|| {
        let names = PlaceName::ALL.map(PlaceName::as_str).join(", ");
        Problem::bad(format!("place: {text} is none of {names}"))
    })
}

/// When that was.
fn ago(name: &str, text: Option<&str>) -> Result<Option<u64>, Problem> {
    let Some(text) = text else {
        return Ok(None);
    };
    let since: Duration =
        config::duration::parse(text).map_err(|error| Problem::bad(format!("{name}: {error}")))?;
    let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
    let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    Ok(Some(now.saturating_sub(since)))
}

impl Filter {
    /// A record that cannot be read is only as wanted as nothing is wanted of it.
    pub(super) fn takes(&self, seen: &Seen, header: Option<&Result<Header, RecordError>>) -> bool {
        if let Some(wanted) = &self.last_reply {
            let notes = Notes::read(&seen.state.notes);
            let mut answers = notes.answers.iter();
            if !answers.any(|answer| answer.text.to_lowercase().contains(wanted)) {
                return false;
            }
        }
        let of_record = self.sender.is_some()
            || self.recipient.is_some()
            || self.received_before.is_some()
            || self.received_after.is_some();
        match header {
            Some(Ok(header)) => self.takes_header(seen, header),
            // Its last task has just been settled.
            None => false,
            Some(Err(_)) => !of_record,
        }
    }

    fn takes_header(&self, seen: &Seen, header: &Header) -> bool {
        let received = header.received_unix_ms;
        let task = header.tasks.get(usize::from(seen.handle.task.ordinal));
        let mut recipients = task.into_iter().flat_map(|task| &task.recipients);
        self.received_before.is_none_or(|before| received <= before)
            && self.received_after.is_none_or(|after| received >= after)
            && (self.sender.as_ref()).is_none_or(|wanted| is_at(&header.reverse_path, wanted))
            && (self.recipient.as_ref())
                .is_none_or(|wanted| recipients.any(|known| is_at(&known.address, wanted)))
    }
}

/// Whether `address` is the one that is wanted, or at the domain; the null reverse-path is `<>`.
fn is_at(address: &str, wanted: &str) -> bool {
    let address = address.to_lowercase();
    let wanted = wanted.strip_prefix('@').unwrap_or(wanted);
    if wanted == "<>" {
        return address.is_empty();
    }
    let domain = address.rsplit_once('@').map(|(_, domain)| domain);
    address == wanted || domain == Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_domains_are_found() {
        for (address, wanted, expected) in [
            ("Jo@Example.org", "jo@example.org", true),
            ("jo@example.org", "example.org", true),
            ("jo@example.org", "@example.org", true),
            ("jo@sub.example.org", "example.org", false),
            ("jo@example.org", "o@example.org", false),
            ("", "<>", true),
            ("jo@example.org", "<>", false),
            ("", "example.org", false),
        ] {
            assert_eq!(is_at(address, wanted), expected, "{address} {wanted}");
        }
    }
}
