//! The Redis serialization protocol, version 2: requests as segments that are written without being
//! joined, replies as slices of what was read.
//!
//! A body goes from the client's slices to the socket, and from the socket to the record, without a
//! copy in between; that, and knowing exactly how much of a request has left, is why this is not a
//! general client.

use std::collections::VecDeque;
use std::fmt::{Display, Write};
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Commands sent together, each answered by one reply.
#[derive(Default, Debug)]
pub(super) struct Request {
    segments: VecDeque<Bytes>,
    octets: usize,
    commands: usize,
}

impl Request {
    pub(super) fn of(command: Command) -> Self {
        let mut request = Self::default();
        request.push(command);
        request
    }

    pub(super) fn push(&mut self, mut command: Command) {
        let mut head = BytesMut::with_capacity(16);
        put_head(&mut head, b'*', command.arguments);
        command.close_text();
        self.commands += 1;
        self.append(head.freeze());
        for segment in command.segments {
            self.append(segment);
        }
    }

    /// How many replies it will have.
    pub(super) fn commands(&self) -> usize {
        self.commands
    }

    fn append(&mut self, segment: Bytes) {
        self.octets += segment.len();
        self.segments.push_back(segment);
    }
}

impl Buf for Request {
    fn remaining(&self) -> usize {
        self.octets
    }

    fn chunk(&self) -> &[u8] {
        self.segments.front().map_or(&[], |segment| segment)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, segment) in slices.iter_mut().zip(&self.segments) {
            *slice = IoSlice::new(segment);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        self.octets -= count;
        while let Some(segment) = self.segments.front_mut() {
            if segment.len() > count {
                segment.advance(count);
                return;
            }
            count -= segment.len();
            self.segments.pop_front();
        }
    }
}

/// One command with its arguments.
#[derive(Clone, Default, Debug)]
pub(super) struct Command {
    arguments: usize,
    segments: Vec<Bytes>,
    text: BytesMut,
    scratch: String,
}

impl Command {
    pub(super) fn new(name: &str) -> Self {
        let mut command = Self::default();
        command.arg(name);
        command
    }

    pub(super) fn arg(&mut self, octets: impl AsRef<[u8]>) -> &mut Self {
        let octets = octets.as_ref();
        self.head(octets.len());
        self.text.put_slice(octets);
        self.text.put_slice(b"\r\n");
        self
    }

    /// An id in its written form, or a number.
    pub(super) fn written(&mut self, value: impl Display) -> &mut Self {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        write!(scratch, "{value}").expect("writing to a string cannot fail");
        self.arg(&scratch);
        self.scratch = scratch;
        self
    }

    /// One argument made of slices, which are sent as they are.
    pub(super) fn slices<'a>(&mut self, slices: impl Iterator<Item = &'a Bytes> + Clone) {
        self.head(slices.clone().map(Bytes::len).sum());
        self.close_text();
        self.segments.extend(slices.cloned());
        self.text.put_slice(b"\r\n");
    }

    /// Appends the arguments of `other`, which has no name of its own.
    pub(super) fn join(&mut self, mut other: Self) {
        other.close_text();
        self.close_text();
        self.arguments += other.arguments;
        self.segments.append(&mut other.segments);
    }

    fn head(&mut self, length: usize) {
        self.arguments += 1;
        put_head(&mut self.text, b'$', length);
    }

    fn close_text(&mut self) {
        if !self.text.is_empty() {
            self.segments.push(self.text.split().freeze());
        }
    }
}

fn put_head(into: &mut BytesMut, kind: u8, length: usize) {
    into.put_u8(kind);
    write!(into, "{length}\r\n").expect("a growing buffer takes all");
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reply {
    Status(Bytes),
    Error(String),
    Integer(i64),
    Bulk(Bytes),
    Nil,
    Array(Vec<Self>),
}

/// The octets are no reply of this protocol.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct ReplyError(&'static str);

/// Takes one reply from the front of `buffer`, or says how many octets it must hold at least
/// before there is one.
pub(super) fn take_reply(buffer: &mut BytesMut) -> Result<Result<Reply, usize>, ReplyError> {
    let end = match end_of(buffer, 0, 0)? {
        Ok(end) => end,
        Err(needed) => return Ok(Err(needed)),
    };
    let octets = buffer.split_to(end).freeze();
    let (reply, _) = build(&octets, 0)?;
    Ok(Ok(reply))
}

/// Where the reply that starts at `start` ends, or the least length at which that may be known.
/// Contents are skipped, not read, so asking again after more has come is cheap.
fn end_of(octets: &[u8], start: usize, depth: usize) -> Result<Result<usize, usize>, ReplyError> {
    if depth > MAX_DEPTH {
        return Err(ReplyError("reply is nested too deep"));
    }
    let Some(Line {
        kind,
        line,
        mut next,
    }) = line_at(octets, start)?
    else {
        return Ok(Err(octets.len().max(start) + 1));
    };
    match kind {
        b'+' | b'-' | b':' => Ok(Ok(next)),
        b'$' => {
            if let Some(length) = length_of(line)? {
                next += length + 2;
            }
            Ok(if octets.len() < next {
                Err(next)
            } else {
                Ok(next)
            })
        }
        b'*' => {
            for _ in 0..length_of(line)?.unwrap_or(0) {
                match end_of(octets, next, depth + 1)? {
                    Ok(end) => next = end,
                    Err(needed) => return Ok(Err(needed)),
                }
            }
            Ok(Ok(next))
        }
        _ => Err(ReplyError("reply of an unknown kind")),
    }
}

/// Only for octets whose end [`end_of`] has found.
fn build(octets: &Bytes, start: usize) -> Result<(Reply, usize), ReplyError> {
    let Some(Line {
        kind,
        line,
        mut next,
    }) = line_at(octets, start)?
    else {
        return Err(ReplyError("reply is cut short"));
    };
    let reply = match kind {
        b'+' => Reply::Status(octets.slice_ref(line)),
        b'-' => Reply::Error(String::from_utf8_lossy(line).into_owned()),
        b':' => Reply::Integer(number_of(line)?),
        b'$' => match length_of(line)? {
            None => Reply::Nil,
            Some(length) => {
                let content = octets.slice(next..next + length);
                next += length + 2;
                Reply::Bulk(content)
            }
        },
        _ => match length_of(line)? {
            None => Reply::Nil,
            Some(count) => {
                let mut items = Vec::with_capacity(count.min(4096));
                for _ in 0..count {
                    let (item, end) = build(octets, next)?;
                    items.push(item);
                    next = end;
                }
                Reply::Array(items)
            }
        },
    };
    Ok((reply, next))
}

struct Line<'a> {
    kind: u8,
    /// Without the kind and CRLF.
    line: &'a [u8],
    /// Where what follows it starts.
    next: usize,
}

fn line_at(octets: &[u8], start: usize) -> Result<Option<Line<'_>>, ReplyError> {
    let rest = octets.get(start..).unwrap_or_default();
    let Some(end) = rest.iter().take(MAX_LINE).position(|octet| *octet == b'\n') else {
        return if rest.len() < MAX_LINE {
            Ok(None)
        } else {
            Err(ReplyError("line is too long"))
        };
    };
    match &rest[..end] {
        [kind, line @ .., b'\r'] => Ok(Some(Line {
            kind: *kind,
            line,
            next: start + end + 1,
        })),
        _ => Err(ReplyError("line does not end in CRLF")),
    }
}

fn number_of(line: &[u8]) -> Result<i64, ReplyError> {
    std::str::from_utf8(line)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(ReplyError("not a number"))
}

/// `None` is the null reply, -1.
fn length_of(line: &[u8]) -> Result<Option<usize>, ReplyError> {
    match number_of(line)? {
        -1 => Ok(None),
        length @ 0..=MAX_LENGTH => Ok(Some(length as usize)),
        _ => Err(ReplyError("length is out of bounds")),
    }
}

/// What Redis itself allows in one value.
const MAX_LENGTH: i64 = 512 * 1024 * 1024;
const MAX_DEPTH: usize = 4;
const MAX_LINE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(mut request: Request) -> Vec<u8> {
        let length = request.remaining();
        request.copy_to_bytes(length).to_vec()
    }

    #[test]
    fn requests_are_written_as_arrays_of_bulk_strings() {
        let mut set = Command::new("SET");
        set.arg("key");
        set.slices(
            [
                Bytes::from_static(b"ab"),
                Bytes::new(),
                Bytes::from_static(b"c"),
            ]
            .iter(),
        );
        set.written(42);
        let mut request = Request::of(Command::new("MULTI"));
        request.push(set);
        assert_eq!(request.commands(), 2);
        assert_eq!(
            written(request),
            b"*1\r\n$5\r\nMULTI\r\n*4\r\n$3\r\nSET\r\n$3\r\nkey\r\n$3\r\nabc\r\n$2\r\n42\r\n"
        );
    }

    #[test]
    fn a_request_can_be_written_in_pieces_of_any_size() {
        let request = || {
            let mut command = Command::new("SET");
            command.slices([Bytes::from_static(b"hello"), Bytes::from_static(b"world")].iter());
            Request::of(command)
        };
        let whole = written(request());
        for step in 1..=whole.len() {
            let (mut request, mut got) = (request(), Vec::new());
            while request.has_remaining() {
                let count = step.min(request.chunk().len());
                got.extend_from_slice(&request.chunk()[..count]);
                request.advance(count);
            }
            assert_eq!(got, whole, "in steps of {step}");
        }
    }

    #[test]
    fn vectored_slices_cover_the_front_of_the_request() {
        let mut command = Command::new("SET");
        command.slices([Bytes::from_static(b"body")].iter());
        let request = Request::of(command);
        let mut slices = [IoSlice::new(&[]); 3];
        assert_eq!(request.chunks_vectored(&mut slices), 3);
        let octets: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        assert_eq!(octets, b"*2\r\n$3\r\nSET\r\n$4\r\nbody");
    }

    fn read(octets: &[u8]) -> Result<Result<Reply, usize>, ReplyError> {
        take_reply(&mut BytesMut::from(octets))
    }

    #[test]
    fn replies_are_read_however_the_octets_come() {
        let bulk = |text: &'static str| Reply::Bulk(Bytes::from(text));
        let cases: [(&[u8], Reply); 8] = [
            (b"+OK\r\n", Reply::Status(Bytes::from("OK"))),
            (b"-OOM no\r\n", Reply::Error("OOM no".into())),
            (b":-7\r\n", Reply::Integer(-7)),
            (b"$-1\r\n", Reply::Nil),
            (b"*-1\r\n", Reply::Nil),
            (b"$0\r\n\r\n", bulk("")),
            (b"$4\r\na\r\nb\r\n", bulk("a\r\nb")),
            (
                b"*3\r\n$1\r\nx\r\n*0\r\n:1\r\n",
                Reply::Array(vec![bulk("x"), Reply::Array(vec![]), Reply::Integer(1)]),
            ),
        ];
        for (octets, reply) in cases {
            assert_eq!(read(octets), Ok(Ok(reply)));
            for cut in 0..octets.len() {
                match read(&octets[..cut]) {
                    Ok(Err(needed)) => assert!(cut < needed && needed <= octets.len()),
                    other => panic!("{cut} octets of {octets:?} gave {other:?}"),
                }
            }
        }
    }

    #[test]
    fn what_follows_a_reply_stays_in_the_buffer() {
        let mut buffer = BytesMut::from(&b":1\r\n:2\r\n"[..]);
        assert_eq!(take_reply(&mut buffer), Ok(Ok(Reply::Integer(1))));
        assert_eq!(take_reply(&mut buffer), Ok(Ok(Reply::Integer(2))));
        assert!(buffer.is_empty());
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for octets in [
            &b"HTTP/1.1 400\r\n"[..],
            b":x\r\n",
            b"$-2\r\n",
            b"$999999999999\r\n",
            b":1\n",
        ] {
            assert!(read(octets).is_err(), "{octets:?}");
        }
        assert!(read(&b"*1\r\n".repeat(9)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_octets_make_the_reader_panic(octets in proptest::collection::vec(0u8.., 0..64)) {
            let _ = read(&octets);
        }
    }
}
