//! The binary as people start it: what it says of mistakes, and how a relay without a
//! configuration comes and goes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn kurier(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kurier"));
    command.args(arguments);
    command
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn mistakes_in_a_configuration_are_named_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.yaml");
    let good = "schema: 1
hostname: mail.example.com
listeners:
- {name: submission, address: '127.0.0.1:0', role: Submission}
queue: {source: {type: Embedded, embedded: {path: /nowhere/kurier}}}
";
    let path = file.to_str().unwrap();
    std::fs::write(&file, good).unwrap();
    let output = kurier(&["config", "check", path]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("good: 1 listeners")
    );

    std::fs::write(&file, good.replace("role: Submission", "role: Submit")).unwrap();
    for arguments in [["config", "check", path], ["relay", "--config", path]] {
        let said = refused(&kurier(&arguments).output().unwrap());
        let place = format!("{path}:4:");
        assert!(
            said.contains(&place) && said.contains("listeners[0].role"),
            "{said}"
        );
    }

    let missing = refused(
        &kurier(&["relay", "--config", "/nowhere/relay.yaml"])
            .output()
            .unwrap(),
    );
    assert!(missing.contains("/nowhere/relay.yaml"), "{missing}");
}

#[test]
fn an_answer_that_nobody_reads_ends_the_command_quietly() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = kurier(&["demo", "--messages", "1"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(141), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("panicked"), "{said}");
}

/// What only a start would run into is told before it as well, and by both in the same words.
#[test]
fn what_a_relay_could_not_start_with_is_a_mistake_in_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.yaml");
    let path = file.to_str().unwrap();
    let here = folder.path().display();
    let good = format!(
        "schema: 1
hostname: mail.example.com
listeners:
- {{name: submission, address: '127.0.0.1:0', role: Submission}}
queue: {{source: {{type: Embedded, embedded: {{path: {here}/queue}}}}}}
telemetry: {{log: {{filter: info}}}}
"
    );
    let check = |from: &str, to: &str, line: u32, field: &str, part: &str| {
        std::fs::write(&file, good.replacen(from, to, 1)).unwrap();
        for arguments in [["config", "check", path], ["relay", "--config", path]] {
            let said = refused(&kurier(&arguments).output().unwrap());
            let place = format!("{path}:{line}:");
            assert!(said.contains(&place), "{place}: {said}");
            assert!(said.contains(field) && said.contains(part), "{said}");
        }
    };
    let role = "role: Submission";
    let tls = format!(
        "{role}, tls: {{mode: StartTLS, certificateFile: {here}/no.crt, keyFile: {here}/no.key}}"
    );
    check(role, &tls, 4, "listeners[0].tls.certificateFile", "no.crt");
    let source = format!("{{type: Embedded, embedded: {{path: {here}/queue}}}}");
    let redis = |member: &str| format!("{{type: Redis, redis: {{{member}}}}}");
    let (url, file_of_url) = (redis("url: 'redis:6379'"), redis("urlFile: /nowhere/url"));
    check(&source, &url, 5, "queue.source.redis.url", "rediss://");
    let field = "queue.source.redis.urlFile";
    check(&source, &file_of_url, 5, field, "/nowhere/url");
    let authority = redis("url: 'rediss://redis', caFile: /nowhere/ca.crt");
    let field = "queue.source.redis.caFile";
    check(&source, &authority, 5, field, "/nowhere/ca.crt");
    let filter = "filter: relay=loud";
    check(
        "filter: info",
        filter,
        6,
        "telemetry.log.filter",
        "malformed",
    );
    let otlp = "telemetry: {otlp: {endpoint: 'http://a b'}}\n";
    let telemetry = "telemetry: {log: {filter: info}}\n";
    check(telemetry, otlp, 6, "telemetry.otlp.endpoint", "a b");
}

#[test]
fn flags_are_judged_as_documents_are() {
    let check = |flag: &str, value: &str, part: &str| {
        let data = tempfile::tempdir().unwrap();
        let mut command = kurier(&["relay", "--local", flag, value]);
        command.env("XDG_STATE_HOME", data.path());
        let said = refused(&command.output().unwrap());
        assert!(said.contains(part) && !said.contains("hunter2"), "{said}");
    };
    check(
        "--redis",
        "redis://:hunter2/x@redis",
        "--redis: is not an address",
    );
    check("--log-filter", "relay=loud", "log filter");
}

#[test]
fn local_mode_listens_on_loopback_only() {
    for flag in ["--listen", "--admin"] {
        let output = kurier(&["relay", "--local", flag, "0.0.0.0:2525"])
            .output()
            .unwrap();
        let said = refused(&output);
        assert!(
            said.contains(flag) && said.contains("no loopback address"),
            "{said}"
        );
    }
}

/// Accepts a message of a client on this machine, keeps it over a restart, and goes when told.
#[test]
fn a_local_relay_keeps_its_mail_over_a_restart() {
    let data = tempfile::tempdir().unwrap();
    for waiting in [0, 1] {
        let (smtp, admin) = (free_address(), free_address());
        let nobody = free_address();
        let mut relay = kurier(&["relay", "--local", "--data", data.path().to_str().unwrap()])
            .args(["--listen", &smtp.to_string(), "--admin", &admin.to_string()])
            .args(["--smarthost", &nobody.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let queue = until(&mut relay, || {
            get(admin, "/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200 "))?;
            get(admin, "/v1/queue").filter(|answer| answer.starts_with("HTTP/1.1 200 "))
        });
        let tasks: u64 = ["ready", "deferred", "inFlight"]
            .map(|state| number(&queue, state))
            .iter()
            .sum();
        assert_eq!(tasks, waiting, "{queue}");
        if waiting == 0 {
            submit(smtp);
        }
        // The standard library can kill a process, but not ask it to end.
        let asked = Command::new("kill")
            .arg(relay.id().to_string())
            .status()
            .unwrap();
        assert!(asked.success());
        assert!(relay.wait().unwrap().success());
    }
}

fn submit(smtp: SocketAddr) {
    let mut stream = BufReader::new(TcpStream::connect(smtp).unwrap());
    stream.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    let lines = [
        ("", "220 localhost ESMTP"),
        ("HELO client.example", "250 "),
        ("MAIL FROM:<a@example.org>", "250 "),
        ("RCPT TO:<b@example.net>", "250 "),
        ("DATA", "354 "),
        ("Subject: x\r\n\r\nx\r\n.", "250 2.0.0 "),
        ("QUIT", "221 "),
    ];
    for (said, expected) in lines {
        if !said.is_empty() {
            stream
                .get_mut()
                .write_all(format!("{said}\r\n").as_bytes())
                .unwrap();
        }
        let mut reply = String::new();
        stream.read_line(&mut reply).unwrap();
        assert!(reply.starts_with(expected), "{said}: {reply}");
    }
}

fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn number(answer: &str, field: &str) -> u64 {
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body[field].as_u64().unwrap()
}

fn until<T>(relay: &mut Child, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        let ended = relay.try_wait().unwrap();
        assert!(
            ended.is_none() && began.elapsed() < PATIENCE,
            "it does not come: {ended:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// On a loopback address of this process' own: on the common one, any connection that somebody opens
/// meanwhile may take the port.
fn free_address() -> SocketAddr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    TcpListener::bind((Ipv4Addr::new(127, 64 + high % 64, middle, low), 0))
        .unwrap()
        .local_addr()
        .unwrap()
}

const PATIENCE: Duration = Duration::from_secs(120);
