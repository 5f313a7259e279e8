//! A private Debian Postfix: it receives from Kurier, and it sends through Kurier.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::process::{
    Receiver, Relay, RelaySettings, Running, Signal, answers, free_port, succeed,
};
use crate::eventually::eventually;

const SOON: Duration = Duration::from_secs(40);

/// Its own configuration, spool and port; the machine's Postfix is not touched.
struct Postfix {
    _folder: tempfile::TempDir,
    process: Option<Running>,
    port: u16,
}

impl Postfix {
    fn start(relayhost: u16) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("postfix").tempdir()?;
        // The daemons run as other users and pass through this folder.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let port = free_port()?;
        configure(folder.path(), port, relayhost)?;
        let process = Running::start(
            Command::new("/usr/lib/postfix/sbin/master")
                .arg("-c")
                .arg(folder.path().join("etc"))
                .arg("-d")
                .env("MAIL_CONFIG", folder.path().join("etc"))
                .stdout(Stdio::null()),
        )?;
        let postfix = Self {
            _folder: folder,
            process: Some(process),
            port,
        };
        eventually("Postfix listens", SOON, || answers(port))?;
        Ok(postfix)
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // SIGTERM, so that the master ends its daemons.
        if let Some(mut process) = self.process.take() {
            let _ = process.signal(Signal::TERM);
            let _ = process.wait(Duration::from_secs(10));
        }
    }
}

fn configure(folder: &Path, port: u16, relayhost: u16) -> Result<()> {
    let [etc, spool, data] = ["etc", "spool", "data"].map(|name| folder.join(name));
    for path in [&etc, &spool, &data] {
        std::fs::create_dir(path)?;
    }
    succeed(Command::new("chown").arg("postfix").arg(&data))?;
    std::fs::write(
        etc.join("main.cf"),
        format!(
            "compatibility_level = 3.6\n\
             queue_directory = {}\ndata_directory = {}\n\
             command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\n\
             mail_owner = postfix\nsetgid_group = postdrop\n\
             inet_interfaces = loopback-only\ninet_protocols = ipv4\n\
             myhostname = postfix.example\nmydestination =\nmynetworks = 127.0.0.0/8\n\
             relayhost = [127.0.0.1]:{relayhost}\n\
             smtpd_relay_restrictions = permit_mynetworks, reject\n\
             alias_maps =\nmaillog_file = {}\nmaillog_file_prefixes = /\n",
            spool.display(),
            data.display(),
            folder.join("log").display()
        ),
    )?;
    std::fs::write(
        etc.join("master.cf"),
        format!(
            "127.0.0.1:{port} inet n - n - - smtpd\n\
             pickup unix n - n 60 1 pickup\ncleanup unix n - n - 0 cleanup\n\
             qmgr unix n - n 300 1 qmgr\ntlsmgr unix - - n 1000? 1 tlsmgr\n\
             rewrite unix - - n - - trivial-rewrite\nbounce unix - - n - 0 bounce\n\
             defer unix - - n - 0 bounce\ntrace unix - - n - 0 bounce\n\
             flush unix n - n 1000? 0 flush\nproxymap unix - - n - - proxymap\n\
             smtp unix - - n - - smtp\nrelay unix - - n - - smtp\n\
             error unix - - n - - error\nretry unix - - n - - error\n\
             discard unix - - n - - discard\nanvil unix - - n - 1 anvil\n\
             scache unix - - n - 1 scache\npostlog unix-dgram n - n - 1 postlogd\n"
        ),
    )?;
    let etc = etc.to_str().context("a path that is not UTF-8")?;
    succeed(Command::new("postfix").args(["-c", etc, "check"]))?;
    Ok(())
}

#[test]
fn postfix_receives_from_kurier() -> Result<()> {
    let (receiver, data) = (Receiver::start()?, tempfile::tempdir()?);
    let postfix = Postfix::start(receiver.port)?;
    let relay = Relay::start(&RelaySettings {
        data: data.path(),
        smarthost: postfix.port,
        redis: None,
    })?;
    send(relay.port, "through Postfix")?;
    let arrived = receiver.wait_for(1, SOON)?;
    assert_eq!(arrived[0].id, "through Postfix");
    Ok(())
}

#[test]
fn postfix_sends_through_kurier() -> Result<()> {
    let (receiver, data) = (Receiver::start()?, tempfile::tempdir()?);
    let relay = Relay::start(&RelaySettings {
        data: data.path(),
        smarthost: receiver.port,
        redis: None,
    })?;
    let postfix = Postfix::start(relay.port)?;
    send(postfix.port, "from Postfix")?;
    let arrived = receiver.wait_for(1, SOON)?;
    assert_eq!(arrived[0].id, "from Postfix");
    Ok(())
}

fn send(port: u16, subject: &str) -> Result<()> {
    succeed(
        Command::new("swaks")
            .args(["--server", &format!("127.0.0.1:{port}")])
            .args(["--from", "me@example.com", "--to", "you@example.org"])
            .args(["--header", &format!("Subject: {subject}")]),
    )?;
    Ok(())
}
