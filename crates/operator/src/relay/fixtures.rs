//! Inputs for tests of the pure steps.

use std::collections::BTreeMap;

use config::Manifest;
use config::status::{Counts, Durability, Reachability, Status};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use super::dereference::Refs;
use super::observe::Observed;
use super::validate::{Identity, ValidRelay, validate};

pub(crate) fn identity() -> Identity {
    Identity {
        namespace: "mail".to_owned(),
        name: "outbound".to_owned(),
        uid: "6c0e2f6e-5f0f-4d0a-9f2b-1f6f0a3f7a11".to_owned(),
    }
}

/// A relay with one listener of each kind.
pub(crate) fn relay() -> ValidRelay {
    let spec = json!({
        "hostname": "mail.example.com",
        "listeners": [
            {"name": "submission", "port": 587},
            {"name": "smtps", "port": 465,
             "tls": {"mode": "Implicit", "type": "SecretRef", "secretRef": {"name": "mail-tls"}}},
            {"name": "smtp", "port": 25, "role": "Relay", "auth": {"required": false},
             "allowedNetworks": ["10.0.0.0/8"]},
        ],
        "tenants": [{"name": "mail", "senderDomains": ["example.com", "*.example.com"]}],
        "queue": {"redis": {"urlSecretRef": {"name": "redis"}}},
        "replicas": 3,
        "telemetry": {"otlp": {"endpoint": "http://otel-collector.mail:4317"}},
        "pods": {"labels": {"team": "mail"}, "nodeSelector": {"kubernetes.io/os": "linux"}},
    });
    validate(identity(), &serde_json::from_value(spec).unwrap()).unwrap()
}

pub(crate) fn secret(name: &str, data: &[(&str, &str)]) -> Secret {
    let mut secret: Secret = serde_json::from_value(
        json!({"metadata": {"name": name, "namespace": "mail", "uid": name}}),
    )
    .unwrap();
    let data = data
        .iter()
        .map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec())));
    secret.data = Some(data.collect());
    secret
}

/// Everything that [`relay`] refers to.
pub(crate) fn refs() -> Refs {
    let tls = secret(
        "mail-tls",
        &[("tls.crt", "certificate"), ("tls.key", "key")],
    );
    Refs {
        cluster_uid: "0a0a".to_owned(),
        queue_url: Some(secret("redis", &[("url", "redis://redis:6379")])),
        queue_ca: None,
        certificates: BTreeMap::from([("mail-tls".to_owned(), Some(tls))]),
        owned: Vec::new(),
        credentials: Vec::new(),
        credential_secrets: Vec::new(),
        routes: Vec::new(),
    }
}

/// A pod that is ready and was not asked.
pub(crate) fn pod(name: &str) -> Observed {
    Observed {
        name: name.to_owned(),
        uid: name.to_owned(),
        ready: true,
        address: Some("10.0.0.1".parse().unwrap()),
        ..Observed::default()
    }
}

/// What a healthy pod that serves `manifest` reports.
pub(crate) fn report(pod: &str, manifest: &Manifest) -> Status {
    Status {
        pod_uid: pod.to_owned(),
        schema: config::SCHEMA,
        version: "0.0.0".to_owned(),
        config_hash: Some(manifest.config_hash.clone()),
        config_rejected: None,
        attachments: manifest.shards.clone(),
        certificates: None,
        durability: Durability::Fsync,
        redis: Reachability {
            reachable: true,
            since: Timestamp::UNIX_EPOCH,
            error: None,
        },
        counts: Some(Counts {
            ready: 1234,
            deferred: 99,
            in_flight: 7,
        }),
        oldest_ready_time: None,
    }
}
