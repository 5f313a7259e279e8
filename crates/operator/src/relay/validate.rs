//! From what somebody wrote to what can be carried out. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use api::condition::Accepted;
use api::relay::{
    CaSecretRef, DurabilityType, Listener, MailRelaySpec, Mechanism, NextHopTls, Pods, Rate, Role,
    SecretKeyRef, TlsMode, TlsType,
};
use config::{DomainPattern, Hostname, Network};

/// Which relay it is. What every step needs to name it and its children.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// A relay that can be built.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ValidRelay {
    pub(crate) identity: Identity,
    pub(crate) hostname: Hostname,
    pub(crate) listeners: Vec<ValidListener>,
    /// Domains the relay's own namespace may send as; empty is any.
    pub(crate) sender_domains: Vec<DomainPattern>,
    pub(crate) max_credentials: Option<i32>,
    pub(crate) queue: ValidQueue,
    pub(crate) delivery: config::delivery::Delivery,
    pub(crate) limits: config::listener::Limits,
    pub(crate) telemetry: config::admin::Telemetry,
    pub(crate) replicas: i32,
    pub(crate) pods: Pods,
    pub(crate) grace: Duration,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ValidListener {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) container_port: u16,
    pub(crate) role: config::listener::Role,
    pub(crate) mode: config::listener::TlsMode,
    pub(crate) certificate: Certificate,
    pub(crate) auth: config::listener::Auth,
    pub(crate) allowed_networks: Vec<Network>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Certificate {
    SelfIssued,
    /// Name of a Secret.
    Secret(String),
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ValidQueue {
    pub(crate) id: String,
    pub(crate) url: SecretKeyRef,
    pub(crate) ca: Option<CaSecretRef>,
    pub(crate) lifetime: Duration,
    pub(crate) retry: config::queue::Retry,
    pub(crate) durability: config::queue::Durability,
    pub(crate) delay_notice: Option<Duration>,
}

/// Checks what the schema and its rules cannot.
///
/// # Errors
/// All problems at once, each naming its field and what to do.
pub(crate) fn validate(identity: Identity, spec: &MailRelaySpec) -> Result<ValidRelay, Accepted> {
    let mut problems = Problems::default();
    let hostname = problems.parse("hostname", spec.hostname.parse::<Hostname>());
    let listeners = listeners(&spec.listeners, &mut problems);
    let tenant = spec.tenants.first();
    let sender_domains = tenant
        .map(|tenant| problems.parse_all("tenants[0].senderDomains", &tenant.sender_domains))
        .unwrap_or_default();
    let lifetime = problems.parse(
        "queue.lifetime",
        config::duration::parse(&spec.queue.lifetime),
    );
    let initial = problems.parse(
        "queue.retry.initial",
        config::duration::parse(&spec.queue.retry.initial),
    );
    let max = problems.parse(
        "queue.retry.max",
        config::duration::parse(&spec.queue.retry.max),
    );
    let rate = spec.delivery.rate.as_ref().map(rate).transpose();
    let rate = rate.unwrap_or_else(|problem| {
        problems.add("delivery.rate", &problem);
        None
    });
    let delay_notice = spec.queue.delay_notice.as_deref();
    let delay_notice = delay_notice
        .and_then(|text| problems.parse("queue.delayNotice", config::duration::parse(text)));
    let size = problems.parse(
        "limits.messageSize",
        message_size(&spec.limits.message_size),
    );
    let percent = u8::try_from(spec.telemetry.sampling_percent)
        .map_err(|_| "a percentage is a number from 0 to 100")
        .and_then(config::admin::Percent::try_from);
    let sampling_percent = problems.parse("telemetry.samplingPercent", percent);
    let url = spec
        .queue
        .redis
        .as_ref()
        .map(|redis| redis.url_secret_ref.clone());
    if url.is_none() {
        problems.add("queue.redis", "type Redis needs it");
    }
    if let (Some(lifetime), Some(initial)) = (lifetime, initial)
        && initial >= lifetime
    {
        problems.add(
            "queue.retry.initial",
            "is not shorter than queue.lifetime, so nothing would be tried twice: shorten it",
        );
    }
    let pods = spec.pods.clone().unwrap_or_default();
    let durability = problems.parse("queue.durability", durability(&spec.queue.durability));
    let grace = pods.termination_grace_period_seconds.unwrap_or(90);
    for label in pods.labels.keys().filter(|label| is_reserved(label)) {
        problems.add(
            &format!("pods.labels.{label}"),
            "is the operator's own: leave it out",
        );
    }
    let (
        Some(hostname),
        Some(lifetime),
        Some(initial),
        Some(max),
        Some(size),
        Some(percent),
        Some(url),
        Some(durability),
        true,
    ) = (
        hostname,
        lifetime,
        initial,
        max,
        size,
        sampling_percent,
        url,
        durability,
        problems.0.is_empty(),
    )
    else {
        return Err(Accepted::Invalid(problems.0));
    };
    Ok(ValidRelay {
        hostname,
        listeners,
        sender_domains,
        max_credentials: tenant.and_then(|tenant| tenant.max_credentials),
        queue: ValidQueue {
            id: spec
                .queue
                .id
                .clone()
                .unwrap_or_else(|| format!("{}.{}", identity.namespace, identity.name)),
            url,
            ca: spec
                .queue
                .redis
                .as_ref()
                .and_then(|redis| redis.ca_secret_ref.clone()),
            lifetime,
            retry: config::queue::Retry { initial, max },
            durability,
            delay_notice,
        },
        delivery: config::delivery::Delivery {
            concurrency_per_destination: spec.delivery.concurrency_per_destination.unsigned_abs(),
            messages_per_connection: spec.delivery.messages_per_connection.unsigned_abs(),
            rate,
            tls: next_hop_tls(spec.delivery.tls),
            dns: config::delivery::Dns::default(),
        },
        limits: config::listener::Limits {
            message_size: size,
            recipients: spec.limits.recipients.unsigned_abs(),
            connections: spec.limits.connections.unsigned_abs(),
            connections_per_client: spec.limits.connections_per_client.unsigned_abs(),
        },
        telemetry: config::admin::Telemetry {
            otlp: spec
                .telemetry
                .otlp
                .as_ref()
                .map(|otlp| config::admin::Otlp {
                    endpoint: otlp.endpoint.clone(),
                    protocol: config::admin::OtlpProtocol::Grpc,
                }),
            sampling_percent: percent,
            log: config::admin::Log::default(),
        },
        replicas: spec.replicas.unwrap_or(DEFAULT_REPLICAS),
        pods,
        grace: Duration::from_secs(grace.unsigned_abs()),
        identity,
    })
}

/// # Errors
/// Says what is wrong.
pub(crate) fn rate(rate: &Rate) -> Result<config::delivery::Rate, String> {
    let valid = config::delivery::Rate {
        messages: rate.messages.unsigned_abs(),
        per: config::duration::parse(&rate.per).map_err(|error| format!("per: {error}"))?,
        burst: rate.burst.unsigned_abs(),
    };
    match valid.problem() {
        Some(problem) => Err(problem.to_owned()),
        None => Ok(valid),
    }
}

pub(crate) fn next_hop_tls(tls: NextHopTls) -> config::delivery::NextHopTls {
    match tls {
        NextHopTls::Opportunistic => config::delivery::NextHopTls::Opportunistic,
        NextHopTls::Require => config::delivery::NextHopTls::Require,
    }
}

fn listeners(listeners: &[Listener], problems: &mut Problems) -> Vec<ValidListener> {
    let mut ports: BTreeMap<u16, &str> = BTreeMap::new();
    let mut valid = Vec::new();
    for listener in listeners {
        let field = |name: &str| format!("listeners[{}].{name}", listener.name);
        if listener.name.starts_with("kurier-") {
            problems.add(
                &field("name"),
                "names that begin with kurier- are the pod's own: choose another",
            );
        }
        let Some(port) = u16::try_from(listener.port).ok().filter(|port| *port > 0) else {
            problems.add(&field("port"), "must be from 1 to 65535");
            continue;
        };
        let container_port = container_port(port);
        if let Some(other) = ports.insert(container_port, &listener.name) {
            problems.add(
                &field("port"),
                &format!("needs the same container port ({container_port}) as listener {other}: choose another"),
            );
        }
        let certificate = match (listener.tls.r#type, &listener.tls.secret_ref) {
            (TlsType::SelfIssued, _) => Certificate::SelfIssued,
            (TlsType::SecretRef, Some(secret)) => Certificate::Secret(secret.name.clone()),
            (TlsType::SecretRef, None) => {
                problems.add(&field("tls.secretRef"), "type SecretRef needs it");
                continue;
            }
        };
        valid.push(ValidListener {
            name: listener.name.clone(),
            port,
            container_port,
            role: match listener.role {
                Role::Submission => config::listener::Role::Submission,
                Role::Relay => config::listener::Role::Relay,
            },
            mode: match listener.tls.mode {
                TlsMode::StartTLS => config::listener::TlsMode::StartTLS,
                TlsMode::Implicit => config::listener::TlsMode::Implicit,
            },
            certificate,
            auth: config::listener::Auth {
                required: listener.auth.required,
                mechanisms: listener
                    .auth
                    .mechanisms
                    .iter()
                    .copied()
                    .map(mechanism)
                    .collect(),
            },
            allowed_networks: problems
                .parse_all(&field("allowedNetworks"), &listener.allowed_networks),
        });
    }
    valid
}

fn mechanism(mechanism: Mechanism) -> config::listener::Mechanism {
    match mechanism {
        Mechanism::Plain => config::listener::Mechanism::Plain,
        Mechanism::Login => config::listener::Mechanism::Login,
    }
}

/// An unprivileged port: 25, 465 and 587 become 2025, 2465 and 2587.
fn container_port(port: u16) -> u16 {
    match port {
        0..1024 => port + 2000,
        // The pod's own.
        8025 | 8080 | 8443 => port + 10000,
        _ => port,
    }
}

fn is_reserved(label: &str) -> bool {
    label.starts_with("kurier.dev/") || label.starts_with("app.kubernetes.io/")
}

const DEFAULT_REPLICAS: i32 = 2;

/// An object may be older than the rule of its schema.
fn message_size(written: &str) -> Result<u64, String> {
    let size = config::quantity::parse(written).map_err(|error| error.to_string())?;
    let bounds = config::listener::MESSAGE_SIZE;
    if bounds.contains(&size) {
        Ok(size)
    } else {
        Err("must be from 64Ki to 50Mi".to_owned())
    }
}

#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, field: &str, problem: &str) {
        self.0.push(format!("{field}: {problem}"));
    }

    fn parse<T, E: ToString>(&mut self, field: &str, parsed: Result<T, E>) -> Option<T> {
        parsed
            .map_err(|error| self.add(field, &error.to_string()))
            .ok()
    }

    fn parse_all<T>(&mut self, field: &str, values: &[String]) -> Vec<T>
    where
        T: std::str::FromStr,
        T::Err: ToString,
    {
        values
            .iter()
            .filter_map(|value| self.parse(field, value.parse()))
            .collect()
    }
}

fn durability(
    declared: &api::relay::Durability,
) -> Result<config::queue::Durability, &'static str> {
    use config::queue::Durability as D;
    let replicas = |replicas: Option<api::relay::Replicas>| {
        let acks = replicas.map(|replicas| u8::try_from(replicas.acks));
        match acks {
            Some(Ok(acks @ 1..=10)) => Ok(config::queue::Replicas { acks }),
            _ => Err("needs the member of its type, with acks from 1 to 10"),
        }
    };
    Ok(match declared.r#type {
        DurabilityType::Memory => D::Memory,
        DurabilityType::Fsync => D::Fsync,
        DurabilityType::Replicated => D::Replicated(replicas(declared.replicated)?),
        DurabilityType::FsyncReplicated => D::FsyncReplicated(replicas(declared.fsync_replicated)?),
    })
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
