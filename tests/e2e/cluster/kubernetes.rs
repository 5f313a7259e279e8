//! kubectl and helm as their users call them, and the few questions that go to processes directly.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::eventually::{eventually, holds};
use crate::http;

/// Where the mail is in these tests.
pub(crate) const MAIL: &str = "mail";
/// Where the operator is.
pub(crate) const SYSTEM: &str = "kurier-system";

pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Result<(bool, String, String)> {
    ensure!(
        std::env::var_os("KUBECONFIG").is_some(),
        "no test cluster: run `cargo xtask test --tier cluster`"
    );
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(repository())
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    if let Some(text) = input {
        child
            .stdin
            .take()
            .context("standard input is piped")?
            .write_all(text.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}

fn succeed(program: &str, arguments: &[&str], input: Option<&str>) -> Result<String> {
    let (success, stdout, stderr) = run(program, arguments, input)?;
    ensure!(
        success,
        "{program} {}\n{stdout}{stderr}",
        arguments.join(" ")
    );
    Ok(stdout)
}

pub(crate) fn kubectl(arguments: &[&str]) -> Result<String> {
    succeed("kubectl", arguments, None)
}

pub(crate) fn helm(arguments: &[&str]) -> Result<String> {
    succeed("helm", arguments, None)
}

pub(crate) fn apply(namespace: &str, manifest: &str) -> Result<String> {
    succeed(
        "kubectl",
        &["apply", "--namespace", namespace, "-f", "-"],
        Some(manifest),
    )
}

pub(crate) fn delete(namespace: &str, manifest: &str) -> Result<String> {
    succeed(
        "kubectl",
        &["delete", "--namespace", namespace, "-f", "-"],
        Some(manifest),
    )
}

/// What the API server says to a manifest that it must refuse.
pub(crate) fn refusal(namespace: &str, manifest: &str) -> Result<String> {
    let arguments = [
        "apply",
        "--namespace",
        namespace,
        "--dry-run=server",
        "-f",
        "-",
    ];
    let (success, stdout, stderr) = run("kubectl", &arguments, Some(manifest))?;
    ensure!(!success, "the API server took it:\n{manifest}\n{stdout}");
    Ok(stderr)
}

pub(crate) fn apply_fixture(name: &str) -> Result<String> {
    let path = format!("tests/fixtures/cluster/{name}");
    kubectl(&["apply", "--namespace", MAIL, "-f", &path])
}

/// One object, or a list, as JSON.
pub(crate) fn get(arguments: &[&str]) -> Result<Value> {
    get_in(MAIL, arguments)
}

pub(crate) fn get_in(namespace: &str, arguments: &[&str]) -> Result<Value> {
    let mut all = vec!["get", "--namespace", namespace, "-o", "json"];
    all.extend_from_slice(arguments);
    Ok(serde_json::from_str(&kubectl(&all)?)?)
}

pub(crate) fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

/// Waits until a condition of an object has the status, for the generation that is current.
pub(crate) fn condition(object: &str, kind: &str, status: &str, limit: Duration) -> Result<Value> {
    eventually(&format!("{object}: {kind}={status}"), limit, || {
        let found = get(&[object])?;
        let generation = &found["metadata"]["generation"];
        let all = found["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let condition = all.iter().find(|condition| condition["type"] == kind);
        let Some(condition) = condition else {
            bail!("no condition {kind}: {}", found["status"])
        };
        holds(
            condition["status"] == status && condition["observedGeneration"] == *generation,
            format_args!("generation {generation}, conditions {all:#?}"),
        )?;
        Ok(condition.clone())
    })
}

/// Waits until an object's watchers have been told of the transition to this condition.
pub(crate) fn told(object: &str, condition: &Value) -> Result<Value> {
    let (kind, name) = object.split_once('/').context("KIND/NAME")?;
    let since = condition["lastTransitionTime"].as_str().unwrap_or_default();
    let what = format!("an event about {object} since {since}: {condition}");
    eventually(&what, Duration::from_secs(30), || {
        let all = get(&["events.events.k8s.io"])?;
        let found = items(&all).iter().find(|event| {
            let about = &event["regarding"];
            let kind_of = about["kind"].as_str().unwrap_or_default();
            // What has been told before is counted in a series.
            let last = [&event["series"]["lastObservedTime"], &event["eventTime"]];
            let last = last.iter().find_map(|time| time.as_str());
            kind_of.eq_ignore_ascii_case(kind)
                && about["name"] == name
                && event["action"] == condition["type"]
                && event["reason"] == condition["reason"]
                // Both are UTC; to the second is what a condition says.
                && last.is_some_and(|last| last.get(..19) >= since.get(..19))
        });
        found.cloned().with_context(|| format!("{all}"))
    })
}

/// A running pod.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) address: String,
    pub(crate) node: String,
}

/// Ready pods that are not on their way out, by label selector.
pub(crate) fn ready_pods(selector: &str) -> Result<Vec<Pod>> {
    ready_pods_in(MAIL, selector)
}

pub(crate) fn ready_pods_in(namespace: &str, selector: &str) -> Result<Vec<Pod>> {
    let list = get_in(namespace, &["pods", "-l", selector])?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(items(&list)
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .filter(|pod| {
            let conditions = pod["status"]["conditions"].as_array();
            conditions.is_some_and(|all| {
                all.iter()
                    .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
            })
        })
        .map(|pod| Pod {
            name: text(&pod["metadata"]["name"]),
            uid: text(&pod["metadata"]["uid"]),
            address: text(&pod["status"]["podIP"]),
            node: text(&pod["spec"]["nodeName"]),
        })
        .collect())
}

/// Waits until pods that are on their way out have gone.
pub(crate) fn wait_until_gone(selector: &str, limit: Duration) -> Result<()> {
    eventually(&format!("no leaving pod of {selector}"), limit, || {
        let list = get_in(MAIL, &["pods", "-l", selector])?;
        let leaving = items(&list)
            .iter()
            .filter(|pod| !pod["metadata"]["deletionTimestamp"].is_null())
            .count();
        holds(leaving == 0, format_args!("{leaving} leave"))
    })
}

/// Exactly `count` ready pods.
pub(crate) fn wait_for_pods(selector: &str, count: usize, limit: Duration) -> Result<Vec<Pod>> {
    eventually(&format!("{count} ready pods of {selector}"), limit, || {
        let pods = ready_pods(selector)?;
        holds(pods.len() == count, format_args!("ready: {pods:?}"))?;
        Ok(pods)
    })
}

/// Waits until a Deployment's pods are of its present template, and ready.
pub(crate) fn rolled_out(namespace: &str, name: &str) -> Result<()> {
    let deployment = format!("deployment/{name}");
    kubectl(&[
        "rollout",
        "status",
        "--namespace",
        namespace,
        "--timeout=90s",
        &deployment,
    ])?;
    Ok(())
}

/// `redis-cli` in the pod of the queue.
pub(crate) fn redis(arguments: &[&str]) -> Result<String> {
    let cli = ["deployment/redis", "--", "redis-cli"];
    kubectl(&[&["exec", "--namespace", MAIL][..], &cli, arguments].concat())
}

/// A merge patch of an object's spec.
pub(crate) fn patch(object: &str, patch: &str) -> Result<()> {
    let merge = ["--type", "merge", "--patch", patch];
    kubectl(&[&["patch", "--namespace", MAIL, object][..], &merge].concat())?;
    Ok(())
}

pub(crate) fn logs(target: &str) -> Result<String> {
    kubectl(&["logs", "--namespace", MAIL, "--tail=-1", target])
}

/// The JSON lines of a log that are of one kind; other lines are passed over.
pub(crate) fn lines<T: serde::de::DeserializeOwned>(log: &str) -> Vec<T> {
    log.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// The process of a pod whose command line starts with `program`, as the node sees it.
pub(crate) fn process_of(pod: &Pod, program: &str) -> Result<u32> {
    let uid = pod.uid.as_str();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let Ok(cgroup) = std::fs::read_to_string(entry.path().join("cgroup")) else {
            continue;
        };
        let Ok(command) = std::fs::read_to_string(entry.path().join("cmdline")) else {
            continue;
        };
        let first = command.split('\0').next().unwrap_or_default();
        if cgroup.contains(uid) && first.rsplit('/').next() == Some(program) {
            return Ok(id);
        }
    }
    bail!("pod {} has no process {program}", pod.name)
}

pub(crate) fn signal(process: u32, name: &str) -> Result<()> {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(process.to_string())
        .status()?;
    ensure!(
        status.success(),
        "kill -{name} {process} ended with {status}"
    );
    Ok(())
}

/// A metric of a pod, summed over the series whose labels contain `label`.
pub(crate) fn metric(pod: &Pod, name: &str, label: &str) -> Result<f64> {
    http::metric(&format!("{}:8080", pod.address), name, label)
}
