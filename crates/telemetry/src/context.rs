//! [`TraceContext`], the carrier of a trace from one place to another.

use std::fmt;
use std::str::FromStr;

use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

use crate::tracer;

/// A position in a trace: the trace, the span that what follows is a child of, and whether the
/// trace is sampled.
///
/// Its text form is the W3C `traceparent` value, both for [`fmt::Display`] and [`FromStr`], so
/// it can be stored with a message and taken up by another process at any later time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: TraceId,
    span_id: SpanId,
    flags: u8,
}

impl TraceContext {
    /// The root of a new trace. Whether it is sampled is decided here, once for all its spans.
    pub fn new_root() -> Self {
        tracer::global().new_root()
    }

    /// Reads a `traceparent` header field value. Anything malformed gives `None`: the message
    /// then simply starts a trace of its own.
    pub fn from_traceparent(value: &str) -> Option<Self> {
        // W3C Trace Context §3.2.2: version "-" trace-id "-" parent-id "-" trace-flags.
        let bytes = value.trim_matches([' ', '\t']).as_bytes();
        let (head, rest) = bytes.split_at_checked(TRACEPARENT_LENGTH)?;
        let [version, trace_id, span_id, flags] =
            [(0, 2), (3, 35), (36, 52), (53, 55)].map(|(from, to)| lower_hex(&head[from..to]));
        if [head[2], head[35], head[52]] != [b'-'; 3] {
            return None;
        }
        // §3.2.2.1 and §4.1: 0xff is invalid, version 0 is exactly this long, a later one may go
        // on behind another dash.
        match (version?, rest) {
            (0xff, _) => return None,
            (_, []) => {}
            (0, _) => return None,
            (_, [b'-', ..]) => {}
            _ => return None,
        }
        let trace_id = TraceId(trace_id.filter(|id| *id != 0)?);
        let span_id = SpanId(u64::try_from(span_id?).ok().filter(|id| *id != 0)?);
        let flags = u8::try_from(flags?).ok()? & KNOWN_FLAGS;
        Some(Self {
            trace_id,
            span_id,
            flags,
        })
    }

    /// The value of a `traceparent` header field.
    pub fn to_traceparent(&self) -> String {
        self.to_string()
    }

    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    pub fn span_id(&self) -> SpanId {
        self.span_id
    }

    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// A fresh trace whose sampling `decide` makes from the trace id.
    pub(crate) fn root(decide: impl FnOnce(TraceId) -> bool) -> Self {
        let trace_id = TraceId::random();
        let sampled = if decide(trace_id) { SAMPLED } else { 0 };
        Self {
            trace_id,
            span_id: SpanId::random(),
            flags: sampled | RANDOM,
        }
    }

    /// The context of a new child span.
    pub(crate) fn child(&self) -> Self {
        Self {
            span_id: SpanId::random(),
            ..*self
        }
    }

    pub(crate) fn flags(&self) -> u8 {
        self.flags
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{}-{}-{:02x}",
            self.trace_id, self.span_id, self.flags
        )
    }
}

impl FromStr for TraceContext {
    type Err = ParseTraceContextError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::from_traceparent(s).ok_or(ParseTraceContextError)
    }
}

/// The text is not a `traceparent` value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent value")]
pub struct ParseTraceContextError;

/// Displayed as 32 lower-case hexadecimal digits. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(pub(crate) u128);

impl TraceId {
    fn random() -> Self {
        // An all-zero id is invalid (W3C Trace Context §3.2.2.3), if only once in 2^128.
        Self(u128::from_be_bytes(RandomIdGenerator::default().new_trace_id().to_bytes()).max(1))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Displayed as 16 lower-case hexadecimal digits. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(pub(crate) u64);

impl SpanId {
    fn random() -> Self {
        Self(u64::from_be_bytes(RandomIdGenerator::default().new_span_id().to_bytes()).max(1))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// W3C Trace Context §3.2.2.3 ff.: only lower-case digits are valid.
fn lower_hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

const TRACEPARENT_LENGTH: usize = 55;
const SAMPLED: u8 = 0x01;
/// The right-most seven bytes of the trace id are random, so all may sample by them alike.
const RANDOM: u8 = 0x02;
const KNOWN_FLAGS: u8 = SAMPLED | RANDOM;

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn reads_traceparent() {
        let check = |input: &str, expected: Option<&str>| {
            let read = TraceContext::from_traceparent(input).map(|c| c.to_traceparent());
            assert_eq!(read.as_deref(), expected, "{input:?}");
        };
        check(EXAMPLE, Some(EXAMPLE));
        check(&format!(" {EXAMPLE}\t"), Some(EXAMPLE));
        // A later version is read as far as it is known, unknown flags are not passed on.
        check(&EXAMPLE.replacen("00", "01", 1), Some(EXAMPLE));
        check(
            &format!("{}-more", EXAMPLE.replacen("00", "cc", 1)),
            Some(EXAMPLE),
        );
        check(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-fd",
            Some(EXAMPLE),
        );
        check(&format!("{EXAMPLE}-more"), None);
        check(&format!("{}more", EXAMPLE.replacen("00", "cc", 1)), None);
        check(&EXAMPLE.replacen("00", "ff", 1), None);
        check(&EXAMPLE.to_uppercase(), None);
        check(&EXAMPLE[..54], None);
        check(&EXAMPLE.replace('-', "_"), None);
        check(
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            None,
        );
        check(
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            None,
        );
        check(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-01",
            None,
        );
        check("", None);
    }

    #[test]
    fn text_form_is_stable() {
        let context: TraceContext = EXAMPLE.parse().unwrap();
        assert_eq!(context.to_string(), EXAMPLE);
        assert_eq!(
            context.trace_id().to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(context.span_id().to_string(), "b7ad6b7169203331");
        assert!(context.is_sampled());
        assert_eq!(
            "nonsense".parse::<TraceContext>(),
            Err(ParseTraceContextError)
        );
    }

    #[test]
    fn child_stays_in_the_trace() {
        let parent: TraceContext = EXAMPLE.parse().unwrap();
        let child = parent.child();
        assert_eq!(child.trace_id(), parent.trace_id());
        assert_ne!(child.span_id(), parent.span_id());
        assert_eq!(child.is_sampled(), parent.is_sampled());
    }
}
