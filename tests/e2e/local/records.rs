//! A record that cannot be read is held, neither delivered nor lost, and harms no other.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::process::{Receiver, Redis, http, succeed};
use super::site::{PASSWORD, Site, SiteSettings, USERNAME};
use crate::eventually::{eventually, holds};

const LONG: Duration = Duration::from_secs(90);

fn submit(site: &Site, subject: &str) -> Result<()> {
    succeed(
        Command::new("swaks")
            .args(["--server", &format!("127.0.0.1:{}", site.submission)])
            .args(["--from", "shop@example.com", "--to", "you@example.org"])
            .args(["--tls", "--auth", "PLAIN"])
            .args(["--auth-user", USERNAME, "--auth-password", PASSWORD])
            .args(["--header", &format!("Subject: {subject}")]),
    )?;
    Ok(())
}

fn redis(redis: &Redis, command: &[&str]) -> Result<String> {
    succeed(
        Command::new("redis-cli")
            .args(["-e", "-u", &redis.url()])
            .args(command),
    )
}

/// How many tasks are held.
const HELD: &str = "return redis.call('ZCARD', redis.call('KEYS', '*:hold')[1] or 'none')";

/// `damage` is a script over the record's key of a queued message.
fn is_held(damage: &str) -> Result<()> {
    let (receiver, folder) = (Receiver::start()?, tempfile::tempdir()?);
    let store = Redis::start(folder.path())?;
    let mut site = Site::start(&SiteSettings {
        smarthost: receiver.port,
        redis: Some(&store.url()),
        log_filter: "info",
    })?;
    let mode = |mode: &str| http(receiver.control, "PUT", "/mode", mode);
    mode(r#"{"defer": true}"#)?;
    eventually("the relay accepts", LONG, || submit(&site, "damaged"))?;
    // From here on it is read from the store, and nobody holds it.
    eventually("it is deferred", LONG, || {
        holds(site.log()?.contains("450 4.2.1"), "not yet")
    })?;
    let keys = redis(&store, &["--raw", "KEYS", "*:m:*"])?;
    let key = keys.lines().next().context("the record's key")?;
    redis(&store, &["EVAL", damage, "1", key])?;

    mode(r#"{"defer": false}"#)?;
    eventually("the relay finds it", LONG, || {
        holds(
            site.log()?.contains("cannot be read; it is held"),
            "not yet",
        )
    })?;
    submit(&site, "whole")?;
    let arrived = receiver.wait_for(1, LONG)?;
    ensure!(arrived[0].id == "whole", "{} arrived", arrived[0].id);
    ensure!(site.process.is_running()?, "the relay has ended");

    let held = || redis(&store, &["--raw", "EVAL", HELD, "0"]);
    eventually("it is held", LONG, || {
        holds(held()?.trim() == "1", "not yet")
    })?;
    let kept = redis(&store, &["--raw", "EXISTS", key])?;
    ensure!(kept.trim() == "1", "the record has gone");
    ensure!(receiver.arrivals().len() == 1, "half a message arrived");
    Ok(())
}

#[test]
fn a_record_of_another_version_is_held() -> Result<()> {
    is_held(r"redis.call('SETRANGE', KEYS[1], 0, '\200')")
}

#[test]
fn half_a_record_is_held() -> Result<()> {
    is_held(
        "local record = redis.call('GET', KEYS[1])
         redis.call('SET', KEYS[1], string.sub(record, 1, #record / 2))",
    )
}

#[test]
fn a_record_that_lacks_its_last_octet_is_held() -> Result<()> {
    is_held("redis.call('SET', KEYS[1], string.sub(redis.call('GET', KEYS[1]), 1, -2))")
}

#[test]
fn a_record_with_a_malformed_header_is_held() -> Result<()> {
    is_held("redis.call('SETRANGE', KEYS[1], 5, '}')")
}
