//! The resources as an API: what is refused at the door, and what gets a condition.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::fleet::installed;
use super::kubernetes::{MAIL, apply, condition, delete, get, kubectl, refusal, repository};
use super::samples::admitted;
use crate::eventually::{eventually, holds};

const SOON: Duration = Duration::from_secs(20);

fn fixtures(folder: &str) -> Result<Vec<(String, String)>> {
    let path = repository().join("tests/fixtures/cel").join(folder);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&path).with_context(|| path.display().to_string())? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            found.push((path.display().to_string(), std::fs::read_to_string(&path)?));
        }
    }
    ensure!(!found.is_empty(), "no fixtures in {}", path.display());
    Ok(found)
}

/// Each rule's counter-example is refused with the sentence its first line names.
#[test]
fn b_invalid_resources_are_refused_with_a_reason() -> Result<()> {
    installed()?;
    for (name, manifest) in fixtures("reject")? {
        let expected = manifest
            .lines()
            .find_map(|line| line.strip_prefix("# expect: "))
            .with_context(|| format!("{name} does not say what to expect"))?;
        let refused = match manifest.split_once("\n---\n") {
            // A change that must be refused needs something to change.
            Some((before, after)) if name.ends_with(".update.yaml") => {
                apply(MAIL, before)?;
                let refused = refusal(MAIL, after);
                delete(MAIL, before)?;
                refused?
            }
            _ => refusal(MAIL, &manifest)?,
        };
        ensure!(
            refused.contains(expected),
            "{name}: expected {expected:?} in:\n{refused}"
        );
    }
    Ok(())
}

#[test]
fn b_valid_resources_are_accepted() -> Result<()> {
    installed()?;
    for (file, _) in fixtures("accept")? {
        admitted(&file)?;
    }
    Ok(())
}

fn relay(name: &str, extra: &str) -> String {
    format!(
        "apiVersion: kurier.dev/v1alpha1
kind: MailRelay
metadata: {{name: {name}}}
spec:
  hostname: mail.example.com
  replicas: 1
  queue: {{type: Redis, redis: {{urlSecretRef: {{name: no-such-secret, key: url}}}}}}
{extra}"
    )
}

#[test]
fn c_a_missing_secret_is_named() -> Result<()> {
    installed()?;
    apply(MAIL, &relay("orphan", ""))?;
    let refs = condition("mailrelay/orphan", "ResolvedRefs", "False", SOON)?;
    let message = refs["message"].as_str().unwrap_or_default();
    ensure!(
        refs["reason"] == "SecretNotFound" && message.contains("no-such-secret"),
        "{refs}"
    );
    condition("mailrelay/orphan", "Ready", "False", SOON)?;
    kubectl(&["delete", "--namespace", MAIL, "mailrelay/orphan"])?;
    Ok(())
}

#[test]
fn c_a_relay_that_contradicts_itself_is_told_what_to_do() -> Result<()> {
    installed()?;
    let contradiction = "}}, lifetime: 1h, retry: {initial: 1h, max: 2h}}";
    apply(
        MAIL,
        &relay("contradiction", "").replace("}}}", contradiction),
    )?;
    let accepted = condition("mailrelay/contradiction", "Accepted", "False", SOON)?;
    let message = accepted["message"].as_str().unwrap_or_default();
    ensure!(
        accepted["reason"] == "Invalid"
            && message.contains("queue.retry.initial")
            && message.contains("shorten it"),
        "{accepted}"
    );
    kubectl(&["delete", "--namespace", MAIL, "mailrelay/contradiction"])?;
    Ok(())
}

#[test]
fn c_a_foreign_secret_is_never_overwritten() -> Result<()> {
    installed()?;
    let manifest = "apiVersion: v1
kind: Secret
metadata: {name: not-ours}
stringData: {keep: me}
---
apiVersion: kurier.dev/v1alpha1
kind: MailCredential
metadata: {name: clash}
spec:
  relayRef: {name: outbound}
  allowedSenders: [\"*@example.com\"]
  authentication:
  - {name: password, type: Password, password: {secretName: not-ours}}
";
    apply(MAIL, manifest)?;
    eventually("the conflict is named", SOON, || {
        let clash = condition("mailcredential/clash", "Ready", "False", SOON)?;
        let message = clash["message"].as_str().unwrap_or_default();
        holds(
            clash["reason"] == "SecretConflict" && message.contains("not-ours"),
            &clash,
        )
    })?;
    let secret = get(&["secret/not-ours"])?;
    ensure!(
        secret["data"]
            .as_object()
            .is_some_and(|data| data.len() == 1 && data.contains_key("keep")),
        "the Secret was changed: {secret}"
    );
    kubectl(&[
        "delete",
        "--namespace",
        MAIL,
        "mailcredential/clash",
        "secret/not-ours",
    ])?;
    Ok(())
}
