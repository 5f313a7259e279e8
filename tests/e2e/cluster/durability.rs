//! A Redis that confirms writes before they are on disk.

use anyhow::{Result, ensure};

use super::accounts::submit;
use super::fleet::{MINUTE, RELAY_OBJECT, installed, relay_pods};
use super::kubernetes::{condition, redis, told};
use crate::eventually::{eventually, holds};

#[test]
fn a_queue_that_is_not_synced_is_named_and_gets_no_mail() -> Result<()> {
    installed()?;
    let pods = relay_pods(3)?;
    let sync = |when: &str| redis(&["config", "set", "appendfsync", when]);
    sync("everysec")?;
    let refused = (|| {
        let unmet = condition(RELAY_OBJECT, "QueueDurable", "False", MINUTE)?;
        println!("{}", unmet["message"]);
        let message = unmet["message"].as_str().unwrap_or_default();
        ensure!(
            unmet["reason"] == "NotFsyncAlways" && message.contains("appendfsync always"),
            "{unmet}"
        );
        let ready = condition(RELAY_OBJECT, "Ready", "False", MINUTE)?;
        ensure!(ready["reason"] == "NotFsyncAlways", "{ready}");
        for condition in [&unmet, &ready] {
            let event = told(RELAY_OBJECT, condition)?;
            let note = event["note"].as_str().unwrap_or_default();
            ensure!(
                event["type"] == "Warning" && note.contains("appendfsync always"),
                "{event}"
            );
        }
        // The condition is true of one pod; each finds out with its own heartbeat.
        for (index, pod) in (20..).zip(&pods) {
            eventually("the pod refuses", MINUTE, || {
                let reply = submit(pod, index)?;
                holds(reply.starts_with("451 4.3.0"), reply)
            })?;
        }
        Ok(())
    })();
    // Also when that failed: other tests need the queue.
    sync("always")?;
    refused?;
    for kind in ["QueueDurable", "Ready"] {
        let met = condition(RELAY_OBJECT, kind, "True", MINUTE)?;
        let event = told(RELAY_OBJECT, &met)?;
        ensure!(event["type"] == "Normal", "{event}");
    }
    for (index, pod) in (30..).zip(&pods) {
        eventually("the pod accepts again", MINUTE, || {
            let reply = submit(pod, index)?;
            holds(reply.starts_with("250"), reply)
        })?;
    }
    Ok(())
}
