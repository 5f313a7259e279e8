//! Ordinary clients do TLS and AUTH, and are told why where they may not submit.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::process::{Receiver, output, succeed};
use super::site::{PASSWORD, Site, SiteSettings, USERNAME};

const SOON: Duration = Duration::from_secs(60);

fn site(receiver: &Receiver) -> Result<Site> {
    Site::start(&SiteSettings {
        smarthost: receiver.port,
        redis: None,
        log_filter: "info",
    })
}

/// swaks with a certificate to check; `--tls` is STARTTLS, `--tls-on-connect` implicit TLS.
fn swaks(site: &Site, tls: &str, more: &[&str]) -> Result<Output> {
    let port = match tls {
        "--tls-on-connect" => site.implicit,
        _ => site.submission,
    };
    output(
        Command::new("swaks")
            .args(["--server", &format!("127.0.0.1:{port}")])
            .args(["--from", "shop@example.com", "--to", "you@example.org"])
            .args([tls, "--tls-verify", "--tls-ca-path"])
            .arg(site.authority())
            .args(more),
    )
}

fn transcript(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn swaks_logs_in_by_every_way_there_is() -> Result<()> {
    let receiver = Receiver::start()?;
    let site = site(&receiver)?;
    let mut sent = Vec::new();
    for tls in ["--tls", "--tls-on-connect"] {
        for mechanism in ["LOGIN", "PLAIN"] {
            let name = format!("{tls} {mechanism}");
            let subject = format!("Subject: {name}");
            let login = ["--auth", mechanism, "--auth-user", USERNAME];
            let rest = ["--auth-password", PASSWORD, "--header", &subject];
            let output = swaks(&site, tls, &[login, rest].concat())?;
            let transcript = transcript(&output);
            ensure!(output.status.success(), "{name}:\n{transcript}");
            for line in [format!("~> AUTH {mechanism}"), "<~  235 2.7.0 ".to_owned()] {
                ensure!(transcript.contains(&line), "no {line:?}:\n{transcript}");
            }
            sent.push(name);
        }
    }
    let arrived = receiver.wait_for(sent.len(), SOON)?;
    let mut arrived: Vec<_> = arrived.into_iter().map(|arrival| arrival.id).collect();
    arrived.sort();
    sent.sort();
    assert_eq!(arrived, sent);
    Ok(())
}

#[test]
fn swaks_is_told_why_it_may_not_submit() -> Result<()> {
    let receiver = Receiver::start()?;
    let site = site(&receiver)?;
    let refused = |tls: &str, more: &[&str], reply: &str| {
        let output = swaks(&site, tls, more)?;
        let transcript = transcript(&output);
        ensure!(!output.status.success(), "it was taken:\n{transcript}");
        ensure!(transcript.contains(reply), "no {reply:?}:\n{transcript}");
        Ok(())
    };
    for mechanism in ["LOGIN", "PLAIN"] {
        let login = ["--auth", mechanism, "--auth-user"];
        // RFC 4954 §6: a wrong password, and a name that nobody has, are answered alike.
        for (username, password) in [(USERNAME, "wrong"), ("nobody", PASSWORD)] {
            let account = [username, "--auth-password", password];
            let more = [login, account].concat();
            refused("--tls", &more, "<~* 535 5.7.8 ")?;
            refused("--tls-on-connect", &more, "<~* 535 5.7.8 ")?;
        }
    }
    refused("--tls", &[], "<~* 530 5.7.0 ")?;
    let account = ["--auth", "PLAIN", "--auth-user", USERNAME];
    let other = ["--auth-password", PASSWORD, "--from", "shop@example.net"];
    refused("--tls", &[account, other].concat(), "<~* 553 5.7.1 ")?;
    assert_eq!(receiver.arrivals().len(), 0);
    Ok(())
}

/// RFC 4954 §4: in clear AUTH is neither offered nor taken.
#[test]
fn smtplib_logs_in_under_tls_only() -> Result<()> {
    let receiver = Receiver::start()?;
    let site = site(&receiver)?;
    let script = r"
clear = smtplib.SMTP('127.0.0.1', submission)
clear.ehlo()
assert not clear.has_extn('auth'), clear.esmtp_features
code, text = clear.docmd('AUTH', 'PLAIN AGEAYg==')
assert (code, text[:7]) == (538, b'5.7.11 '), (code, text)
code, text = clear.mail('shop@example.com')
assert (code, text[:6]) == (530, b'5.7.0 '), (code, text)
clear.quit()

for smtp in connections():
    assert smtp.has_extn('auth'), smtp.esmtp_features
    code, text = smtp.mail('shop@example.com')
    assert (code, text[:6]) == (530, b'5.7.0 '), (code, text)
    smtp.rset()
    try:
        smtp.login(username, 'wrong')
    except smtplib.SMTPAuthenticationError as error:
        assert (error.smtp_code, error.smtp_error[:6]) == (535, b'5.7.8 '), error
    else:
        assert False, 'a wrong password was accepted'
    # The connection is good for another attempt.
    smtp.login(username, password)
    smtp.quit()
";
    smtplib(&site, script)?;
    assert_eq!(receiver.arrivals().len(), 0);
    Ok(())
}

#[test]
fn what_smtplib_sends_arrives_octet_for_octet() -> Result<()> {
    let receiver = Receiver::start()?;
    let site = site(&receiver)?;
    // RFC 5321 §4.5.3.1.6: the longest line has 998 octets before its CRLF.
    let script = r"
import hashlib
body = (b'.\r\n..\r\n.a line that begins with a dot\r\n' + 'Grüße, 漢字\r\n'.encode()
    + bytes(range(128, 256)) + b'\r\n' + b'x' * 998 + b'\r\n.' + b'y' * 997 + b'\r\n\r\n.\r\n')
for smtp in connections():
    smtp.login(username, password)
    message = b'From: shop@example.com\r\nTo: you@example.org\r\nSubject: by smtplib\r\n\r\n' + body
    assert smtp.sendmail('shop@example.com', ['you@example.org'], message, ['BODY=8BITMIME']) == {}
    smtp.quit()
print(hashlib.sha256(body).hexdigest())
";
    let sent = smtplib(&site, script)?;
    let arrived = receiver.wait_for(2, SOON)?;
    assert_eq!(arrived.len(), 2, "by STARTTLS and by implicit TLS");
    for arrival in arrived {
        assert_eq!(arrival.id, "by smtplib");
        assert_eq!(arrival.sha256, sent.trim());
    }
    Ok(())
}

/// Runs a script that has `connections()`: one by STARTTLS and one by implicit TLS, both checked.
fn smtplib(site: &Site, script: &str) -> Result<String> {
    let start = "
import smtplib, ssl, sys
submission, implicit = int(sys.argv[1]), int(sys.argv[2])
authority, username, password = sys.argv[3:]
trust = ssl.create_default_context(cafile=authority)
def connections():
    smtp = smtplib.SMTP('127.0.0.1', submission)
    code, text = smtp.starttls(context=trust)
    assert code == 220, (code, text)
    smtp.ehlo()
    yield smtp
    smtp = smtplib.SMTP_SSL('127.0.0.1', implicit, context=trust)
    smtp.ehlo()
    yield smtp
";
    succeed(
        Command::new("python3")
            .args(["-c", &format!("{start}{script}")])
            .args([site.submission.to_string(), site.implicit.to_string()])
            .arg(site.authority())
            .args([USERNAME, PASSWORD]),
    )
}
