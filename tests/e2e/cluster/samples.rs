//! What `deploy/` offers to apply as it is.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::fleet::installed;
use super::kubernetes::{kubectl, repository};

/// In a namespace without relays: a rule about changes must not see these as changes.
#[test]
fn every_sample_is_admitted() -> Result<()> {
    installed()?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(repository().join("deploy"))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            files.push(path.display().to_string());
        }
    }
    ensure!(files.len() >= 3, "samples are missing: {files:?}");
    for file in files {
        admitted(&file)?;
    }
    Ok(())
}

/// The API server takes it whole, unknown fields refused.
pub(crate) fn admitted(file: &str) -> Result<()> {
    let dry = ["apply", "--validate=strict", "--dry-run=server"];
    kubectl(&[&dry[..], &["--namespace", "default", "-f", file]].concat())?;
    Ok(())
}

/// The Collector that the tests run has another exporter; this is the sample's own configuration.
#[test]
fn the_collector_of_the_sample_takes_its_configuration() -> Result<()> {
    let sample = kubectl(&[
        "create",
        "--dry-run=client",
        "--output=json",
        "--filename=deploy/otel-collector.yaml",
    ])?;
    // One document after the other, not a list.
    let objects: Vec<Value> = serde_json::Deserializer::from_str(&sample)
        .into_iter()
        .collect::<Result<_, _>>()?;
    let map = objects
        .iter()
        .find(|object| object["kind"] == "ConfigMap")
        .context("no ConfigMap")?;
    let configuration = map["data"]["config.yaml"].as_str().context("no text")?;
    let folder = tempfile::tempdir()?;
    let validate = |text: &str| {
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, text)?;
        let mut otelcol = Command::new("otelcol");
        let output = otelcol.arg("validate").arg("--config").arg(file).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        anyhow::Ok((output.status.success(), said))
    };
    let (valid, said) = validate(configuration)?;
    ensure!(valid, "{said}");
    // And it would say so if it were wrong.
    let (valid, _) = validate(&configuration.replace("receivers: [otlp]", "receivers: [other]"))?;
    ensure!(!valid, "a receiver that is not there was taken");
    Ok(())
}
