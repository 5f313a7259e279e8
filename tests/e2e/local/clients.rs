//! Ordinary clients submit without tricks.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::process::{Receiver, Relay, RelaySettings, Running, output, succeed};

const SOON: Duration = Duration::from_secs(20);

fn relay(receiver: &Receiver, data: &tempfile::TempDir) -> Result<Relay> {
    Relay::start(&RelaySettings {
        data: data.path(),
        smarthost: receiver.port,
        redis: None,
    })
}

#[test]
fn swaks_submits() -> Result<()> {
    let (receiver, data) = (Receiver::start()?, tempfile::tempdir()?);
    let relay = relay(&receiver, &data)?;
    let transcript = succeed(
        Command::new("swaks")
            .args(["--server", &format!("127.0.0.1:{}", relay.port)])
            .args(["--from", "me@example.com", "--to", "you@example.org"])
            .args([
                "--header",
                "Subject: by swaks",
                "--body",
                ".starts with a dot",
            ]),
    )?;
    ensure!(
        transcript.contains("<-  250 2.0.0 "),
        "no queue id in the reply:\n{transcript}"
    );
    let arrived = receiver.wait_for(1, SOON)?;
    assert_eq!(arrived[0].id, "by swaks");
    assert_eq!(arrived[0].reverse_path, "me@example.com");
    assert_eq!(arrived[0].forward_paths, ["you@example.org"]);
    Ok(())
}

#[test]
fn swaks_is_told_why_a_wrong_address_is_refused() -> Result<()> {
    let (receiver, data) = (Receiver::start()?, tempfile::tempdir()?);
    let relay = relay(&receiver, &data)?;
    let refused = output(
        Command::new("swaks")
            .args(["--server", &format!("127.0.0.1:{}", relay.port)])
            .args(["--from", "me@example.com", "--to", "not an address"]),
    )?;
    let transcript = String::from_utf8_lossy(&refused.stdout);
    ensure!(!refused.status.success(), "it was taken:\n{transcript}");
    ensure!(
        transcript.contains(" 501 5.1.3 "),
        "wrong reply:\n{transcript}"
    );
    Ok(())
}

#[test]
fn smtplib_submits() -> Result<()> {
    let (receiver, data) = (Receiver::start()?, tempfile::tempdir()?);
    let relay = relay(&receiver, &data)?;
    let script = "
import smtplib, sys
from email.message import EmailMessage
message = EmailMessage()
message['Subject'], message['From'], message['To'] = 'by smtplib', 'a@example.com', 'b@example.org'
message.set_content('Grüße\\n.\\n..\\n')
with smtplib.SMTP('127.0.0.1', int(sys.argv[1])) as smtp:
    for _ in range(3):
        assert smtp.send_message(message) == {}
";
    succeed(Command::new("python3").args(["-c", script, &relay.port.to_string()]))?;
    let arrived = receiver.wait_for(3, SOON)?;
    assert!(arrived.iter().all(|arrival| arrival.id == "by smtplib"));
    assert!(
        arrived
            .iter()
            .all(|arrival| arrival.sha256 == arrived[0].sha256)
    );
    Ok(())
}

#[test]
fn smtp_source_submits() -> Result<()> {
    let (receiver, data) = (Receiver::start()?, tempfile::tempdir()?);
    let relay = relay(&receiver, &data)?;
    succeed(
        Command::new("smtp-source")
            .args(["-s", "10", "-d", "-l", "10000", "-m", "200"])
            .args(["-f", "a@example.com", "-t", "b@example.org"])
            .arg(format!("127.0.0.1:{}", relay.port)),
    )?;
    let arrived = receiver.wait_for(200, SOON)?;
    assert_eq!(arrived.len(), 200, "each exactly once");
    Ok(())
}

/// A client that pipelines past EHLO, sends bare line ends or smuggles gets no second message.
#[test]
fn smuggling_does_not_pass() -> Result<()> {
    let (receiver, data) = (Receiver::start()?, tempfile::tempdir()?);
    let relay = relay(&receiver, &data)?;
    let script = "
import socket, sys
def talk(end):
    s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); f = s.makefile('rb')
    def ask(line):
        s.sendall(line)
        while True:
            reply = f.readline()
            if reply[3:4] != b'-': return reply
    f.readline(); ask(b'EHLO x\\r\\n'); ask(b'MAIL FROM:<a@example.com>\\r\\n')
    ask(b'RCPT TO:<b@example.org>\\r\\n'); ask(b'DATA\\r\\n')
    reply = ask(b'Subject: outer\\r\\n\\r\\nhello' + end + b'MAIL FROM:<evil@example.com>\\r\\n'
        b'RCPT TO:<b@example.org>\\r\\nDATA\\r\\nSubject: smuggled\\r\\n\\r\\nx\\r\\n.\\r\\n')
    assert reply.startswith(b'550 5.6.0'), (end, reply)
    assert ask(b'NOOP\\r\\n').startswith(b'250'), 'the session is out of step'
for end in [b'\\n.\\n', b'\\n.\\r\\n', b'\\r.\\r', b'\\r\\n.\\r', b'\\r\\n\\0.\\r\\n', b'\\r\\n.\\n']:
    talk(end)
";
    succeed(Command::new("python3").args(["-c", script, &relay.port.to_string()]))?;
    succeed(
        Command::new("swaks")
            .args([
                "--server",
                &format!("127.0.0.1:{}", relay.port),
                "--header",
                "Subject: after",
            ])
            .args(["--from", "me@example.com", "--to", "you@example.org"]),
    )?;
    let arrived = receiver.wait_for(1, SOON)?;
    assert_eq!(
        arrived
            .iter()
            .map(|arrival| arrival.id.as_str())
            .collect::<Vec<_>>(),
        ["after"]
    );
    Ok(())
}

#[test]
fn mail_for_many_comes_out_of_smtp_sink() -> Result<()> {
    let data = tempfile::tempdir()?;
    let port = super::process::free_port()?;
    let _sink = Running::start(Command::new("smtp-sink").args([
        "-u",
        "nobody",
        &format!("127.0.0.1:{port}"),
        "100",
    ]))?;
    crate::eventually::eventually("smtp-sink listens", SOON, || super::process::answers(port))?;
    let relay = Relay::start(&RelaySettings {
        data: data.path(),
        smarthost: port,
        redis: None,
    })?;
    succeed(
        Command::new("smtp-source")
            .args([
                "-s",
                "5",
                "-d",
                "-r",
                "10",
                "-m",
                "50",
                "-f",
                "a@example.com",
            ])
            .args(["-t", "b@example.org"])
            .arg(format!("127.0.0.1:{}", relay.port)),
    )?;
    crate::eventually::eventually("every recipient is delivered", SOON, || {
        let delivered = relay.metric("kurier_deliveries_total")?;
        crate::eventually::holds(delivered >= 500.0, format_args!("{delivered} of 500"))
    })
}
