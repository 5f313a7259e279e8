//! Names of things in the queue, in the exact form they have as keys and members.
//!
//! Each type has one written form: [`Display`](fmt::Display) writes it, [`FromStr`] reads it and
//! refuses every other spelling, so that equal things are equal octets in the store. Serde uses
//! the same form.

use std::cmp::Ordering;
use std::fmt;
use std::io::Write;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Message id: 16 octets, ordered by time (48-bit milliseconds, 80 random bits), written as 26
/// characters of Crockford's base 32 in lower case. It is also the queue id a client sees after
/// `250` and the id in `Received`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId([u8; 16]);

/// One task: a message, one recipient domain, one route. Written `<mid>.<k>`, and ordered as that is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskId {
    pub message: MessageId,
    pub ordinal: u16,
}

/// The queue a task waits in: `tenant|class|egress|route`, each part percent-encoded where it
/// holds `|`, `%` or a control character; parts may be empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId {
    pub tenant: String,
    pub class: String,
    pub egress: String,
    /// `mx:<domain>` or `rule:<MailRoute>/<rule>`: a name resolved at each attempt, never a host.
    pub route: String,
}

/// What a claim set holds: `<tid>|<qid>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    pub task: TaskId,
    pub queue: QueueId,
}

/// One process start: 128 random bits in hex. Never the pod's name: a restarted container must not
/// inherit claims it does not know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId([u8; 16]);

/// A connection slot taken at a site: written `<lane>.<n>.<i>`, unique within its worker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    pub lane: u16,
    pub n: u64,
    pub index: u16,
}

/// Position in the journal: when the call settled, and which of that moment. Written `<ms>-<n>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct JournalId {
    /// Milliseconds since the epoch, by the queue's clock; it never goes back.
    pub ms: u64,
    pub n: u64,
}

/// Position of a call in its lane (one lane = one strictly sequential caller).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Call {
    pub worker: WorkerId,
    pub lane: u16,
    /// Starts at 1 and grows by one with each call of the lane.
    pub n: u64,
}

/// Which queues a suspension is about: written `all`, `tenant:<tenant>` or `site:<site>`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    All,
    Site(String),
    Tenant(String),
}

/// Why a text is not the written form of an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseIdError {
    #[error("not a message id of 26 lower-case base-32 characters")]
    MessageId,
    #[error("not a task id of the form <message id>.<ordinal>")]
    TaskId,
    #[error("not a queue id of the form tenant|class|egress|route")]
    QueueId,
    #[error("not a handle of the form <task id>|<queue id>")]
    Handle,
    #[error("not a worker id of 32 lower-case hexadecimal digits")]
    WorkerId,
    #[error("not a position in the journal of the form <ms>-<n>")]
    JournalId,
    #[error("not a slot id of the form <lane>.<n>.<index>")]
    SlotId,
    #[error("not `all`, `tenant:<tenant>` or `site:<site>`")]
    Scope,
}

impl MessageId {
    /// The id of a message accepted at `unix_ms` (of which 48 bits count).
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        let mut octets = [0; 16];
        octets[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
        octets[6..].copy_from_slice(&random);
        Self(octets)
    }

    pub fn from_octets(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    pub fn octets(&self) -> [u8; 16] {
        self.0
    }

    /// When the id was made, by the clock of whoever made it.
    pub fn unix_ms(&self) -> u64 {
        let mut octets = [0; 8];
        octets[2..].copy_from_slice(&self.0[..6]);
        u64::from_be_bytes(octets)
    }
}

impl TaskId {
    pub fn new(message: MessageId, ordinal: u16) -> Self {
        Self { message, ordinal }
    }
}

/// `.10` stands before `.2`, as it does in a sorted set of the store.
impl Ord for TaskId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.message
            .cmp(&other.message)
            .then_with(|| digits(self.ordinal).cmp(&digits(other.ordinal)))
    }
}

impl PartialOrd for TaskId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Handle {
    pub fn new(task: TaskId, queue: QueueId) -> Self {
        Self { task, queue }
    }
}

impl WorkerId {
    /// A new id for this process start.
    ///
    /// # Panics
    /// Where the operating system has no randomness to give: nothing in this program is safe then.
    pub fn random() -> Self {
        let mut octets = [0; 16];
        getrandom::fill(&mut octets).expect("the operating system gives random octets");
        Self(octets)
    }

    pub fn from_octets(octets: [u8; 16]) -> Self {
        Self(octets)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; MESSAGE_ID_LENGTH];
        let mut value = u128::from_be_bytes(self.0);
        for character in text.iter_mut().rev() {
            *character = BASE32[(value & 31) as usize];
            value >>= 5;
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for MessageId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        // 26 characters carry 130 bits, the id has 128: a first character above 7 is too much.
        if text.len() != MESSAGE_ID_LENGTH || text.as_bytes()[0] > b'7' {
            return Err(ParseIdError::MessageId);
        }
        let mut value = 0u128;
        for character in text.bytes() {
            let digit = BASE32
                .iter()
                .position(|&known| known == character)
                .ok_or(ParseIdError::MessageId)?;
            value = value << 5 | digit as u128;
        }
        Ok(Self(value.to_be_bytes()))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.message, self.ordinal)
    }
}

impl FromStr for TaskId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let (message, ordinal) = text.split_once('.').ok_or(ParseIdError::TaskId)?;
        Ok(Self {
            message: message.parse().map_err(|_| ParseIdError::TaskId)?,
            ordinal: parse_decimal(ordinal).ok_or(ParseIdError::TaskId)?,
        })
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_part(f, &self.tenant)?;
        f.write_str("|")?;
        write_part(f, &self.class)?;
        f.write_str("|")?;
        write_part(f, &self.egress)?;
        f.write_str("|")?;
        write_part(f, &self.route)
    }
}

impl FromStr for QueueId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let mut parts = text.split('|').map(read_part);
        let mut part = || parts.next().flatten().ok_or(ParseIdError::QueueId);
        let queue = Self {
            tenant: part()?,
            class: part()?,
            egress: part()?,
            route: part()?,
        };
        if parts.next().is_some() {
            return Err(ParseIdError::QueueId);
        }
        Ok(queue)
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}", self.task, self.queue)
    }
}

impl FromStr for Handle {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let (task, queue) = text.split_once('|').ok_or(ParseIdError::Handle)?;
        Ok(Self {
            task: task.parse().map_err(|_| ParseIdError::Handle)?,
            queue: queue.parse().map_err(|_| ParseIdError::Handle)?,
        })
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl FromStr for WorkerId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let digits = |octet: u8| matches!(octet, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.bytes().all(digits) {
            return Err(ParseIdError::WorkerId);
        }
        let value = u128::from_str_radix(text, 16).map_err(|_| ParseIdError::WorkerId)?;
        Ok(Self(value.to_be_bytes()))
    }
}

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.n)
    }
}

impl FromStr for JournalId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let (ms, n) = text.split_once('-').ok_or(ParseIdError::JournalId)?;
        let part = |text| parse_decimal(text).ok_or(ParseIdError::JournalId);
        Ok(Self {
            ms: part(ms)?,
            n: part(n)?,
        })
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.lane, self.n, self.index)
    }
}

impl FromStr for SlotId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or(ParseIdError::SlotId);
        Ok(Self {
            lane: parse_decimal(part()?).ok_or(ParseIdError::SlotId)?,
            n: parse_decimal(part()?).ok_or(ParseIdError::SlotId)?,
            index: parse_decimal(part()?).ok_or(ParseIdError::SlotId)?,
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Site(site) => {
                f.write_str("site:")?;
                write_part(f, site)
            }
            Self::Tenant(tenant) => {
                f.write_str("tenant:")?;
                write_part(f, tenant)
            }
        }
    }
}

impl FromStr for Scope {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if text == "all" {
            return Ok(Self::All);
        }
        let (kind, name) = text.split_once(':').ok_or(ParseIdError::Scope)?;
        let name = (!name.is_empty()).then(|| read_part(name)).flatten();
        match (kind, name) {
            ("site", Some(site)) => Ok(Self::Site(site)),
            ("tenant", Some(tenant)) => Ok(Self::Tenant(tenant)),
            _ => Err(ParseIdError::Scope),
        }
    }
}

/// As they are written.
impl Ord for Scope {
    fn cmp(&self, other: &Self) -> Ordering {
        self.to_string().cmp(&other.to_string())
    }
}

impl PartialOrd for Scope {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Debug is the written form, and serde reads and writes it.
macro_rules! written_form {
    ($($id:ty),*) => {$(
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

written_form!(
    MessageId, TaskId, QueueId, Handle, WorkerId, SlotId, Scope, JournalId
);

const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const MESSAGE_ID_LENGTH: usize = 26;

fn must_be_encoded(octet: u8) -> bool {
    octet == b'|' || octet == b'%' || octet.is_ascii_control()
}

fn write_part(f: &mut fmt::Formatter<'_>, part: &str) -> fmt::Result {
    let mut rest = part;
    while let Some(at) = rest.bytes().position(must_be_encoded) {
        write!(f, "{}%{:02X}", &rest[..at], rest.as_bytes()[at])?;
        rest = &rest[at + 1..];
    }
    f.write_str(rest)
}

/// Reads what [`write_part`] wrote; `None` for everything it would have written otherwise.
fn read_part(text: &str) -> Option<String> {
    let mut part = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.bytes().position(must_be_encoded) {
        part.push_str(&rest[..at]);
        let digits = rest[at..].strip_prefix('%')?.get(..2)?;
        let octet = u8::from_str_radix(digits, 16).ok()?;
        if !must_be_encoded(octet)
            || digits
                .bytes()
                .any(|digit| !matches!(digit, b'0'..=b'9' | b'A'..=b'F'))
        {
            return None;
        }
        part.push(char::from(octet));
        rest = &rest[at + 3..];
    }
    part.push_str(rest);
    Some(part)
}

/// Decimal digits from the left, then zeros.
fn digits(number: u16) -> [u8; 5] {
    let mut digits = [0; 5];
    // A number of 16 bits has five digits at most.
    let _ = write!(&mut digits[..], "{number}");
    digits
}

/// A decimal number without sign or leading zeros.
fn parse_decimal<T: FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn message_id_has_the_known_form_and_order() {
        let id = MessageId::new(1_469_918_176_385, [0xff; 10]);
        assert_eq!(id.to_string(), "01aryz6s41zzzzzzzzzzzzzzzz");
        assert_eq!(id.unix_ms(), 1_469_918_176_385);
        assert!(id < MessageId::new(1_469_918_176_386, [0; 10]));
        assert!(id.to_string() < MessageId::new(1_469_918_176_386, [0; 10]).to_string());
    }

    #[test]
    fn task_ids_are_ordered_as_they_are_written() {
        let message = MessageId::from_octets([7; 16]);
        let mut ids: Vec<_> = [65_535, 2, 0, 10, 1, 100, 19, 9, 11, 1_000]
            .map(|ordinal| TaskId::new(message, ordinal))
            .into();
        ids.push(TaskId::new(MessageId::from_octets([6; 16]), 99));
        let mut written: Vec<_> = ids.iter().map(TaskId::to_string).collect();
        ids.sort();
        written.sort();
        assert_eq!(
            ids.iter().map(TaskId::to_string).collect::<Vec<_>>(),
            written
        );
    }

    #[test]
    fn other_spellings_are_refused() {
        let mid = "01arz3ndektsv4rrffq69g5fav";
        assert!(mid.parse::<MessageId>().is_ok());
        for text in [
            "",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "81arz3ndektsv4rrffq69g5fav",
            "01arz3ndektsv4rrffq69g5fau",
            "é1arz3ndektsv4rrffq69g5fa",
        ] {
            assert_eq!(
                text.parse::<MessageId>(),
                Err(ParseIdError::MessageId),
                "{text}"
            );
        }
        for ordinal in ["", "01", "+1", "65536", "-0", " 1"] {
            assert_eq!(
                format!("{mid}.{ordinal}").parse::<TaskId>(),
                Err(ParseIdError::TaskId),
                "{ordinal}"
            );
        }
        for text in [
            "",
            "a|b|c",
            "a|b|c|d|e",
            "a%7c|||",
            "a%41|||",
            "a%|||",
            "a%2|||",
            "a%+2|||",
            "\u{7}|||",
            "%é|||",
        ] {
            assert_eq!(
                text.parse::<QueueId>(),
                Err(ParseIdError::QueueId),
                "{text:?}"
            );
        }
        assert_eq!(
            "0000000000000000000000000000000G".parse::<WorkerId>(),
            Err(ParseIdError::WorkerId)
        );
        assert_eq!("1.2".parse::<SlotId>(), Err(ParseIdError::SlotId));
        for text in ["", "ALL", "all:", "site:", "tenant:a|b", "route:x"] {
            assert_eq!(text.parse::<Scope>(), Err(ParseIdError::Scope), "{text:?}");
        }
        for text in ["", "1", "1-", "-1", "1-+2", "01-2", "1-2-3"] {
            assert_eq!(
                text.parse::<JournalId>(),
                Err(ParseIdError::JournalId),
                "{text}"
            );
        }
    }

    #[test]
    fn queue_id_encodes_only_what_it_must() {
        let queue = QueueId {
            tenant: "a|b%c\n".into(),
            class: String::new(),
            egress: "é /".into(),
            route: "mx:example.org".into(),
        };
        assert_eq!(queue.to_string(), "a%7Cb%25c%0A||é /|mx:example.org");
    }

    fn same<T: FromStr<Err = ParseIdError> + fmt::Display + PartialEq + fmt::Debug>(id: &T) {
        assert_eq!(id.to_string().parse::<T>().as_ref(), Ok(id));
    }

    proptest! {
        #[test]
        fn written_and_read_back(octets: [u8; 16], ordinal: u16, n: u64, parts: [String; 4]) {
            let message = MessageId::from_octets(octets);
            let [tenant, class, egress, route] = parts;
            let queue = QueueId { tenant, class, egress, route };
            let task = TaskId::new(message, ordinal);
            same(&message);
            same(&task);
            same(&queue);
            same(&Scope::All);
            if !queue.route.is_empty() && !queue.tenant.is_empty() {
                same(&Scope::Site(queue.route.clone()));
                same(&Scope::Tenant(queue.tenant.clone()));
            }
            same(&Handle::new(task, queue.clone()));
            same(&WorkerId::from_octets(octets));
            same(&SlotId { lane: ordinal, n, index: ordinal });
            same(&JournalId { ms: n, n: ordinal.into() });
            let json = serde_json::to_string(&queue).unwrap();
            prop_assert_eq!(serde_json::from_str::<QueueId>(&json).unwrap(), queue);
        }

        #[test]
        fn what_is_read_is_written_the_same(text in "[a-c%|0-9A-F\u{7}é]{0,12}") {
            if let Ok(queue) = text.parse::<QueueId>() {
                prop_assert_eq!(queue.to_string(), text);
            }
        }
    }
}
