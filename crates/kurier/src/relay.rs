//! `kurier relay`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use config::{ConfigError, Loaded, RelayConfig};

use crate::check::{self, Content};
use crate::cli::RelayArguments;
use crate::process::{self, REVISION, VERSION};
use crate::{local, store};

pub(crate) fn run(arguments: RelayArguments) -> Result<ExitCode> {
    let loaded = match &arguments.config {
        Some(file) => {
            let loaded = load(file)?;
            check::check(file, &loaded, Content::WaitedFor)?;
            loaded
        }
        None => local::configuration(&arguments.local)?,
    };
    let pod_name = environment("POD_NAME").unwrap_or_else(|| loaded.config.hostname.to_string());
    let guard = telemetry::init(telemetry_settings(&loaded.config, &pod_name))?;
    let result = process::block_on(async {
        let stop = process::stop_on_signal()?;
        let queue = store::open(&loaded.config)?;
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

const CONFIGURATION_AGAIN: Duration = Duration::from_millis(500);
/// What the collector gets to take the last spans.
const LAST_SPANS: Duration = Duration::from_secs(5);
