//! Content that neither side holds whole.

use bytes::Bytes;

use super::{client_config, is_accepted, only_failure, only_finished, path, server_config};
use crate::client::{FailureCause, Payload, Transaction};
use crate::data::Unstuffing;
use crate::pair::{Answer, Pair};
use crate::server::{self, Abandonment, Event};
use crate::{Content, EnhancedStatus, Reply, ReplyCode};

/// Dots wherever a line can have them, and in all some 300 kB.
fn raw() -> Vec<u8> {
    let mut raw = b"Subject: large\r\n\r\n".to_vec();
    for number in 0..20_000 {
        let lines = [
            ".\r\n",
            "..\r\n",
            "a.\r\n.b\r\n",
            "\r\n",
            "text and text\r\n",
        ];
        raw.extend_from_slice(lines[number % lines.len()].as_bytes());
        raw.extend_from_slice(b"some text without an end\r\n".get(number % 25..).unwrap());
    }
    raw
}

fn pieces(raw: &[u8], length: usize) -> Vec<Bytes> {
    let stuffed = Content::from_raw(raw).unwrap().into_chunks().concat();
    stuffed.chunks(length).map(Bytes::copy_from_slice).collect()
}

fn streamed(raw_len: usize) -> Transaction {
    Transaction {
        reverse_path: "<sender@example.org>".parse().unwrap(),
        recipients: vec![path("one@example.net")],
        content: Payload::Streamed {
            raw_len: raw_len as u64,
            has_8bit: false,
        },
    }
}

fn in_parts() -> server::Config {
    server::Config {
        max_part_size: 100_000,
        ..server_config()
    }
}

fn parts(pair: &Pair) -> Vec<&Vec<Bytes>> {
    let parts = pair.server_events.iter().filter_map(|event| match event {
        Event::Content(part) => Some(part),
        _ => None,
    });
    parts.collect()
}

#[test]
fn large_content_goes_in_pieces_and_comes_in_parts() {
    let raw = raw();
    for (length, cut) in [(7, 65_000), (999, 3001), (1 << 20, 70_001)] {
        let mut pair = Pair::new(client_config(), in_parts()).with_cut(cut);
        pair.run();
        pair.pieces = pieces(&raw, length);
        pair.send(streamed(raw.len()));

        assert!(is_accepted(&only_finished(&pair)[0]), "{length} {cut}");
        let parts = parts(&pair);
        assert!(parts.len() > 2, "{} parts", parts.len());
        let lengths = parts
            .iter()
            .map(|part| part.iter().map(Bytes::len).sum::<usize>());
        assert!(lengths.max() <= Some(100_000 + (70 << 10)));
        let first = Content::header_section_of(parts[0]).unwrap();
        assert_eq!(first.to_raw(), b"Subject: large\r\n\r\n");
        let mut unstuffing = Unstuffing::default();
        let mut got = Vec::new();
        for mut piece in parts.into_iter().flatten().map(|piece| &piece[..]) {
            while let Some(slice) = unstuffing.next_slice(&mut piece) {
                got.extend_from_slice(slice);
            }
        }
        assert!(got == raw, "{length} {cut}");
        let envelope = pair.server_events.iter().find_map(|event| match event {
            Event::LargeMessage(message) => Some(message),
            _ => None,
        });
        let envelope = envelope.unwrap();
        assert_eq!(envelope.forward_paths, [path("one@example.net")]);
        assert_eq!(envelope.parameters.size, Some(raw.len() as u64));
    }
}

#[test]
fn a_part_that_is_refused_is_the_last_and_the_session_goes_on() {
    let full = Reply::new(
        ReplyCode::INSUFFICIENT_STORAGE,
        Some(EnhancedStatus::transient(3, 1)),
        "full",
    );
    let raw = raw();
    for refused in 1..=3 {
        let mut count = 0;
        let answer = Answer::Reply(full.clone());
        let pair = Pair::new(client_config(), in_parts()).with_cut(65_000);
        let mut pair = pair.with_answers(move |event| {
            count += usize::from(matches!(event, Event::Content(_)));
            match event {
                Event::Content(_) if count == refused => answer.clone(),
                _ => Answer::Accept,
            }
        });
        pair.run();
        let content = Content::from_raw(&raw).unwrap();
        let mut transaction = streamed(0);
        transaction.content = content.into();
        pair.send(transaction);
        assert_eq!(parts(&pair).len(), refused);
        let [outcome] = only_finished(&pair) else {
            panic!()
        };
        assert!(
            matches!(outcome, crate::client::RecipientOutcome::Refused { reply, .. } if *reply == full),
            "{outcome:?}"
        );
        let abandoned = pair
            .server_events
            .iter()
            .any(|event| matches!(event, Event::Abandoned(Abandonment::Answered)));
        assert!(abandoned);

        pair.pieces = pieces(&raw, 1 << 16);
        pair.send(streamed(raw.len()));
        let accepted = pair.server_events.iter();
        assert_eq!(
            accepted
                .filter(|event| matches!(event, Event::LargeMessage(_)))
                .count(),
            1
        );
    }
}

#[test]
fn content_in_parts_that_breaks_a_rule_is_abandoned() {
    let mut pair = Pair::new(client_config(), in_parts()).with_cut(65_000);
    pair.run();
    let mut raw = raw();
    raw.extend_from_slice(&[b'x'; 20_000]);
    pair.pieces = pieces(&raw, 1000);
    pair.send(streamed(raw.len() + 2));
    assert!(parts(&pair).len() > 1);
    assert!(matches!(
        pair.server_events.last(),
        Some(Event::Abandoned(Abandonment::Content(_)))
    ));
}

#[test]
fn pieces_that_are_not_what_was_announced_never_end_a_message() {
    let pieces: [&[&'static [u8]]; 5] = [
        &[b"four"],
        &[b"four\r\n", b"more\r\n"],
        &[b"\r\n", b".", b"\r\n"],
        &[b"four\n", b"\n"],
        &[],
    ];
    for pieces in pieces {
        let mut pair = Pair::new(client_config(), in_parts());
        pair.run();
        pair.pieces = pieces
            .iter()
            .map(|piece| Bytes::from_static(piece))
            .collect();
        pair.send(streamed(6));
        assert_eq!(
            only_failure(&pair).cause,
            FailureCause::Withheld,
            "{pieces:?}"
        );
        assert!(!pair.written_by_client.ends_with(b".\r\n"));
    }
}
