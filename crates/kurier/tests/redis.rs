//! A relay whose queue is in a Redis, as a document for `--config` says: what it trusts, and what
//! it does while the files that others keep for it are wrong.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use support::{Process, free_port};

/// A Redis that speaks nothing but TLS, with a certificate of a private authority in `folder`.
fn redis(folder: &Path, port: u16) -> Process {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    write("ca.crt", authority.pem());
    write("redis.crt", certificate.pem());
    write("redis.key", key.serialize_pem());
    let mut command = Command::new("redis-server");
    command
        .current_dir(folder)
        .args(["--bind", "127.0.0.1", "--port", "0"])
        .args(["--tls-port", &port.to_string(), "--tls-auth-clients", "no"])
        .args([
            "--tls-cert-file",
            "redis.crt",
            "--tls-key-file",
            "redis.key",
        ])
        .args(["--tls-ca-cert-file", "ca.crt"])
        .args([
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--save",
            "",
        ])
        .args(["--maxmemory-policy", "noeviction"])
        .stdout(Stdio::null());
    Process(command.spawn().expect("redis-server is installed"))
}

#[test]
fn wrong_files_are_waited_for_and_a_private_authority_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let (port, smtp, admin) = (free_port(), free_port(), free_port());
    let _redis = redis(folder.path(), port);
    let authority = std::fs::read_to_string(folder.path().join("ca.crt")).unwrap();
    let here = folder.path().display();
    write(
        "relay.yaml",
        &format!(
            "schema: 1
hostname: mail.example.com
listeners:
- {{name: smtp, address: '127.0.0.1:{smtp}', role: Submission, allowedNetworks: [127.0.0.0/8]}}
queue:
  source:
    type: Redis
    redis:
      urlFile: {here}/url
      caFile: {here}/trusted.crt
timing: {{lease: 3s, beat: 1s, claim: 3s, begun: 10s, safetyWake: 1s}}
admin: {{health: '127.0.0.1:{admin}', management: '127.0.0.1:{admin}'}}
drain: {{acceptFor: 0s, deadline: 5s}}
"
        ),
    );
    let document = folder.path().join("relay.yaml");
    let document = document.to_str().unwrap();

    // A file that is missing is a wrong name in the document.
    for arguments in [
        ["config", "check", document],
        ["relay", "--config", document],
    ] {
        let said = refused(&arguments);
        assert!(said.contains("relay.yaml:9:"), "{said}");
        assert!(said.contains("queue.source.redis.urlFile"), "{said}");
    }

    // What stands in it is somebody else's: it is told, and the relay is there for its clients.
    write("trusted.crt", "no certificate");
    write("url", "rediss://:hunter2/x@localhost");
    let check = || refused(&["config", "check", document]);
    let said = check();
    assert!(said.contains("queue.source.redis.urlFile"), "{said}");
    assert!(said.contains("%2F") && !said.contains("hunter2"), "{said}");
    let relay = Command::new(env!("CARGO_BIN_EXE_kurier"))
        .args(["relay", "--config", document])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut relay = Process(relay);
    until(&mut relay, || {
        get(admin, "/readyz")?
            .starts_with("HTTP/1.1 200 ")
            .then_some(())
    });
    assert!(submit(smtp).unwrap().starts_with("451 "));

    write("url", &format!("redis://localhost:{port}\n"));
    assert!(check().contains("write rediss://"));
    write("url", &format!("rediss://localhost:{port}\n"));
    let said = check();
    assert!(
        said.contains("queue.source.redis.caFile") && said.contains("trusted.crt"),
        "{said}"
    );
    assert!(submit(smtp).unwrap().starts_with("451 "));

    write("trusted.crt", &authority);
    until(&mut relay, || {
        submit(smtp)?.starts_with("250 2.0.0 ").then_some(())
    });
}

fn refused(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_kurier"))
        .args(arguments)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The reply that ends the transaction.
fn submit(port: u16) -> Option<String> {
    let mut stream = BufReader::new(connect(port)?);
    let mut reply = String::new();
    for said in [
        "",
        "HELO client.example",
        "MAIL FROM:<a@example.org>",
        "RCPT TO:<b@example.invalid>",
        "DATA",
        "Subject: x\r\n\r\nx\r\n.",
    ] {
        if !said.is_empty() {
            stream
                .get_mut()
                .write_all(format!("{said}\r\n").as_bytes())
                .ok()?;
        }
        reply.clear();
        stream.read_line(&mut reply).ok()?;
        if !reply.starts_with(['2', '3']) {
            break;
        }
    }
    Some(reply)
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = connect(port)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn connect(port: u16) -> Option<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

fn until<T>(relay: &mut Process, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        let ended = relay.0.try_wait().unwrap();
        assert!(
            ended.is_none() && began.elapsed() < PATIENCE,
            "it does not come: {ended:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

const PATIENCE: Duration = Duration::from_secs(120);
