//! `kurier operator`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use operator::{LeaseTiming, Settings};

use crate::cli::{LogFormat, OperatorArguments};
use crate::process::{self, REVISION, VERSION};

pub(crate) fn run(arguments: OperatorArguments) -> Result<ExitCode> {
    let guard = telemetry::init(telemetry::Settings {
        service_name: "kurier-operator".to_owned(),
        log_format: match arguments.log_format {
            LogFormat::Json => telemetry::LogFormat::Json,
            LogFormat::Text => telemetry::LogFormat::Text,
        },
        log_filter: arguments.log_filter.clone(),
        otlp: None,
    })?;
    let result = process::block_on(async {
        let stop = process::stop_on_signal()?;
        operator::run(settings(arguments), stop)
            .await
            .context("the operator ended")
    });
    drop(guard);
    result.map(|()| ExitCode::SUCCESS)
}

fn settings(arguments: OperatorArguments) -> Settings {
    Settings {
        relay_image: arguments.relay_image,
        relay_image_pull_policy: arguments.relay_image_pull_policy,
        namespace: arguments.namespace,
        identity: arguments.identity,
        lease_name: arguments.lease_name,
        lease: LeaseTiming {
            duration: Duration::from_secs(arguments.lease_duration_seconds),
            renew: Duration::from_secs(arguments.renew_deadline_seconds),
            retry: Duration::from_secs(arguments.retry_period_seconds),
        },
        watch_namespace: arguments.watch_namespace,
        listen: arguments.listen,
        cluster_domain: arguments.cluster_domain,
        version: VERSION,
        revision: REVISION,
    }
}
