//! The installation that the cluster tests share: operator, Redis, receivers, Collector, and a
//! relay `outbound` with three pods.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::kubernetes::{
    MAIL, Pod, SYSTEM, apply, apply_fixture, condition, helm, ready_pods, repository, rolled_out,
    wait_for_pods,
};

/// Label selector of the relay's pods.
pub(crate) const RELAY: &str =
    "app.kubernetes.io/component=relay,app.kubernetes.io/instance=outbound";
/// The relay itself.
pub(crate) const RELAY_OBJECT: &str = "mailrelay/outbound";
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
    apply_sample(
        "redis.yaml",
        &[("image: redis:7", "image: docker.io/local/redis:7")],
    )?;
    apply_sample("otel-collector.yaml", &COLLECTOR)?;
    super::listeners::new_certificate()?;
    for name in [
        "redis",
        "receiver-first",
        "receiver-second",
        "spans",
        "otel-collector",
    ] {
        rolled_out(MAIL, name)?;
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
    condition(RELAY_OBJECT, "Ready", "True", MINUTE)?;
    Ok(started.elapsed())
}

/// As the sample asks for: another exporter in the place of `debug`. The tests' one hands spans on to
/// their sink.
const COLLECTOR: [(&str, &str); 3] = [
    (
        "image: otel/opentelemetry-collector:0.165.0",
        "image: docker.io/local/otelcol:dev",
    ),
    (
        "exporters: {debug: {verbosity: detailed}}",
        "exporters: {otlp_http: {endpoint: \"http://spans:4319\", encoding: json, compression: none}}",
    ),
    ("exporters: [debug]", "exporters: [otlp_http]"),
];

/// Applies a file of `deploy/` with what an administrator would change in it.
fn apply_sample(name: &str, changes: &[(&str, &str)]) -> Result<()> {
    let path = repository().join("deploy").join(name);
    let mut sample = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    for (from, to) in changes {
        ensure!(sample.contains(from), "{name} has no {from:?}");
        sample = sample.replace(from, to);
    }
    apply(MAIL, &sample)?;
    Ok(())
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
