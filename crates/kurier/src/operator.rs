//! `kurier operator`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use operator::{LeaseTiming, LeaseTimingError, Settings};

use crate::cli::{LogFormat, OperatorArguments};
use crate::process::{self, REVISION, VERSION};

pub(crate) fn run(arguments: OperatorArguments) -> Result<ExitCode> {
    let logs = telemetry::Settings {
        service_name: "kurier-operator".to_owned(),
        log_format: match arguments.log_format {
            LogFormat::Json => telemetry::LogFormat::Json,
            LogFormat::Text => telemetry::LogFormat::Text,
        },
        log_filter: arguments.log_filter.clone(),
        otlp: None,
    };
    let settings = settings(arguments)?;
    let guard = telemetry::init(logs)?;
    let result = process::block_on(async {
        let stop = process::stop_on_signal()?;
        operator::run(settings, stop)
            .await
            .context("the operator ended")
    });
    drop(guard);
    result.map(|()| ExitCode::SUCCESS)
}

fn settings(arguments: OperatorArguments) -> Result<Settings, LeaseTimingError> {
    Ok(Settings {
        relay_image: arguments.relay_image,
        relay_image_pull_policy: arguments.relay_image_pull_policy,
        namespace: arguments.namespace,
        identity: arguments.identity,
        lease_name: arguments.lease_name,
        lease: LeaseTiming::new(
            Duration::from_secs(arguments.lease_duration_seconds),
            Duration::from_secs(arguments.renew_deadline_seconds),
            Duration::from_secs(arguments.retry_period_seconds),
        )?,
        listen: arguments.listen,
        cluster_domain: arguments.cluster_domain,
        version: VERSION,
        revision: REVISION,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::settings;
    use crate::cli::{Cli, Command};

    #[test]
    fn times_of_the_lease_that_make_two_leaders_are_refused() {
        let check = |times: &[&str], refused: Option<&str>| {
            let required = ["kurier", "operator", "--relay-image", "kurier:1"];
            let own = ["--namespace", "kurier-system", "--identity", "a"];
            let line = required.iter().chain(&own).chain(times);
            let Command::Operator(arguments) = Cli::try_parse_from(line).unwrap().command else {
                panic!("not the operator");
            };
            let error = settings(arguments).err().map(|error| error.to_string());
            assert_eq!(error.is_some(), refused.is_some(), "{times:?}: {error:?}");
            let said = error.unwrap_or_default();
            assert!(said.contains(refused.unwrap_or_default()), "{said}");
        };
        check(&[], None);
        check(
            &["--lease-duration-seconds", "10"],
            Some("lease duration (10s) must be longer than the renew deadline (10s)"),
        );
        check(
            &["--retry-period-seconds", "10"],
            Some("renew deadline (10s) must be longer than the retry period (10s)"),
        );
        check(&["--retry-period-seconds", "0"], Some("must not be zero"));
    }
}
