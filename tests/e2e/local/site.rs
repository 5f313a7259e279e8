//! A relay as a cluster runs it: from a configuration document, with TLS, for an account.

use std::fs::{self, File};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::process::{Running, answers, free_port, kurier};
use crate::eventually::eventually;

pub(crate) const USERNAME: &str = "checkout.mail";
pub(crate) const PASSWORD: &str = "correct-horse-battery-staple";

pub(crate) struct Site {
    pub(crate) process: Running,
    /// The port of the listener with STARTTLS.
    pub(crate) submission: u16,
    pub(crate) management: u16,
    /// The port of the listener that begins with TLS.
    pub(crate) implicit: u16,
    folder: tempfile::TempDir,
}

/// What a site is started with.
pub(crate) struct SiteSettings<'a> {
    pub(crate) smarthost: u16,
    /// None is the embedded queue.
    pub(crate) redis: Option<&'a str>,
    pub(crate) log_filter: &'a str,
}

impl Site {
    /// A site that listens.
    pub(crate) fn start(settings: &SiteSettings<'_>) -> Result<Self> {
        let site = Self::launch(settings)?;
        for port in [site.submission, site.implicit] {
            eventually("the relay listens", Duration::from_secs(60), || {
                answers(port)
            })?;
        }
        Ok(site)
    }

    fn launch(settings: &SiteSettings<'_>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        fs::write(path.join("tls.crt"), made.cert.pem())?;
        fs::write(path.join("tls.key"), made.signing_key.serialize_pem())?;
        if let Some(url) = settings.redis {
            fs::write(path.join("redis-url"), url)?;
        }
        let (submission, implicit, management) = (free_port()?, free_port()?, free_port()?);
        let file = path.join("relay.yaml");
        fs::write(
            &file,
            document(path, settings, submission, implicit, management),
        )?;
        let process = Running::start(
            Command::new(kurier()?)
                .args(["relay", "--config"])
                .arg(&file)
                .stderr(File::create(path.join("log"))?),
        )?;
        Ok(Self {
            process,
            submission,
            management,
            implicit,
            folder,
        })
    }

    /// The certificate, which is its own authority.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("tls.crt")
    }

    pub(crate) fn document(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.path().join("relay.yaml"))?)
    }

    /// All that it has written so far.
    pub(crate) fn log(&self) -> Result<String> {
        let octets = fs::read(self.folder.path().join("log")).context("the relay's log")?;
        Ok(String::from_utf8_lossy(&octets).into_owned())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Seen only where the test fails.
        let log = self.log().unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = lines.len().saturating_sub(50);
        for line in lines.iter().skip(last) {
            eprintln!("relay: {line}");
        }
    }
}

fn document(
    folder: &Path,
    settings: &SiteSettings<'_>,
    submission: u16,
    implicit: u16,
    management: u16,
) -> String {
    let folder = folder.display();
    let source = match settings.redis {
        Some(_) => format!("{{type: Redis, redis: {{urlFile: {folder}/redis-url}}}}"),
        None => format!("{{type: Embedded, embedded: {{path: {folder}/queue}}}}"),
    };
    let files = format!("certificateFile: {folder}/tls.crt, keyFile: {folder}/tls.key");
    let (filter, smarthost) = (settings.log_filter, settings.smarthost);
    format!(
        "schema: 1
hostname: relay.example
listeners:
- name: submission
  address: 127.0.0.1:{submission}
  role: Submission
  tls: {{mode: StartTLS, {files}}}
  auth: {{required: true, mechanisms: [PLAIN, LOGIN]}}
- name: submissions
  address: 127.0.0.1:{implicit}
  role: Submission
  tls: {{mode: Implicit, {files}}}
  auth: {{required: true, mechanisms: [PLAIN, LOGIN]}}
queue: {{source: {source}, retry: {{initial: 1s, max: 1s}}}}
telemetry: {{log: {{format: Json, filter: '{filter}'}}}}
admin: {{health: null, management: '127.0.0.1:{management}'}}
drain: {{acceptFor: 0s, deadline: 10s}}
credentials:
- username: {USERNAME}
  tenant: mail
  allowedSenders: ['*@example.com']
  scramSha256: {}
routes:
- name: receiver
  rules:
  - name: all
    action: {{type: Smarthost, smarthost: {{host: 127.0.0.1, port: {smarthost}}}}}
",
        verifier(PASSWORD)
    )
}

/// RFC 5802 §3: what a relay knows of a password.
fn verifier(password: &str) -> String {
    const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("is not zero");
    let salt = b"salt of a test";
    let mut salted = [0; 32];
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(
        algorithm,
        ITERATIONS,
        salt,
        password.as_bytes(),
        &mut salted,
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client = hmac::sign(&key, b"Client Key");
    let stored = digest::digest(&digest::SHA256, client.as_ref());
    let server = hmac::sign(&key, b"Server Key");
    format!(
        "{{salt: {}, iterations: {ITERATIONS}, storedKey: {}, serverKey: {}}}",
        STANDARD.encode(salt),
        STANDARD.encode(stored),
        STANDARD.encode(server)
    )
}
