//! `kurier relay`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use config::queue::Source;
use config::{ConfigError, Loaded, RelayConfig};
use queue::Queue;
use queue::embedded::EmbeddedQueue;
use queue::redis::Redis;

use crate::cli::RelayArguments;
use crate::local;
use crate::process::{self, REVISION, VERSION};

pub(crate) fn run(arguments: RelayArguments) -> Result<ExitCode> {
    let loaded = match &arguments.config {
        Some(file) => load(file)?,
        None => local::configuration(&arguments.local)?,
    };
    let pod_name = environment("POD_NAME").unwrap_or_else(|| loaded.config.hostname.to_string());
    let guard = telemetry::init(telemetry_settings(&loaded.config, &pod_name))?;
    let result = process::block_on(async {
        let stop = process::stop_on_signal()?;
        let queue = open_queue(&loaded.config)?;
        let settings = ::relay::Settings {
            loaded,
            config_file: arguments.config,
            pod_name,
            pod_uid: environment("POD_UID").unwrap_or_default(),
            version: VERSION,
            revision: REVISION,
        };
        ::relay::run(settings, queue, stop).await?;
        Ok(())
    });
    guard.shutdown(LAST_SPANS);
    result.map(|()| ExitCode::SUCCESS)
}

/// Files of a mounted configuration arrive one by one, so one that is not complete is waited for.
fn load(file: &Path) -> Result<Loaded, ConfigError> {
    let mut told = false;
    loop {
        match config::load(file) {
            Err(error @ ConfigError::Incomplete { .. }) => {
                if !std::mem::replace(&mut told, true) {
                    eprintln!("kurier: waiting for the rest of the configuration: {error}");
                }
                std::thread::sleep(CONFIGURATION_AGAIN);
            }
            other => return other,
        }
    }
}

/// Opens the queue that a configuration names. A Redis that is away is no error.
///
/// # Errors
/// When the embedded queue's file or the address of the Redis cannot be used.
pub(crate) fn open_queue(config: &RelayConfig) -> Result<Arc<dyn Queue>> {
    let timing = ::relay::timing(&config.timing);
    match &config.queue.source {
        Source::Embedded(embedded) => {
            std::fs::create_dir_all(&embedded.path)
                .with_context(|| format!("{} cannot be made", embedded.path.display()))?;
            let queue = EmbeddedQueue::open(&embedded.path.join(QUEUE_FILE), &timing)?;
            Ok(Arc::new(queue))
        }
        Source::Redis(redis) => {
            let url = match (&redis.url, &redis.url_file) {
                (Some(url), _) => url.expose().to_owned(),
                (None, Some(file)) => std::fs::read_to_string(file)
                    .with_context(|| format!("{} cannot be read", file.display()))?
                    .trim()
                    .to_owned(),
                (None, None) => anyhow::bail!("the queue has no address"),
            };
            let (id, owner) = (config.queue.id.clone(), config.queue.owner.clone());
            let settings = queue::redis::Settings::new(url, id, owner, timing);
            Ok(Arc::new(Redis::open(&settings)?))
        }
    }
}

fn telemetry_settings(config: &RelayConfig, pod_name: &str) -> telemetry::Settings {
    let telemetry = &config.telemetry;
    telemetry::Settings {
        service_name: "kurier-relay".to_owned(),
        log_format: match telemetry.log.format {
            config::admin::LogFormat::Json => telemetry::LogFormat::Json,
            config::admin::LogFormat::Text => telemetry::LogFormat::Text,
        },
        log_filter: telemetry.log.filter.clone(),
        otlp: telemetry.otlp.as_ref().map(|otlp| telemetry::Otlp {
            endpoint: otlp.endpoint.clone(),
            sampling_percent: telemetry.sampling_percent.value(),
            pod_name: Some(pod_name.to_owned()),
            namespace: environment("POD_NAMESPACE"),
            instance: environment("POD_UID"),
        }),
    }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

const QUEUE_FILE: &str = "queue.redb";
const CONFIGURATION_AGAIN: Duration = Duration::from_millis(500);
/// What the collector gets to take the last spans.
const LAST_SPANS: Duration = Duration::from_secs(5);
