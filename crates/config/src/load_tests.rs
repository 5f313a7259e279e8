use std::fs;
use std::path::Path;

use super::{ConfigError, Diagnostic, Violation, load, parse};
use crate::attachments::Attachments;
use crate::delivery::NextHopTls;
use crate::manifest::{Digest, Manifest};
use crate::queue::Source;
use crate::relay::RelayConfig;
use crate::route::Action;

const FULL: &str = include_str!("../tests/full.yaml");

const MINIMAL: &str = "\
schema: 1
hostname: mail.example.com
listeners:
- name: submission
  address: 127.0.0.1:2525
  role: Submission
queue:
  source: {type: Embedded, embedded: {path: /var/lib/kurier}}
";

fn diagnostics(text: &str) -> Vec<Diagnostic> {
    match parse(text, Path::new("relay.yaml")) {
        Err(ConfigError::Invalid(found)) => found,
        other => panic!("expected a diagnostic, got {other:?}"),
    }
}

/// Replaces `from` in the minimal document and expects one mistake at `line` in `field`.
fn check(from: &str, to: &str, line: u64, field: &str, message: &str) {
    assert!(MINIMAL.contains(from), "{from}");
    let found = diagnostics(&MINIMAL.replacen(from, to, 1));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].line, found[0].field.as_str()),
        (line, field),
        "{to}: {}",
        found[0]
    );
    assert!(found[0].message.contains(message), "{to}: {}", found[0]);
}

#[test]
fn minimal_gets_defaults() {
    let config = parse(MINIMAL, Path::new("relay.yaml")).unwrap();
    assert_eq!(config.limits.message_size, 25 << 20);
    assert_eq!(config.queue.lifetime.as_secs(), 432_000);
    assert_eq!(config.delivery.tls, NextHopTls::Opportunistic);
    assert_eq!(config.telemetry.sampling_percent.value(), 100);
    assert!(matches!(config.queue.source, Source::Embedded(_)));
    assert!(config.listeners[0].allowed_networks.is_empty());
}

#[test]
fn full_is_read_and_written_back() {
    let config = parse(FULL, Path::new("relay.yaml")).unwrap();
    let Action::Smarthost(smarthost) = &config.routes[0].rules[0].action else {
        panic!("{:?}", config.routes[0])
    };
    assert_eq!(
        (smarthost.host.as_str(), smarthost.port),
        ("smtp.corp.example", 587)
    );
    let written = serde_saphyr::to_string(&config).unwrap();
    assert_eq!(parse(&written, Path::new("again.yaml")).unwrap(), config);
}

#[test]
fn mistakes_name_line_and_field() {
    check("schema: 1", "schema: 2", 1, "schema", "reads 1");
    check(
        "hostname: mail.example.com",
        "hostname: 'a b'",
        2,
        "hostname",
        "not a host name",
    );
    check(
        "role: Submission",
        "role: Submit",
        6,
        "listeners[0].role",
        "Submit",
    );
    check(
        "role: Submission",
        "rule: Submission",
        6,
        "listeners[0].rule",
        "unknown field",
    );
    check(
        "address: 127.0.0.1:2525",
        "address: nowhere",
        5,
        "listeners[0].address",
        "socket address",
    );
    check(
        "role: Submission",
        "role: Submission\n  auth: {required: true}",
        7,
        "listeners[0].auth.required",
        "tls",
    );
    check(
        "role: Submission",
        "role: Submission\n  allowedNetworks:\n  - 10.0.0.0/8\n  - 0.0.0.0/0",
        9,
        "listeners[0].allowedNetworks[1]",
        "open relay",
    );
    check(
        "type: Embedded",
        "type: Redis",
        8,
        "queue.source",
        "type Redis needs",
    );
    check(
        "{type: Embedded, embedded: {path: /var/lib/kurier}}",
        "{type: Redis, redis: {url: 'redis://:p/w@redis'}}",
        8,
        "queue.source.redis.url",
        "%2F",
    );
    check(
        "{type: Embedded, embedded: {path: /var/lib/kurier}}",
        "{type: Redis, redis: {url: 'redis://redis', caFile: /ca.crt}}",
        8,
        "queue.source.redis.caFile",
        "rediss://",
    );
    check("queue:", "queue:\n  id: a{b}", 8, "queue.id", "no braces");
    check(
        "queue:",
        "queue:\n  lifetime: 5 days",
        8,
        "queue.lifetime",
        "not a duration",
    );
    check(
        "queue:",
        "queue:\n  retry: {initial: 5m, max: 1m}",
        8,
        "queue.retry.max",
        "shorter",
    );
    check(
        "queue:",
        "timing: {lease: 10s}\nqueue:",
        7,
        "timing.lease",
        "three times",
    );
    check(
        "queue:",
        "limits: {messageSize: 1Ki}\nqueue:",
        7,
        "limits.messageSize",
        "64Ki",
    );
    check(
        "queue:",
        "limits: {messageSize: 51Mi}\nqueue:",
        7,
        "limits.messageSize",
        "50Mi",
    );
    check(
        "queue:",
        "limits: {recipients: 50001}\nqueue:",
        7,
        "limits.recipients",
        "50000",
    );
    check(
        "queue:",
        "admin: {management: 0.0.0.0:8025}\nqueue:",
        7,
        "admin.management",
        "127.0.0.1",
    );
    check(
        "queue:",
        "telemetry: {samplingPercent: 101}\nqueue:",
        7,
        "telemetry.samplingPercent",
        "0 to 100",
    );
}

#[test]
fn what_is_found_later_gets_its_place_too() {
    let directory = Directory::new();
    directory.write("relay.yaml", MINIMAL);
    let file = directory.0.path().join("relay.yaml");
    let problem = Violation {
        field: "queue.source.embedded.path".to_owned(),
        message: "is full".to_owned(),
    };
    let said = ConfigError::unusable(&file, vec![problem]).to_string();
    let place = format!("{}:8:", file.display());
    assert!(said.starts_with(&place), "{said}");
    assert!(
        said.ends_with("queue.source.embedded.path: is full"),
        "{said}"
    );
}

#[test]
fn several_mistakes_are_told_together() {
    let text = MINIMAL.replace("queue:", "limits: {recipients: 0, connections: 0}\nqueue:");
    let fields: Vec<_> = diagnostics(&text).into_iter().map(|d| d.field).collect();
    assert_eq!(fields, ["limits.recipients", "limits.connections"]);
}

#[test]
fn text_that_is_no_document() {
    for text in ["", "[]", "schema: [", "schema: 1\nschema: 1\n", "&a [*a]"] {
        let found = diagnostics(text);
        assert!(!found[0].message.is_empty(), "{text:?}");
        assert!(
            !found[0].message.contains('\n'),
            "{text:?}: {}",
            found[0].message
        );
    }
}

#[test]
fn errors_do_not_quote_secrets() {
    let text = MINIMAL.replace(
        "{type: Embedded, embedded: {path: /var/lib/kurier}}",
        "{type: Redis, redis: {url: 'redis://:hunter2@host', urlFile: /x, extra: 1}}",
    );
    let found = diagnostics(&text);
    assert!(!found[0].to_string().contains("hunter2"), "{}", found[0]);
}

struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> Digest {
        fs::write(self.0.path().join(name), text).unwrap();
        Digest::of(text.as_bytes())
    }

    fn relay(&self) -> Digest {
        let directory = self.0.path().display();
        self.write(
            "relay.yaml",
            &format!("{MINIMAL}attachments: {{directory: {directory}, manifest: {directory}/manifest.json}}\n"),
        )
    }

    fn shard(&self, name: &str) -> Digest {
        let full: RelayConfig = parse(FULL, Path::new("full")).unwrap();
        let shard = Attachments {
            schema: 1,
            credentials: full.credentials,
            routes: full.routes,
        };
        self.write(
            &format!("shard-{name}.yaml"),
            &serde_saphyr::to_string(&shard).unwrap(),
        )
    }

    fn manifest(&self, config_hash: &Digest, shards: &[(&str, &Digest)]) {
        let shards = shards
            .iter()
            .map(|&(n, d)| (n.to_owned(), d.clone()))
            .collect();
        let manifest = Manifest {
            config_hash: config_hash.clone(),
            shards,
        };
        self.write("manifest.json", &serde_json::to_string(&manifest).unwrap());
    }

    fn load(&self) -> Result<super::Loaded, ConfigError> {
        load(&self.0.path().join("relay.yaml"))
    }
}

#[test]
fn only_a_complete_match_is_loaded() {
    let directory = Directory::new();
    let relay = directory.relay();
    assert!(
        matches!(directory.load(), Err(ConfigError::Read { .. })),
        "no manifest"
    );

    let other = Digest::of(b"other");
    directory.manifest(&other, &[]);
    assert!(
        matches!(directory.load(), Err(ConfigError::Incomplete { .. })),
        "another relay.yaml"
    );

    let shard = directory.shard("07");
    directory.manifest(&relay, &[("07", &other)]);
    assert!(
        matches!(directory.load(), Err(ConfigError::Incomplete { .. })),
        "another shard"
    );

    directory.manifest(&relay, &[("07", &shard), ("08", &shard)]);
    assert!(
        matches!(directory.load(), Err(ConfigError::Incomplete { .. })),
        "absent shard"
    );

    directory.manifest(&relay, &[("07", &shard)]);
    let loaded = directory.load().unwrap();
    assert_eq!((loaded.credentials.len(), loaded.routes.len()), (1, 1));
    assert_eq!(loaded.manifest.config_hash, relay);

    directory.manifest(&relay, &[]);
    assert!(
        directory.load().unwrap().credentials.is_empty(),
        "a shard not named is not read"
    );

    directory.manifest(&relay, &[("16", &shard)]);
    assert!(
        matches!(directory.load(), Err(ConfigError::Invalid(_))),
        "no such shard"
    );
}

#[test]
fn mistakes_in_a_shard_name_its_file() {
    let directory = Directory::new();
    let relay = directory.relay();
    let shard = directory.write(
        "shard-03.yaml",
        "schema: 1\nroutes:\n- name: r\n  rules: []\n",
    );
    directory.manifest(&relay, &[("03", &shard)]);
    let Err(ConfigError::Invalid(found)) = directory.load() else {
        panic!()
    };
    assert!(found[0].file.ends_with("shard-03.yaml"));
    assert_eq!(
        (found[0].line, found[0].field.as_str()),
        (4, "routes[0].rules")
    );
}

#[test]
fn too_long_a_file_is_refused() {
    let directory = Directory::new();
    directory.write("relay.yaml", &"#".repeat((1 << 20) + 1));
    assert!(matches!(directory.load(), Err(ConfigError::TooLong { .. })));
}

#[test]
fn rates_and_limits_of_rules_are_looked_at() {
    let refused = |from: &str, to: &str, field: &str| {
        assert!(FULL.contains(from), "{from}");
        let error = parse(&FULL.replacen(from, to, 1), Path::new("relay.yaml")).unwrap_err();
        assert!(error.to_string().contains(field), "{to}: {error}");
    };
    for rate in [
        "{messages: 0, per: 1s}",
        "{messages: 1, per: 0s}",
        "{messages: 1, per: 25h}",
        "{messages: 1, per: 1s, burst: 1000001}",
    ] {
        refused(
            "rate: {messages: 100, per: 1s, burst: 200}",
            &format!("rate: {rate}"),
            "delivery.rate",
        );
    }
    for limits in ["{concurrency: 0}", "{rate: {messages: 0, per: 1s}}"] {
        refused(
            "limits: {concurrency: 5, rate: {messages: 10, per: 1s, burst: 1}}",
            &format!("limits: {limits}"),
            "routes[0].rules[0].limits",
        );
    }
    refused(
        "action: {type: MX}",
        "action: {type: MX}\n    limits: {concurrency: 5}",
        "routes[0].rules[1].limits",
    );
}
