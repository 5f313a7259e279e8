//! Starting and ending telemetry, once per process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use tracing_subscriber::EnvFilter;

use crate::export::{BUFFER_CAPACITY, Exporting, SpanBuffer, SpanCounts, StartError, Timing};
use crate::log;
use crate::tracer::{self, Sampling, Tracer};

/// Installs the log subscriber and starts the exporter. To be called once, early in `main`;
/// needs no async runtime.
///
/// # Errors
///
/// When the filter or the endpoint is malformed, the exporter's thread cannot be started, or
/// telemetry has been initialised before. An endpoint that nobody answers at is no error.
pub fn init(settings: Settings) -> Result<Guard, InitError> {
    let filter = filter(&settings.log_filter)?;
    let subscriber = log::subscriber(settings.log_format, filter, io::stderr);
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|_| InitError::AlreadyInitialized)?;

    let Some(otlp) = settings.otlp else {
        return Ok(Guard { exporting: None });
    };
    check_endpoint(&otlp.endpoint)?;
    let sampling = Sampling::percent(otlp.sampling_percent);
    let buffer = Arc::new(SpanBuffer::new(BUFFER_CAPACITY));
    let endpoint = otlp.endpoint.clone();
    let exporting = Exporting::start(Arc::clone(&buffer), TIMING, move || {
        otlp_exporter(&settings.service_name, &otlp, TIMING.export_timeout)
    })
    .map_err(|error| match error {
        StartError::Thread(error) => InitError::Thread(error),
        StartError::Connect(error) => InitError::Endpoint {
            endpoint,
            reason: error.to_string(),
        },
    })?;
    if !tracer::set_global(Tracer::new(sampling, buffer)) {
        return Err(InitError::AlreadyInitialized);
    }
    Ok(Guard {
        exporting: Some(exporting),
    })
}

/// What [`init`] would refuse of `log_filter`.
///
/// # Errors
///
/// When the filter is malformed.
pub fn check_log_filter(log_filter: &str) -> Result<(), InitError> {
    filter(log_filter).map(drop)
}

/// What [`init`] would refuse of `endpoint`.
///
/// # Errors
///
/// When it is no `http://host:port`.
pub fn check_endpoint(endpoint: &str) -> Result<(), InitError> {
    if !endpoint.starts_with("http://") {
        return Err(InitError::EndpointScheme {
            endpoint: endpoint.to_owned(),
        });
    }
    match endpoint.parse::<http::Uri>() {
        Ok(_) => Ok(()),
        Err(error) => Err(InitError::Endpoint {
            endpoint: endpoint.to_owned(),
            reason: error.to_string(),
        }),
    }
}

fn filter(log_filter: &str) -> Result<EnvFilter, InitError> {
    EnvFilter::try_new(log_filter).map_err(|error| InitError::LogFilter {
        filter: log_filter.to_owned(),
        reason: error.to_string(),
    })
}

/// What became of the spans of this process so far.
pub fn span_counts() -> SpanCounts {
    tracer::global()
        .buffer()
        .map(SpanBuffer::counts)
        .unwrap_or_default()
}

/// How this process logs and traces.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `service.name` of the traces.
    pub service_name: String,
    pub log_format: LogFormat,
    /// Directives as of `tracing-subscriber`'s `EnvFilter`: `info`, `info,relay=debug`.
    pub log_filter: String,
    /// Without it nothing is traced.
    pub otlp: Option<Otlp>,
}

/// The form of log lines on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, the event's fields beside `timestamp`, `level`, `target` and
    /// `message`.
    #[default]
    Json,
    /// For people.
    Text,
}

/// Where traces go: OTLP over gRPC.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// `http://host:port`.
    pub endpoint: String,
    /// The share of the traces beginning here that is recorded, 0 to 100. A trace that a client
    /// began is recorded as the client says.
    pub sampling_percent: u8,
    /// `k8s.pod.name`.
    pub pod_name: Option<String>,
    /// `k8s.namespace.name`.
    pub namespace: Option<String>,
    /// `service.instance.id`.
    pub instance: Option<String>,
}

/// Keeps telemetry running. Dropping it gives the collector two seconds to take what is left.
#[derive(Debug)]
#[must_use = "dropping the guard ends the export of spans"]
pub struct Guard {
    exporting: Option<Exporting>,
}

impl Guard {
    /// Exports what is left, for at most about `within`; what the collector has not taken by then
    /// is dropped and counted. Blocks the calling thread: call it when the work is over.
    pub fn shutdown(mut self, within: Duration) -> SpanCounts {
        self.exporting
            .take()
            .map(|exporting| exporting.stop(within))
            .unwrap_or_default()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(exporting) = &self.exporting {
            exporting.stop(DROP_BOUND);
        }
    }
}

/// Why telemetry could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    #[error("telemetry is already initialised in this process")]
    AlreadyInitialized,
    #[error("the OTLP endpoint {endpoint:?} cannot be used: {reason}")]
    Endpoint { endpoint: String, reason: String },
    #[error("the OTLP endpoint {endpoint:?} must begin with http://")]
    EndpointScheme { endpoint: String },
    #[error("the log filter {filter:?} is malformed: {reason}")]
    LogFilter { filter: String, reason: String },
    #[error("the exporter thread cannot be started")]
    Thread(#[from] io::Error),
}

pub(crate) fn otlp_exporter(
    service_name: &str,
    otlp: &Otlp,
    timeout: Duration,
) -> Result<SpanExporter, opentelemetry_otlp::ExporterBuildError> {
    let mut exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&otlp.endpoint)
        .with_timeout(timeout)
        .build()?;
    let attributes = [
        ("k8s.pod.name", &otlp.pod_name),
        ("k8s.namespace.name", &otlp.namespace),
        ("service.instance.id", &otlp.instance),
    ];
    let resource = Resource::builder_empty()
        .with_attribute(KeyValue::new("service.name", service_name.to_owned()))
        .with_attributes(attributes.into_iter().filter_map(|(key, value)| {
            value
                .as_ref()
                .map(|value| KeyValue::new(key, value.clone()))
        }))
        .build();
    exporter.set_resource(&resource);
    Ok(exporter)
}

/// What a dropped [`Guard`] waits for the collector.
const DROP_BOUND: Duration = Duration::from_secs(2);

const TIMING: Timing = Timing {
    linger: Duration::from_secs(1),
    export_timeout: Duration::from_secs(10),
};

#[cfg(test)]
mod tests {
    use super::{check_endpoint, check_log_filter};

    #[test]
    fn filters_and_endpoints_are_checked_without_being_used() {
        for (filter, good) in [
            ("info", true),
            ("info,relay=debug", true),
            ("relay=loud", false),
        ] {
            assert_eq!(check_log_filter(filter).is_ok(), good, "{filter}");
        }
        for (endpoint, good) in [
            ("http://collector:4317", true),
            ("https://collector:4317", false),
            ("http://", false),
            ("http://a b:4317", false),
        ] {
            assert_eq!(check_endpoint(endpoint).is_ok(), good, "{endpoint}");
        }
    }
}
