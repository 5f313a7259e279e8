//! The load: Postfix' own smtp-source and smtp-sink.

use std::{
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{command, process};

/// Open at the same time.
const SESSIONS: u32 = 50;

/// Nothing arrives for this long: nothing more will.
const SILENCE: Duration = Duration::from_secs(30);

/// A receiving server that counts what arrives and keeps nothing.
pub(super) struct Sink {
    pub(super) address: SocketAddr,
    arrived: Arc<AtomicU32>,
    child: Child,
}

impl Sink {
    /// # Errors
    /// When smtp-sink does not take connections.
    pub(super) fn start() -> Result<Self> {
        let address = free_address()?;
        let mut child = Command::new("/usr/sbin/smtp-sink")
            .args([
                "-c",
                "-u",
                "nobody",
                "-m",
                "512",
                &address.to_string(),
                "1024",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start smtp-sink")?;
        let arrived = Arc::new(AtomicU32::new(0));
        let output = child.stdout.take().context("no output to read")?;
        let counter = Arc::clone(&arrived);
        thread::spawn(move || follow(output, &counter));
        command::wait_until("smtp-sink takes connections", SILENCE, || {
            Ok(is_listening(address).then_some(()))
        })?;
        Ok(Self {
            address,
            arrived,
            child,
        })
    }

    pub(super) fn arrived(&self) -> u32 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Waits until so many have arrived since the start.
    ///
    /// # Errors
    /// When no more arrive.
    pub(super) fn wait_for(&self, count: u32) -> Result<()> {
        let mut seen = (self.arrived(), Instant::now());
        while seen.0 < count {
            // The clock stops at the last arrival, so this is the error of every figure.
            thread::sleep(Duration::from_millis(1));
            let now = self.arrived();
            if now > seen.0 {
                seen = (now, Instant::now());
            } else if seen.1.elapsed() > SILENCE {
                bail!(
                    "{now} of {count} messages arrived, then none for {} s",
                    SILENCE.as_secs()
                );
            }
        }
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        process::kill_tree(&mut self.child);
    }
}

/// Sends so many messages over sessions that stay open, and waits until all are taken.
///
/// # Errors
/// When the system refuses one.
pub(super) fn send(to: SocketAddr, messages: u32, size: u32) -> Result<()> {
    let mut source = Command::new("/usr/sbin/smtp-source");
    source
        .args(["-d", "-s", &SESSIONS.min(messages).to_string()])
        .args(["-m", &messages.to_string(), "-l", &size.to_string()])
        .args([
            "-f",
            "from@source.test",
            "-t",
            "to@sink.test",
            &to.to_string(),
        ]);
    command::capture(&mut source)?;
    Ok(())
}

/// An address on loopback that nobody listens on.
pub(super) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

pub(super) fn is_listening(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// `sess=1 quit=0 mesg=7` and a carriage return, after every message.
fn follow(mut output: impl Read, counter: &AtomicU32) {
    let mut text = String::new();
    let mut block = [0; 4096];
    while let Ok(read) = output.read(&mut block) {
        if read == 0 {
            return;
        }
        text.push_str(&String::from_utf8_lossy(&block[..read]));
        if let Some(count) = last_count(&text) {
            counter.store(count, Ordering::Relaxed);
        }
        // The end may be half a line.
        let whole = text.rfind('\r').map_or(0, |end| end + 1);
        text.drain(..whole);
    }
}

fn last_count(text: &str) -> Option<u32> {
    let (lines, _) = text.rsplit_once('\r')?;
    let (_, count) = lines.rsplit_once("mesg=")?;
    count.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters() {
        let check = |text, expected| assert_eq!(last_count(text), expected, "{text:?}");
        check("sess=1 quit=0 mesg=7\r", Some(7));
        check(
            "sess=1 quit=0 mesg=7\rsess=1 quit=0 mesg=8\rsess=1 qu",
            Some(8),
        );
        check("sess=1 quit=0 mesg=12", None);
        let counter = AtomicU32::new(0);
        follow(
            &b"sess=1 quit=0 mesg=41\rsess=2 quit=0 mesg=42\r"[..],
            &counter,
        );
        assert_eq!(counter.into_inner(), 42);
    }
}
