//! What administrators do to queued mail, with the real program on both sides.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::process::{Receiver, Relay, RelaySettings, http, kurier, output, succeed};
use crate::eventually::{eventually, holds};

const LONG: Duration = Duration::from_secs(60);

/// A relay whose mail is deferred by its smarthost.
struct Site {
    receiver: Receiver,
    relay: Relay,
    _data: tempfile::TempDir,
}

impl Site {
    fn start() -> Result<Self> {
        let (receiver, data) = (Receiver::start()?, tempfile::tempdir()?);
        http(receiver.control, "PUT", "/mode", r#"{"defer": true}"#)?;
        let relay = Relay::start(&RelaySettings {
            data: data.path(),
            smarthost: receiver.port,
            redis: None,
        })?;
        Ok(Self {
            receiver,
            relay,
            _data: data,
        })
    }

    fn submit(&self, to: &str, body: &str) -> Result<()> {
        succeed(
            Command::new("swaks")
                .args(["--server", &format!("127.0.0.1:{}", self.relay.port)])
                .args(["--from", "shop@example.com", "--to", to])
                .args(["--header", "Subject: queued", "--body", body]),
        )?;
        Ok(())
    }

    fn queue(&self, arguments: &[&str]) -> Result<Output> {
        let server = format!("127.0.0.1:{}", self.relay.admin);
        output(
            Command::new(kurier()?)
                .args(["queue", "--server", &server])
                .args(arguments),
        )
    }

    fn good(&self, arguments: &[&str]) -> Result<String> {
        let output = self.queue(arguments)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {text}{error}");
        Ok(text)
    }

    /// Tasks that are as `filter` says.
    fn list(&self, filter: &[&str]) -> Result<Vec<Value>> {
        let arguments = [&["--output", "json", "list"], filter].concat();
        let mut list: Value = serde_json::from_str(&self.good(&arguments)?)?;
        match list["tasks"].take() {
            Value::Array(tasks) => Ok(tasks),
            other => anyhow::bail!("{other}"),
        }
    }

    /// Waits until so many are as `filter` says.
    fn until(&self, filter: &[&str], count: usize) -> Result<Vec<Value>> {
        eventually(&format!("{count} with {filter:?}"), LONG, || {
            let tasks = self.list(filter)?;
            holds(tasks.len() == count, format_args!("{tasks:#?}"))?;
            Ok(tasks)
        })
    }
}

fn id(task: &Value) -> Result<&str> {
    task["task"].as_str().context("a task has an id")
}

#[test]
fn mail_is_listed_shown_held_released_and_exported() -> Result<()> {
    let site = Site::start()?;
    let (body, one) = (".a line that begins with a dot\nlast", "one@example.org");
    site.submit(one, body)?;
    site.submit("two@example.net", "another")?;
    site.until(&["--place", "deferred"], 2)?;
    // By what only the record tells, and by what only the next hop said.
    for filter in [
        ["--recipient", one],
        ["--recipient", "example.org"],
        ["--sender", "shop@example.com"],
        ["--last-reply", "4.2.1"],
        ["--older-than", "1h"],
    ] {
        let expected = match filter[0] {
            "--recipient" => 1,
            "--older-than" => 0,
            _ => 2,
        };
        ensure!(site.list(&filter)?.len() == expected, "{filter:?}");
    }
    ensure!(
        site.list(&["--limit", "1"])?.len() == 1,
        "more than asked for"
    );
    let task = site.list(&["--recipient", one])?.remove(0);
    let task = id(&task)?;
    let table = site.good(&["list"])?;
    ensure!(
        table.lines().count() == 3 && table.contains("450"),
        "{table}"
    );
    let shown = site.good(&["show", task])?;
    ensure!(
        shown.contains("shop@example.com") && shown.contains(one),
        "{shown}"
    );

    let exported = site.good(&["export", task])?;
    ensure!(exported.contains("\n.a line that begins"), "{exported}");
    ensure!(exported.contains("Subject: queued") && exported.starts_with("Received: "));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("message.eml");
    let path = file.display().to_string();
    site.good(&["export", task, "--to", &path])?;
    ensure!(std::fs::read(&file)? == exported.as_bytes());
    ensure!(
        !site
            .queue(&["export", task, "--to", &path])?
            .status
            .success()
    );

    let reason = "not before the lawyers have seen it";
    site.good(&["hold", task, "--reason", reason])?;
    let held = site.until(&["--place", "held"], 1)?;
    ensure!(held[0]["holdReason"] == reason, "{held:#?}");
    http(site.receiver.control, "PUT", "/mode", "{}")?;
    site.good(&["retry", "--recipient", "example.net"])?;
    site.until(&[], 1)?;
    // Retried it is not, as it is held.
    let retried = site.good(&["retry", task])?;
    ensure!(retried.contains("unchanged"), "{retried}");
    ensure!(site.receiver.arrivals().len() == 1);
    site.good(&["release", task])?;
    let arrived = site.receiver.wait_for(2, LONG)?;
    ensure!(arrived[1].forward_paths == [one], "{arrived:?}");
    site.until(&[], 0)?;
    let gone = site.queue(&["show", task])?;
    ensure!(!gone.status.success() && gone.stdout.is_empty());
    let error = String::from_utf8_lossy(&gone.stderr).into_owned();
    ensure!(error.contains("not in the queue"), "{error}");
    Ok(())
}

#[test]
fn mail_is_dropped_with_and_without_a_notice() -> Result<()> {
    let site = Site::start()?;
    for to in ["one@example.org", "two@example.org", "three@example.net"] {
        site.submit(to, "unwanted")?;
    }
    site.until(&["--place", "deferred"], 3)?;
    let refused = site.queue(&["drop", "--recipient", "example.org"])?;
    ensure!(!refused.status.success(), "dropped without --yes");
    ensure!(
        !site.queue(&["drop", "--yes"])?.status.success(),
        "dropped all"
    );
    site.good(&["drop", "--recipient", "example.org", "--yes"])?;
    let left = site.until(&[], 1)?;
    http(site.receiver.control, "PUT", "/mode", "{}")?;
    let task = id(&left[0])?;
    site.good(&["drop", task, "--notify", "--reason", "spam run"])?;
    // Nothing but the notice arrives.
    let arrived = site.receiver.wait_for(1, LONG)?;
    ensure!(arrived[0].reverse_path.is_empty(), "{arrived:?}");
    ensure!(
        arrived[0].forward_paths == ["shop@example.com"],
        "{arrived:?}"
    );
    site.until(&[], 0)?;
    ensure!(site.receiver.arrivals().len() == 1);
    let again = site.queue(&["drop", task])?;
    ensure!(!again.status.success(), "dropped twice");
    Ok(())
}
