//! Rules over several fields, which a field's own type cannot hold.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::attachments::Attachments;
use crate::credential::Credential;
use crate::listener::MESSAGE_SIZE;
use crate::queue::{Durability, Source};
use crate::redis_url::RedisUrl;
use crate::relay::{RelayConfig, SCHEMA};
use crate::route::Route;

/// A broken rule: the field and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Path of the field, as `listeners[0].address`.
    pub field: String,
    pub message: String,
}

pub(crate) fn relay(config: &RelayConfig) -> Vec<Violation> {
    let mut found = Found::default();
    found.schema(config.schema);
    listeners(config, &mut found);
    found.name("defaultTenant", &config.default_tenant);
    found.unique(
        "tenants",
        "name",
        config.tenants.iter().map(|t| t.name.as_str()),
    );
    for (index, tenant) in config.tenants.iter().enumerate() {
        if !(1..=1000).contains(&tenant.weight) {
            found.add(format!("tenants[{index}].weight"), "must be from 1 to 1000");
        }
    }
    queue(config, &mut found);
    limits(config, &mut found);
    if let Some(address) = config.admin.management
        && !address.ip().is_loopback()
    {
        found.add(
            "admin.management",
            "the management API asks nobody who they are: bind it to 127.0.0.1",
        );
    }
    if let Some(otlp) = &config.telemetry.otlp
        && !otlp.endpoint.starts_with("http://")
    {
        found.add("telemetry.otlp.endpoint", "write it as http://HOST:PORT");
    }
    if config.drain.deadline <= config.drain.accept_for {
        found.add("drain.deadline", "must be longer than drain.acceptFor");
    }
    if config.attachments.is_some() && !(config.credentials.is_empty() && config.routes.is_empty())
    {
        found.add(
            "attachments",
            "with attachment files, `credentials` and `routes` stand in those files only",
        );
    }
    attached(&config.credentials, &config.routes, &mut found);
    found.0
}

pub(crate) fn shard(attachments: &Attachments) -> Vec<Violation> {
    let mut found = Found::default();
    found.schema(attachments.schema);
    attached(&attachments.credentials, &attachments.routes, &mut found);
    found.0
}

fn listeners(config: &RelayConfig, found: &mut Found) {
    found.count("listeners", config.listeners.len(), 1, 16);
    found.unique(
        "listeners",
        "name",
        config.listeners.iter().map(|l| l.name.as_str()),
    );
    let mut addresses = BTreeSet::new();
    for (at, listener) in config.listeners.iter().enumerate() {
        let field = |name: &str| format!("listeners[{at}].{name}");
        // Port 0 asks the system for a free one, any number of times.
        if listener.address.port() != 0 && !addresses.insert(listener.address) {
            found.add(
                field("address"),
                "another listener has this address already",
            );
        }
        // RFC 4954 §4: PLAIN and LOGIN are not offered in clear, so AUTH could never succeed.
        if listener.auth.required && listener.tls.is_none() {
            found.add(
                field("auth.required"),
                "needs `tls`: a password is never taken in clear",
            );
        }
        if listener.auth.required && listener.auth.mechanisms.is_empty() {
            found.add(
                field("auth.mechanisms"),
                "name at least one, or set `required: false`",
            );
        }
        found.count(
            &field("allowedNetworks"),
            listener.allowed_networks.len(),
            0,
            64,
        );
        for (n, network) in listener.allowed_networks.iter().enumerate() {
            if network.is_too_wide() {
                found.add(
                    field(&format!("allowedNetworks[{n}]")),
                    "is so wide that this would be an open relay: at least /8 (IPv4) or /19 (IPv6)",
                );
            }
        }
    }
}

fn queue(config: &RelayConfig, found: &mut Found) {
    let queue = &config.queue;
    found.name("queue.id", &queue.id);
    // It stands in braces in each key of the store.
    if queue.id.len() > 200 || queue.id.contains(['{', '}']) {
        found.add("queue.id", "must have at most 200 characters and no braces");
    }
    if let Source::Redis(redis) = &queue.source
        && let Some(url) = &redis.url
    {
        match RedisUrl::parse(url.expose()) {
            Err(error) => found.add("queue.source.redis.url", error.to_string()),
            Ok(url) if redis.ca_file.is_some() && !url.tls => found.add(
                "queue.source.redis.caFile",
                "is of no use without TLS: write the URL with rediss://",
            ),
            Ok(_) => {}
        }
    }
    if matches!(queue.source, Source::Embedded(_)) && queue.durability != Durability::Fsync {
        found.add(
            "queue.durability",
            "of an embedded queue is Fsync: it has no other",
        );
    }
    if queue.owner.is_empty() || queue.owner.len() > 512 {
        found.add("queue.owner", "must have 1 to 512 characters");
    }
    if queue.lifetime < Duration::from_secs(1) || queue.lifetime > Duration::from_secs(30 * 86400) {
        found.add("queue.lifetime", "must be from 1s to 720h");
    }
    if queue
        .delay_notice
        .is_some_and(|after| after >= queue.lifetime)
    {
        found.add(
            "queue.delayNotice",
            "must be shorter than queue.lifetime, which ends with a notification of its own",
        );
    }
    if queue.retry.initial.is_zero() {
        found.add("queue.retry.initial", "must not be zero");
    }
    if queue.retry.max < queue.retry.initial {
        found.add(
            "queue.retry.max",
            "must not be shorter than queue.retry.initial",
        );
    }
    let timing = &config.timing;
    if timing.beat.is_zero() || timing.beat * 3 > timing.lease {
        found.add("timing.lease", "must be at least three times timing.beat");
    }
    if timing.claim < timing.lease {
        found.add("timing.claim", "must not be shorter than timing.lease");
    }
    if timing.begun < timing.claim {
        found.add("timing.begun", "must not be shorter than timing.claim");
    }
    if timing.safety_wake.is_zero() {
        found.add("timing.safetyWake", "must not be zero");
    }
}

fn limits(config: &RelayConfig, found: &mut Found) {
    let limits = &config.limits;
    for (field, value) in [
        ("limits.recipients", limits.recipients),
        ("limits.connections", limits.connections),
        ("limits.connectionsPerClient", limits.connections_per_client),
        (
            "delivery.concurrencyPerDestination",
            config.delivery.concurrency_per_destination,
        ),
        (
            "delivery.messagesPerConnection",
            config.delivery.messages_per_connection,
        ),
    ] {
        if value == 0 {
            found.add(field, "must not be zero");
        }
    }
    if let Some(problem) = config
        .delivery
        .rate
        .as_ref()
        .and_then(|rate| rate.problem())
    {
        found.add("delivery.rate", problem);
    }
    if limits.recipients > MAX_RECIPIENTS {
        found.add(
            "limits.recipients",
            format!("must not be more than {MAX_RECIPIENTS}"),
        );
    }
    if !MESSAGE_SIZE.contains(&limits.message_size) {
        found.add("limits.messageSize", "must be from 64Ki to 50Mi");
    }
}

fn attached(credentials: &[Credential], routes: &[Route], found: &mut Found) {
    found.count("credentials", credentials.len(), 0, 10_000);
    found.unique(
        "credentials",
        "username",
        credentials.iter().map(|c| c.username.as_str()),
    );
    for (at, credential) in credentials.iter().enumerate() {
        found.name(&format!("credentials[{at}].username"), &credential.username);
        found.name(&format!("credentials[{at}].tenant"), &credential.tenant);
        // RFC 7677 §4: at least 4096.
        if !(4096..=1_000_000).contains(&credential.scram_sha256.iterations.get()) {
            found.add(
                format!("credentials[{at}].scramSha256.iterations"),
                "must be from 4096 to 1000000",
            );
        }
    }
    found.count("routes", routes.len(), 0, 1000);
    found.unique("routes", "name", routes.iter().map(|r| r.name.as_str()));
    for (at, route) in routes.iter().enumerate() {
        let rules = format!("routes[{at}].rules");
        found.name(&format!("routes[{at}].name"), &route.name);
        found.count(&rules, route.rules.len(), 1, 64);
        found.unique(&rules, "name", route.rules.iter().map(|r| r.name.as_str()));
        for (n, rule) in route.rules.iter().enumerate() {
            found.name(&format!("{rules}[{n}].name"), &rule.name);
            if let Some(problem) = rule
                .limits
                .as_ref()
                .and_then(|limits| limits.problem(&rule.action))
            {
                found.add(format!("{rules}[{n}].limits"), problem);
            }
        }
    }
}

#[derive(Default)]
struct Found(Vec<Violation>);

impl Found {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Violation {
            field: field.into(),
            message: message.into(),
        });
    }

    fn schema(&mut self, schema: u32) {
        if schema != SCHEMA {
            self.add("schema", format!("is {schema}, but this program reads {SCHEMA}: use a program and a document of one version"));
        }
    }

    fn count(&mut self, field: &str, found: usize, min: usize, max: usize) {
        if !(min..=max).contains(&found) {
            self.add(field, format!("has {found} entries: write {min} to {max}"));
        }
    }

    /// A word that goes into keys, logs and trace fields.
    fn name(&mut self, field: &str, value: &str) {
        if value.is_empty()
            || value.len() > 255
            || value.contains(|c: char| c.is_control() || c == ' ')
        {
            self.add(
                field,
                "must have 1 to 255 characters and no space or control character",
            );
        }
    }

    fn unique<'a>(&mut self, list: &str, key: &str, values: impl Iterator<Item = &'a str>) {
        let mut seen = BTreeSet::new();
        for (at, value) in values.enumerate() {
            if !seen.insert(value) {
                self.add(
                    format!("{list}[{at}].{key}"),
                    format!("`{value}` is there twice"),
                );
            }
        }
    }
}

/// Of one message: those of one domain are numbered in 16 bits, and all are in one record.
const MAX_RECIPIENTS: u32 = 50_000;
