//! Submitting as an application does: with the Secret of a MailCredential.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kurier_test::corpus::Message;
use kurier_test::load::{Attempt, Summary};
use kurier_test::submit::{Account, Connection};

use super::kubernetes::{MAIL, Pod, apply, get, kubectl, lines, logs};
use crate::eventually::{eventually, holds};

/// The Secret of the account that most tests use.
const ACCOUNT: &str = "checkout-smtp";

/// The keys of a Secret, decoded.
pub(crate) fn secret(name: &str) -> Result<BTreeMap<String, String>> {
    let found = eventually(
        &format!("the Secret {name}"),
        Duration::from_secs(60),
        || get(&[&format!("secret/{name}")]),
    )?;
    let data = found["data"].as_object().context("a Secret without data")?;
    data.iter()
        .map(|(key, value)| {
            let octets = STANDARD.decode(value.as_str().unwrap_or_default())?;
            Ok((key.clone(), String::from_utf8(octets)?))
        })
        .collect()
}

/// The account, at one pod instead of at the Service.
pub(crate) fn account_at(pod: &Pod) -> Result<Account> {
    account_of(ACCOUNT, pod)
}

/// The account in a Secret, at one pod.
pub(crate) fn account_of(secret_name: &str, pod: &Pod) -> Result<Account> {
    let secret = secret(secret_name)?;
    let key = |name: &str| {
        secret
            .get(name)
            .cloned()
            .with_context(|| format!("no {name}"))
    };
    Ok(Account {
        host: pod.address.clone(),
        port: 2587,
        server_name: Some(key("SMTP_HOST")?),
        login: Some((key("SMTP_USERNAME")?, key("SMTP_PASSWORD")?)),
        ca: Some(key("ca.crt")?.into_bytes()),
    })
}

/// Submits one message at a pod; the reply to it.
pub(crate) fn submit(pod: &Pod, index: u32) -> Result<String> {
    let account = account_at(pod)?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let mut connection = Connection::open(&account).await?;
        let message = Message::new("operations", index, None, "");
        connection
            .send("load@example.com", "sink@receiver.example", &message)
            .await
    })
}

/// A name for a run that no earlier run on this cluster had.
pub(crate) fn run_named(what: &str) -> String {
    let elapsed = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default();
    format!("{what}-{}", elapsed.as_millis())
}

/// A load that runs in a pod of its own.
pub(crate) struct Load {
    run: String,
}

/// What a load did.
pub(crate) struct Done {
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) summary: Summary,
}

impl Done {
    /// The attempts that were answered `250`, by message id.
    pub(crate) fn accepted(&self) -> BTreeMap<String, Attempt> {
        let accepted = self.attempts.iter().filter(|attempt| attempt.accepted());
        accepted
            .map(|attempt| (attempt.id.clone(), attempt.clone()))
            .collect()
    }
}

/// The queue id in a `250 2.0.0 <queue id> …` reply.
pub(crate) fn queue_id(attempt: &Attempt) -> Result<String> {
    let id = attempt.reply.split_whitespace().nth(2);
    Ok(id
        .with_context(|| format!("no queue id in {:?}", attempt.reply))?
        .to_owned())
}

impl Load {
    pub(crate) fn start(run: &str, arguments: &[&str]) -> Result<Self> {
        Self::start_on(None, run, arguments)
    }

    /// On this node, if one is named.
    pub(crate) fn start_on(node: Option<&str>, run: &str, arguments: &[&str]) -> Result<Self> {
        let mut all = vec!["load", "--run", run, "--traces"];
        all.extend_from_slice(arguments);
        let selector = node.map(|name| serde_json::json!({"kubernetes.io/hostname": name}));
        let selector = selector.unwrap_or_else(|| serde_json::json!({}));
        apply(MAIL, &pod(run, &serde_json::to_string(&all)?, &selector))?;
        Ok(Self {
            run: run.to_owned(),
        })
    }

    /// Waits for the end of the load and reads its log.
    pub(crate) fn finish(self, limit: Duration) -> Result<Done> {
        let name = format!("pod/load-{}", self.run);
        // One question, and not one after the other: what asks takes time from what is measured.
        let ended = "--for=jsonpath={.status.containerStatuses[0].state.terminated}";
        let timeout = format!("--timeout={}s", limit.as_secs());
        kubectl(&["wait", "--namespace", MAIL, ended, &timeout, &name])?;
        let phase = eventually(&format!("{name} ends"), SOON, || {
            let phase = get(&[&name])?["status"]["phase"].clone();
            holds(phase == "Succeeded" || phase == "Failed", &phase)?;
            Ok(phase)
        })?;
        let log = logs(&name)?;
        ensure!(phase == "Succeeded", "{name} ended as {phase}:\n{log}");
        kubectl(&["delete", "--namespace", MAIL, "--wait=false", &name])?;
        let summary = lines(&log).pop().context("a load without a summary")?;
        Ok(Done {
            attempts: lines(&log),
            summary,
        })
    }
}

/// Until the phase of a pod follows its container.
const SOON: Duration = Duration::from_secs(10);

fn pod(run: &str, arguments: &str, node_selector: &serde_json::Value) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: load-{run}, labels: {{app: load}}}}
spec:
  restartPolicy: Never
  nodeSelector: {node_selector}
  automountServiceAccountToken: false
  securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: load
    image: docker.io/local/kurier-test:dev
    imagePullPolicy: Never
    args: {arguments}
    securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
    envFrom: [{{secretRef: {{name: {ACCOUNT}}}}}]
    env: [{{name: SMTP_CA, value: /etc/smtp/ca.crt}}]
    volumeMounts: [{{name: account, mountPath: /etc/smtp}}]
  volumes: [{{name: account, secret: {{secretName: {ACCOUNT}}}}}]
"
    )
}
