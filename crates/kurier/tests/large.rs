//! The largest messages go through a relay whose memory does not grow with them.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use support::{Process, free_port};

const MESSAGES: usize = 8;
const SIZE: usize = 50 << 20;
/// What may come on top of an idle relay. Held whole, the messages would take 400 MiB; what reception
/// and delivery may hold of each is less than 3 MiB, the page cache of the embedded file 16 MiB, and
/// the rest is left to the allocator.
const GROWTH_KIB: usize = 128 << 10;

#[test]
fn the_largest_messages_pass_through_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue");
    let source = format!("{{type: Embedded, embedded: {{path: {}}}}}", path.display());
    pass_through(folder.path(), &source);
}

#[test]
fn the_largest_messages_pass_through_redis() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let redis = Command::new("redis-server")
        .current_dir(folder.path())
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--appendonly", "yes", "--appendfsync", "always"])
        .args(["--save", "", "--maxmemory-policy", "noeviction"])
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed");
    let _redis = Process(redis);
    let url = folder.path().join("url");
    std::fs::write(&url, format!("redis://127.0.0.1:{port}")).unwrap();
    let source = format!("{{type: Redis, redis: {{urlFile: {}}}}}", url.display());
    pass_through(folder.path(), &source);
}

fn pass_through(folder: &Path, source: &str) {
    let (smtp, admin) = (free_port(), free_port());
    let (next_hop, arrived) = receiver();
    let document = folder.join("relay.yaml");
    let text = format!(
        "schema: 1
hostname: mail.example.com
listeners:
- {{name: smtp, address: '127.0.0.1:{smtp}', role: Relay, allowedNetworks: [127.0.0.0/8]}}
queue: {{source: {source}}}
limits: {{messageSize: 50Mi}}
admin: {{health: '127.0.0.1:{admin}', management: '127.0.0.1:{admin}'}}
drain: {{acceptFor: 0s, deadline: 5s}}
routes:
- name: all
  rules:
  - name: all
    action: {{type: Smarthost, smarthost: {{host: 127.0.0.1, port: {next_hop}}}}}
"
    );
    std::fs::write(&document, text).unwrap();
    let relay = Command::new(env!("CARGO_BIN_EXE_kurier"))
        .args(["relay", "--config"])
        .arg(&document)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let relay = Process(relay);
    // A small one shows that everything is there.
    let began = Instant::now();
    let small = loop {
        match send(smtp, "small", 1000) {
            Some(hash) => break hash,
            None => assert!(began.elapsed() < PATIENCE, "it does not come up"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(arrived.recv_timeout(PATIENCE).unwrap(), small);
    let before = peak_kib(&relay);

    let senders = (0..MESSAGES).map(|number| {
        std::thread::spawn(move || {
            let subject = format!("large {number}");
            send(smtp, &subject, SIZE).expect("a positive reply")
        })
    });
    let senders: Vec<_> = senders.collect();
    let sent: BTreeSet<_> = senders.into_iter().map(|s| s.join().unwrap()).collect();
    let got: BTreeSet<_> = (0..MESSAGES)
        .map(|_| arrived.recv_timeout(PATIENCE).expect("a message"))
        .collect();
    assert_eq!(got.len(), MESSAGES);
    assert!(got == sent, "what arrives is not what was sent");
    let growth = peak_kib(&relay) - before;
    assert!(growth < GROWTH_KIB, "{growth} KiB more than idle");
}

/// Sends a message of `size` octets; gives the hash of it if it was accepted.
fn send(port: u16, subject: &str, size: usize) -> Option<[u8; 32]> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut replies = BufReader::new(stream.try_clone().ok()?);
    let mut out = BufWriter::with_capacity(1 << 20, stream);
    let mut reply = |expected: char| {
        let mut line = String::new();
        replies.read_line(&mut line).ok()?;
        line.starts_with(expected).then_some(())
    };
    reply('2')?;
    for (command, expected) in [
        ("HELO client.example", '2'),
        ("MAIL FROM:<a@example.org>", '2'),
        ("RCPT TO:<b@example.net>", '2'),
        ("DATA", '3'),
    ] {
        out.write_all(format!("{command}\r\n").as_bytes()).ok()?;
        out.flush().ok()?;
        reply(expected)?;
    }
    let mut hash = Sha256::new();
    let head = format!("Subject: {subject}\r\n\r\n");
    let (mut left, mut number) = (size, 0_u64);
    let mut line = head;
    while left > 0 {
        line.truncate(left);
        if left == line.len() {
            line.replace_range(left - 2.., "\r\n");
        }
        hash.update(&line);
        if line.starts_with('.') {
            out.write_all(b".").ok()?;
        }
        out.write_all(line.as_bytes()).ok()?;
        left -= line.len();
        // No two lines are the same, every third begins with a dot, and one octet never ends a message.
        number += 1;
        let dot = if number.is_multiple_of(3) { "." } else { "" };
        line = format!("{dot}{number:060} of {subject}\r\n");
        if left < 2 * line.len() {
            line = format!("{}\r\n", "x".repeat(left.saturating_sub(2)));
        }
    }
    out.write_all(b".\r\n").ok()?;
    out.flush().ok()?;
    reply('2')?;
    Some(hash.finalize().into())
}

/// A next hop that keeps the hash of what it gets, without the trace field in front.
fn receiver() -> (u16, mpsc::Receiver<[u8; 32]>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (arrived, arrivals) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let arrived = arrived.clone();
            std::thread::spawn(move || receive(stream, &arrived));
        }
    });
    (port, arrivals)
}

fn receive(mut stream: TcpStream, arrived: &mpsc::Sender<[u8; 32]>) -> Option<()> {
    let mut input = BufReader::with_capacity(1 << 16, stream.try_clone().ok()?);
    stream.write_all(b"220 next.example\r\n").ok()?;
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        let reply: &[u8] = match line.get(..4)? {
            b"DATA" => {
                stream.write_all(b"354 go\r\n").ok()?;
                arrived.send(hash_of_content(&mut input)?).ok()?;
                b"250 taken\r\n"
            }
            b"QUIT" => return None,
            _ => b"250 ok\r\n",
        };
        stream.write_all(reply).ok()?;
    }
}

fn hash_of_content(input: &mut impl BufRead) -> Option<[u8; 32]> {
    let (mut hash, mut line, mut in_trace) = (Sha256::new(), Vec::new(), true);
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        in_trace &= line.starts_with(b"Received:") || line.starts_with(b"\t");
        match line.as_slice() {
            b".\r\n" => return Some(hash.finalize().into()),
            _ if in_trace => {}
            line => hash.update(line.strip_prefix(b".").unwrap_or(line)),
        }
    }
}

/// The most memory the process has had so far.
fn peak_kib(process: &Process) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let digits = peak.unwrap().trim().trim_end_matches(" kB");
    digits.parse().unwrap()
}

const PATIENCE: Duration = Duration::from_secs(240);
