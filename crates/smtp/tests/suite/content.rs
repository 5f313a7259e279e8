use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use smtp::Content;
use smtp::data::{ContentError, DataLimits, DataReader, DataRefusal};

#[test]
fn raw_content_is_stuffed() {
    let check = |raw: &[u8], stuffed: &[u8]| {
        let content = Content::from_raw(raw).unwrap();
        assert_eq!(content.chunks().concat(), stuffed, "{}", raw.escape_ascii());
        assert_eq!(content.stuffed_len(), stuffed.len() as u64);
        let mut complete = raw.to_vec();
        if !raw.is_empty() && !raw.ends_with(b"\r\n") {
            complete.extend_from_slice(b"\r\n");
        }
        assert_eq!(content.to_raw(), complete);
        assert_eq!(content.raw_len(), complete.len() as u64);
    };
    check(b"", b"");
    check(b"\r\n", b"\r\n");
    check(b"a", b"a\r\n");
    check(b".", b"..\r\n");
    check(b".\r\n", b"..\r\n");
    check(b"..\r\n.a\r\n", b"...\r\n..a\r\n");
    check(b"a.\r\n", b"a.\r\n");
    check(b"a\r\n.\r\n.\r\n", b"a\r\n..\r\n..\r\n");
}

#[test]
fn content_that_breaks_the_line_rule_cannot_be_made() {
    let raw = |raw: &[u8], expected: ContentError| {
        assert_eq!(
            Content::from_raw(raw),
            Err(expected),
            "{}",
            raw.escape_ascii()
        );
    };
    raw(b"a\rb", ContentError::BareCarriageReturn);
    raw(b"a\r", ContentError::BareCarriageReturn);
    raw(b"a\r\r\n", ContentError::BareCarriageReturn);
    raw(b".\r", ContentError::BareCarriageReturn);
    raw(b"a\nb", ContentError::BareLineFeed);
    raw(b"\n", ContentError::BareLineFeed);
    raw(b"a\n.\r\n", ContentError::BareLineFeed);
    raw(b"a\0b", ContentError::Nul);

    let stuffed = |chunks: &[&'static [u8]], expected: ContentError| {
        let chunks = chunks.iter().map(|chunk| Bytes::from_static(chunk));
        assert_eq!(Content::from_stuffed(chunks), Err(expected));
    };
    stuffed(&[b"."], ContentError::DotLine);
    stuffed(&[b"a\r\n.\r\nb\r\n"], ContentError::DotLine);
    stuffed(&[b"a\r", b"\n", b".", b"\r", b"\nb"], ContentError::DotLine);
    stuffed(&[b"a\r", b"b"], ContentError::BareCarriageReturn);
    stuffed(&[b".\r", b"b"], ContentError::BareCarriageReturn);
    stuffed(&[b"a", b"\n"], ContentError::BareLineFeed);
}

#[test]
fn lines_are_found_across_chunks() {
    let chunks = [&b"Subject: a"[..], b"b\r", b"\n..c\r\n\r\n", b"", b"d\r\n"];
    let content = Content::from_stuffed(chunks.map(Bytes::from_static)).unwrap();
    let lines: Vec<_> = content.lines().collect();
    assert_eq!(lines, [&b"Subject: ab"[..], b".c", b"", b"d"]);
    assert!(matches!(lines[3], Cow::Borrowed(_)));
    assert_eq!(content.to_raw(), b"Subject: ab\r\n.c\r\n\r\nd\r\n");
}

#[test]
fn trace_fields_go_in_front() {
    let mut content = Content::from_raw(b".a\r\n").unwrap();
    content.prepend(Content::from_raw(b"Received: x\r\n").unwrap());
    assert_eq!(content.to_raw(), b"Received: x\r\n.a\r\n");
    assert_eq!((content.raw_len(), content.stuffed_len()), (17, 18));
}

#[test]
fn limits_are_kept() {
    let check = |octets: Vec<u8>, expected: Result<u64, DataRefusal>| {
        let limits = DataLimits::with_size(400_000);
        for cut in [1000, 65_536, usize::MAX] {
            let mut reader = DataReader::new(limits);
            let mut input = BytesMut::new();
            let mut read = None;
            for piece in octets.chunks(cut.min(octets.len())) {
                assert!(read.is_none(), "the end came early");
                input.extend_from_slice(piece);
                assert!(
                    input.len() < 64 * 1024 + 3 + piece.len(),
                    "the buffer is bounded"
                );
                read = reader.read(&mut input);
            }
            let read = read.expect("the end must be found").map(|content| {
                assert!(
                    content.chunks().len() <= 1 + octets.len() / 64_000,
                    "few chunks"
                );
                content.raw_len()
            });
            assert_eq!(read, expected);
            assert!(input.is_empty());
        }
    };
    let with_body = |body: &[u8]| [b"Subject: x\r\n\r\n", body, b"\r\n.\r\n"].concat();
    check(with_body(&b"x".repeat(16_384)), Ok(14 + 16_386));
    check(
        with_body(&b"x".repeat(16_385)),
        Err(DataRefusal::LineTooLong),
    );
    check(
        with_body(&b"0123456\r\n".repeat(44_000)),
        Ok(14 + 396_000 + 2),
    );
    check(
        with_body(&b"0123456\r\n".repeat(45_000)),
        Err(DataRefusal::TooLarge),
    );
    check(with_body(&b"..\r\n".repeat(130_000)), Ok(14 + 390_000 + 2));
    let field = b"X-Field: 0123456\r\n";
    check(
        [&field.repeat(7000)[..], b"\r\n.\r\n"].concat(),
        Ok(126_002),
    );
    check(
        [&field.repeat(8000)[..], b"\r\n.\r\n"].concat(),
        Err(DataRefusal::HeaderTooLarge),
    );
    check(
        [&field.repeat(8000)[..], b".\r\n"].concat(),
        Err(DataRefusal::HeaderTooLarge),
    );
    // However many faults there are, the verdict does not depend on the cut.
    let faults = [
        &b"x".repeat(20_000)[..],
        b"\0\n",
        &b"y\r\n".repeat(200_000),
        b".\r\n",
    ]
    .concat();
    check(faults, Err(DataRefusal::TooLarge));
}

#[test]
fn octets_are_not_copied() {
    let mut input = BytesMut::from(&b"Subject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n"[..]);
    let address = input.as_ptr();
    let content = DataReader::new(DataLimits::with_size(100))
        .read(&mut input)
        .unwrap()
        .unwrap();
    assert_eq!(content.chunks().len(), 1);
    assert_eq!(content.chunks()[0].as_ptr(), address);
    assert_eq!(&input[..], b"QUIT\r\n");
}

#[test]
fn the_header_section_is_found_however_it_is_cut() {
    let found = |stuffed: &[u8], cut: usize| {
        let pieces: Vec<_> = stuffed.chunks(cut).map(Bytes::copy_from_slice).collect();
        Content::header_section_of(&pieces).map(|section| section.chunks().concat())
    };
    for cut in 1..20 {
        let check = |stuffed: &[u8], section: &[u8]| {
            assert_eq!(found(stuffed, cut).as_deref(), Ok(section), "cut {cut}");
        };
        check(b"a: b\r\n\r\nc\r\n\r\n", b"a: b\r\n\r\n");
        check(b"\r\nc\r\n\r\nd", b"\r\n");
        check(b"..a: b\r\n\r\nc", b"..a: b\r\n\r\n");
        check(b"a: b\r\nc: cut sh", b"a: b\r\n");
        check(b"a: cut sh", b"");
        assert_eq!(found(b"a\nb\r\n\r\n", cut), Err(ContentError::BareLineFeed));
    }
}
