//! A record that cannot be read is held, neither delivered nor lost, and harms no other.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::process::{Receiver, Redis, http, kurier, succeed};
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

/// `damage` is a script over the record's key that leaves a copy of the record at the key with `:whole`
/// behind it.
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
    let script = format!("redis.call('COPY', KEYS[1], KEYS[1] .. ':whole')\n{damage}");
    redis(&store, &["EVAL", &script, "1", key])?;

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

    let id = key.rsplit(':').next().context("an id")?;
    let server = format!("127.0.0.1:{}", site.management);
    let queue = |arguments: &[&str]| {
        let mut command = Command::new(kurier()?);
        command.args(["queue", "--server", &server]).args(arguments);
        succeed(&mut command)
    };
    eventually("it is held", LONG, || {
        let shown = queue(&["show", id])?;
        holds(
            shown.contains("held") && shown.contains("cannot be read"),
            shown,
        )
    })?;
    ensure!(receiver.arrivals().len() == 1, "half a message arrived");

    redis(&store, &["COPY", &format!("{key}:whole"), key, "REPLACE"])?;
    queue(&["release", id])?;
    let arrived = receiver.wait_for(2, LONG)?;
    ensure!(arrived[1].id == "damaged", "{} arrived", arrived[1].id);
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
