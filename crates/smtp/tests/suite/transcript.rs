//! Transcripts: dialogues in `tests/transcripts`, run against a session.
//!
//! `C:` and `S:` are lines of the client and of the server; `C|` and `S|` are octets with escapes and
//! without a CRLF of their own; consecutive ones are one write. `E:` is an event, `C.` and `S.` a
//! closed connection. `%` sets the session up, `!` is something that happens, `>` a command, `T:` are
//! seconds that pass, `#` a comment. What a session is to put out must be there to the letter.

mod client;
mod server;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Instant;

use bytes::BytesMut;

#[test]
fn server_sessions_follow_their_transcripts() {
    each("server", |text| {
        server::check(text, usize::MAX)?;
        if !text.contains("% whole\n") {
            server::check(text, 1)?;
            server::check(text, 3)?;
        }
        Ok(())
    });
}

#[test]
fn client_sessions_follow_their_transcripts() {
    each("client", |text| {
        client::check(text, usize::MAX)?;
        if !text.contains("% whole\n") {
            client::check(text, 1)?;
            client::check(text, 3)?;
        }
        Ok(())
    });
}

fn each(side: &str, check: impl Fn(&str) -> Result<(), String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/transcripts")
        .join(side);
    let mut failures = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        count += 1;
        if let Err(failure) = check(&text) {
            failures.push(format!(
                "{}:\n{failure}",
                path.file_name().unwrap().display()
            ));
        }
    }
    assert!(count >= 15, "only {count} transcripts of the {side}");
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// A transcript as steps: what goes in, and what is to come out.
struct Step {
    input: Input,
    expected: Vec<String>,
}

enum Input {
    Octets(Vec<u8>),
    Happens(String),
    Command(String),
    Seconds(u64),
    Nothing,
}

/// Splits a transcript into its settings and its steps. `peer` is the letter of the side that is not
/// under test.
fn parse(text: &str, peer: char) -> (Vec<&str>, Vec<Step>) {
    let mut settings = Vec::new();
    let mut steps = vec![Step {
        input: Input::Nothing,
        expected: Vec::new(),
    }];
    for line in text.lines() {
        let (mark, rest) = line.split_at_checked(2).unwrap_or((line, ""));
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let octets = match mark {
            "" | "# " | "#" => continue,
            "% " => {
                settings.push(rest);
                continue;
            }
            "! " => {
                steps.push(Step {
                    input: Input::Happens(rest.to_owned()),
                    expected: Vec::new(),
                });
                continue;
            }
            "> " => {
                steps.push(Step {
                    input: Input::Command(rest.to_owned()),
                    expected: Vec::new(),
                });
                continue;
            }
            "T:" => {
                let seconds = rest.parse().unwrap();
                steps.push(Step {
                    input: Input::Seconds(seconds),
                    expected: Vec::new(),
                });
                continue;
            }
            _ if mark.starts_with(peer) && mark.ends_with(':') => {
                format!("{rest}\r\n").into_bytes()
            }
            _ if mark.starts_with(peer) && mark.ends_with('|') => unescape(rest),
            _ => {
                steps
                    .last_mut()
                    .unwrap()
                    .expected
                    .push(line.trim_end().to_owned());
                continue;
            }
        };
        match steps.last_mut().unwrap() {
            Step {
                input: Input::Octets(before),
                expected,
            } if expected.is_empty() => {
                before.extend_from_slice(&octets);
            }
            _ => steps.push(Step {
                input: Input::Octets(octets),
                expected: Vec::new(),
            }),
        }
    }
    (settings, steps)
}

fn compare(step: &Step, happened: &[String]) -> Result<(), String> {
    if step.expected == happened {
        return Ok(());
    }
    let what = match &step.input {
        Input::Octets(octets) => format!("after \"{}\"", octets.escape_ascii()),
        Input::Happens(what) | Input::Command(what) => format!("after \"{what}\""),
        Input::Seconds(seconds) => format!("after {seconds} seconds"),
        Input::Nothing => "at the beginning".to_owned(),
    };
    let join = |lines: &[String]| {
        lines
            .iter()
            .map(|l| format!("    {l}\n"))
            .collect::<String>()
    };
    Err(format!(
        "{what}\n  expected\n{}  happened\n{}",
        join(&step.expected),
        join(happened)
    ))
}

/// Feeds octets in pieces of at most `cut`.
fn pieces(octets: &[u8], cut: usize, mut feed: impl FnMut(&mut BytesMut)) {
    let mut buffer = BytesMut::new();
    for piece in octets.chunks(cut.min(octets.len()).max(1)) {
        buffer.extend_from_slice(piece);
        feed(&mut buffer);
    }
}

/// Adds what a session wrote as lines.
fn push_lines(lines: &mut Vec<String>, open: &mut String, side: char, octets: &[u8]) {
    open.push_str(&String::from_utf8_lossy(octets));
    while let Some((line, rest)) = open.split_once("\r\n") {
        lines.push(format!("{side}: {line}").trim_end().to_owned());
        *open = rest.to_owned();
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        if octet != b'\\' {
            out.push(octet);
            continue;
        }
        out.push(match octets.next().unwrap() {
            b'r' => b'\r',
            b'n' => b'\n',
            b'0' => 0,
            b'\\' => b'\\',
            b'x' => {
                let digits = [octets.next().unwrap(), octets.next().unwrap()];
                u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => panic!("no such escape: {}", char::from(other)),
        });
    }
    out
}

/// An instant to begin at, always the same; only differences count.
#[allow(clippy::disallowed_methods)]
pub(crate) fn epoch() -> Instant {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    *EPOCH
}
