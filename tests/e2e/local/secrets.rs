//! No secret reaches a log line, however much is logged and whatever goes wrong.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::process::{Receiver, Redis, output, succeed};
use super::site::{PASSWORD, Site, SiteSettings, USERNAME};
use crate::eventually::{eventually, holds};

const LONG: Duration = Duration::from_secs(90);
const WRONG_PASSWORD: &str = "tr0ub4dor-and-3";
const REDIS_PASSWORD: &str = "open-sesame-and-42-thieves";

/// All the forms in which a password passes through a relay.
fn forms(password: &str) -> [String; 4] {
    let plain = format!("\0{USERNAME}\0{password}");
    let octets = format!("{:?}", password.as_bytes());
    [
        password.to_owned(),
        STANDARD.encode(password),
        STANDARD.encode(plain),
        // `Debug` of octets.
        octets.trim_matches(['[', ']']).to_owned(),
    ]
}

/// The keys of the verifier, as the document has them.
fn verifier(document: &str) -> Result<Vec<String>> {
    let line = document.lines().find(|line| line.contains("storedKey"));
    let line = line.context("a verifier in the document")?;
    let keys: Vec<_> = line
        .split([' ', ',', '}'])
        .filter(|word| word.ends_with('='))
        .map(str::to_owned)
        .collect();
    ensure!(keys.len() >= 2, "storedKey and serverKey in {line:?}");
    Ok(keys)
}

fn assert_none_is_in(secrets: &[String], log: &str) {
    for secret in secrets {
        let line = log.lines().find(|line| line.contains(secret.as_str()));
        assert_eq!(line, None, "{secret:?} was logged");
    }
}

fn with_credentials(redis: &Redis, credentials: &str) -> String {
    redis
        .url()
        .replace("redis://", &format!("redis://{credentials}@"))
}

fn submit(site: &Site, mechanism: &str, password: &str) -> Result<bool> {
    let swaks = output(
        Command::new("swaks")
            .args(["--server", &format!("127.0.0.1:{}", site.submission)])
            .args(["--from", "shop@example.com", "--to", "you@example.org"])
            .args(["--tls", "--auth", mechanism])
            .args(["--auth-user", USERNAME, "--auth-password", password]),
    )?;
    Ok(swaks.status.success())
}

#[test]
fn passwords_are_not_logged_at_the_finest_level() -> Result<()> {
    let (receiver, folder) = (Receiver::start()?, tempfile::tempdir()?);
    let redis = Redis::start(folder.path())?;
    succeed(Command::new("redis-cli").args([
        "-u",
        &redis.url(),
        "config",
        "set",
        "requirepass",
        REDIS_PASSWORD,
    ]))?;
    let url = with_credentials(&redis, &format!(":{REDIS_PASSWORD}"));
    let site = Site::start(&SiteSettings {
        smarthost: receiver.port,
        redis: Some(&url),
        log_filter: "trace",
    })?;
    for mechanism in ["PLAIN", "LOGIN"] {
        ensure!(!submit(&site, mechanism, WRONG_PASSWORD)?, "it was taken");
        eventually("the relay accepts", LONG, || {
            holds(submit(&site, mechanism, PASSWORD)?, "not yet")
        })?;
    }
    receiver.wait_for(2, LONG)?;

    let log = site.log()?;
    // What is looked for would be there: the events in question are, down to the finest level in use.
    for expected in [r#""level":"DEBUG""#, "authentication refused", "accepted"] {
        ensure!(log.contains(expected), "no {expected} in the log");
    }
    let passwords = [PASSWORD, WRONG_PASSWORD, REDIS_PASSWORD].map(forms);
    let mut secrets = passwords.concat();
    secrets.extend(verifier(&site.document()?)?);
    assert_none_is_in(&secrets, &log);
    Ok(())
}

#[test]
fn the_password_of_a_redis_that_refuses_it_is_not_logged() -> Result<()> {
    let (receiver, folder) = (Receiver::start()?, tempfile::tempdir()?);
    let redis = Redis::start(folder.path())?;
    let url = with_credentials(&redis, &format!("mail:{REDIS_PASSWORD}"));
    let site = Site::start(&SiteSettings {
        smarthost: receiver.port,
        redis: Some(&url),
        log_filter: "trace",
    })?;
    let log = eventually("the refusal is logged", LONG, || {
        let log = site.log()?;
        holds(log.contains("Password authentication failed"), "not yet")?;
        Ok(log)
    })?;
    assert_none_is_in(&forms(REDIS_PASSWORD), &log);
    Ok(())
}

#[test]
fn an_address_that_cannot_be_used_is_not_shown() -> Result<()> {
    let site = Site::start(&SiteSettings {
        smarthost: 9,
        redis: Some(&format!("redis://:{REDIS_PASSWORD}@redis:no-port")),
        log_filter: "trace",
    })?;
    let log = eventually("it says what is wrong", LONG, || {
        let log = site.log()?;
        holds(log.contains("the address of Redis is wrong"), "not yet")?;
        Ok(log)
    })?;
    assert_none_is_in(&forms(REDIS_PASSWORD), &log);
    Ok(())
}
