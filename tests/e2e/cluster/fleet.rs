//! The installation that the cluster tests share: operator, Redis, receivers, Collector, and a
//! relay `outbound` with three pods.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::kubernetes::{
    MAIL, Pod, SYSTEM, apply, apply_fixture, condition, helm, kubectl, ready_pods, repository,
    wait_for_pods,
};

/// Label selector of the relay's pods.
pub(crate) const RELAY: &str =
    "app.kubernetes.io/component=relay,app.kubernetes.io/instance=outbound";
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

static INSTALLED: OnceLock<std::result::Result<Duration, String>> = OnceLock::new();

/// Installs once; later callers get the same answer. Gives the time from `helm install` to a
/// relay that is Ready.
pub(crate) fn installed() -> Result<Duration> {
    INSTALLED
        .get_or_init(|| install().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|error| anyhow::anyhow!("the installation failed: {error}"))
}

fn install() -> Result<Duration> {
    // The relay's pods must fit where an administrator allows nothing special.
    let labels = r#"{"pod-security.kubernetes.io/enforce": "restricted"}"#;
    let metadata = format!("{{name: {MAIL}, labels: {labels}}}");
    apply(
        MAIL,
        &format!("{{apiVersion: v1, kind: Namespace, metadata: {metadata}}}"),
    )?;
    apply_fixture("peers.yaml")?;
    let redis = std::fs::read_to_string(repository().join("deploy/redis.yaml"))?;
    apply(
        MAIL,
        &redis.replace("image: redis:7", "image: docker.io/local/redis:7"),
    )?;
    for name in [
        "redis",
        "receiver-first",
        "receiver-second",
        "spans",
        "otel-collector",
    ] {
        let deployment = format!("deployment/{name}");
        kubectl(&[
            "rollout",
            "status",
            "--namespace",
            MAIL,
            "--timeout=90s",
            &deployment,
        ])?;
    }
    let started = Instant::now();
    helm(&[
        "upgrade",
        "--install",
        "kurier",
        "charts/kurier",
        "--namespace",
        SYSTEM,
        "--create-namespace",
        "--values",
        "tests/fixtures/cluster/values.yaml",
        "--wait",
        "--timeout",
        "90s",
    ])?;
    apply_fixture("relay.yaml")?;
    condition("mailrelay/outbound", "Ready", "True", MINUTE)?;
    Ok(started.elapsed())
}

/// The relay's pods, all of them ready.
pub(crate) fn relay_pods(count: usize) -> Result<Vec<Pod>> {
    wait_for_pods(RELAY, count, 2 * MINUTE)
}

pub(crate) fn receiver(name: &str) -> Result<Pod> {
    let pods = ready_pods(&format!("app={name}"))?;
    pods.into_iter()
        .next()
        .with_context(|| format!("no pod of {name}"))
}

/// Makes a receiver behave so from now on.
pub(crate) fn set_mode(name: &str, mode: &str) -> Result<()> {
    let pod = receiver(name)?;
    crate::http::request("PUT", &format!("{}:8081", pod.address), "/mode", mode)?;
    Ok(())
}

#[test]
fn a_a_relay_is_ready_a_minute_after_helm_install() -> Result<()> {
    let elapsed = installed()?;
    println!("from helm install to Ready: {elapsed:?}");
    ensure!(elapsed <= MINUTE, "it took {elapsed:?}");
    relay_pods(3)?;
    Ok(())
}
