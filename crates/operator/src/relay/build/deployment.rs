//! Deployment: pods that keep nothing of their own and go away without losing an attempt.

use api::names;
use config::attachments::{shard_file, shard_name};
use config::{Digest, SHARDS};
use serde_json::{Value, json};

use super::{
    Input, config_secret, labels, listener_secret, metadata, selector, shard_secret, status_secret,
};
use crate::apply::{Child, ChildKind};
use crate::relay::validate::Certificate;
use crate::status_client;

/// Where things are in a pod.
pub(super) mod path {
    pub(crate) const ATTACHMENTS: &str = "/etc/kurier/attachments";
    pub(crate) const CONFIG: &str = "/etc/kurier/config";
    pub(crate) const REDIS: &str = "/etc/kurier/redis";
    pub(crate) const REDIS_CA: &str = "/etc/kurier/redis-ca";
    pub(crate) const STATUS_TLS: &str = "/etc/kurier/status-tls";
    pub(crate) const TLS: &str = "/etc/kurier/tls";
    pub(crate) const HEALTH_PORT: u16 = 8080;
    pub(crate) const PRE_STOP_SECONDS: u64 = 5;
}

pub(super) fn build(input: &Input<'_>, fixed_at_start: &Digest) -> Child {
    let relay = input.relay;
    let identity = &relay.identity;
    let mut metadata = metadata(identity, &identity.name);
    metadata["annotations"] = json!({"kurier.dev/schema": config::SCHEMA.to_string()});
    Child {
        kind: ChildKind::Deployment,
        name: identity.name.clone(),
        object: json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": relay.replicas,
                "revisionHistoryLimit": 3,
                "selector": {"matchLabels": selector(identity)},
                // No client attempt may fail because of a roll.
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
                },
                "template": template(input, fixed_at_start),
            },
        }),
    }
}

fn template(input: &Input<'_>, fixed_at_start: &Digest) -> Value {
    let relay = input.relay;
    let pods = &relay.pods;
    let mut pod_labels = pods.labels.clone();
    pod_labels.extend(labels(&relay.identity));
    let mut annotations = pods.annotations.clone();
    annotations.insert(
        names::QUEUE_ADDRESS.to_owned(),
        input.material.queue_address.clone(),
    );
    let fixed = fixed_at_start.as_str()[..16].to_owned();
    annotations.insert(names::FIXED_AT_START.to_owned(), fixed);
    let spread = if pods.topology_spread_constraints.is_empty() {
        json!([{
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector(&relay.identity)},
        }])
    } else {
        json!(pods.topology_spread_constraints)
    };
    let mut spec = json!({
        "serviceAccountName": relay.identity.name,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": relay.grace.as_secs(),
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": spread,
        "containers": [container(input)],
        "volumes": volumes(input),
    });
    for (field, value, is_set) in [
        (
            "nodeSelector",
            json!(pods.node_selector),
            !pods.node_selector.is_empty(),
        ),
        ("affinity", json!(pods.affinity), pods.affinity.is_some()),
        (
            "tolerations",
            json!(pods.tolerations),
            !pods.tolerations.is_empty(),
        ),
        (
            "priorityClassName",
            json!(pods.priority_class_name),
            pods.priority_class_name.is_some(),
        ),
        (
            "imagePullSecrets",
            json!(pods.image_pull_secrets),
            !pods.image_pull_secrets.is_empty(),
        ),
    ] {
        if is_set {
            spec[field] = value;
        }
    }
    json!({"metadata": {"labels": pod_labels, "annotations": annotations}, "spec": spec})
}

fn container(input: &Input<'_>) -> Value {
    let relay = input.relay;
    let mut ports: Vec<Value> = relay
        .listeners
        .iter()
        .map(|listener| json!({"name": listener.name, "containerPort": listener.container_port, "protocol": "TCP"}))
        .collect();
    ports.push(
        json!({"name": "kurier-health", "containerPort": path::HEALTH_PORT, "protocol": "TCP"}),
    );
    ports.push(
        json!({"name": "kurier-status", "containerPort": status_client::PORT, "protocol": "TCP"}),
    );
    let mut mounts = vec![
        mount("config", path::CONFIG),
        mount("attachments", path::ATTACHMENTS),
        mount("redis", path::REDIS),
        mount("status-tls", path::STATUS_TLS),
    ];
    if relay.queue.ca.is_some() {
        mounts.push(mount("redis-ca", path::REDIS_CA));
    }
    mounts.extend(relay.listeners.iter().map(|l| {
        mount(
            &format!("tls-{}", l.name),
            &format!("{}/{}", path::TLS, l.name),
        )
    }));
    let resources = relay.pods.resources.as_ref().map_or_else(
        || json!({"requests": {"cpu": "100m", "memory": "128Mi"}}),
        |resources| json!(resources),
    );
    json!({
        "name": "relay",
        "image": input.image,
        "imagePullPolicy": input.image_pull_policy,
        "args": ["relay", "--config", format!("{}/relay.yaml", path::CONFIG)],
        "env": [
            downward("POD_NAME", "metadata.name"),
            downward("POD_NAMESPACE", "metadata.namespace"),
            downward("POD_UID", "metadata.uid"),
        ],
        "ports": ports,
        "volumeMounts": mounts,
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": path::HEALTH_PORT},
            "periodSeconds": 2,
            "timeoutSeconds": 2,
            "failureThreshold": 2,
        },
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": path::HEALTH_PORT},
            "initialDelaySeconds": 5,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        // Endpoints forget the pod while it still accepts.
        "lifecycle": {"preStop": {"sleep": {"seconds": path::PRE_STOP_SECONDS}}},
    })
}

/// Every volume is a Secret, mounted whole by name: a subPath would never be updated.
fn volumes(input: &Input<'_>) -> Vec<Value> {
    let relay = input.relay;
    let identity = &relay.identity;
    let shards: Vec<Value> = (0..SHARDS)
        .map(shard_name)
        .map(|shard| {
            let file = shard_file(&shard);
            json!({"secret": {
                "name": shard_secret(identity, &shard),
                "optional": true,
                "items": [{"key": file, "path": file}],
            }})
        })
        .collect();
    let mut volumes = vec![
        json!({"name": "config", "secret": {"secretName": config_secret(identity), "defaultMode": READABLE}}),
        json!({"name": "attachments", "projected": {"sources": shards, "defaultMode": READABLE}}),
        json!({"name": "redis", "secret": {
            "secretName": relay.queue.url.name,
            "items": [{"key": relay.queue.url.key, "path": "url"}],
            "defaultMode": READABLE,
        }}),
        // Not the authority's key, and not the operator's pair.
        json!({"name": "status-tls", "secret": {
            "secretName": status_secret(identity),
            "items": [
                {"key": "ca.crt", "path": "ca.crt"},
                {"key": "tls.crt", "path": "tls.crt"},
                {"key": "tls.key", "path": "tls.key"},
            ],
            "defaultMode": READABLE,
        }}),
    ];
    if let Some(ca) = &relay.queue.ca {
        volumes.push(json!({"name": "redis-ca", "secret": {
            "secretName": ca.name,
            "items": [{"key": ca.key, "path": "ca.crt"}],
            "defaultMode": READABLE,
        }}));
    }
    volumes.extend(relay.listeners.iter().map(|listener| {
        let secret = match &listener.certificate {
            Certificate::SelfIssued => listener_secret(identity),
            Certificate::Secret(name) => name.clone(),
        };
        json!({"name": format!("tls-{}", listener.name), "secret": {
            "secretName": secret,
            "items": [{"key": "tls.crt", "path": "tls.crt"}, {"key": "tls.key", "path": "tls.key"}],
            "defaultMode": READABLE,
        }})
    }));
    volumes
}

/// 0440: for the pod's group.
const READABLE: i32 = 0o440;

fn mount(name: &str, path: &str) -> Value {
    json!({"name": name, "mountPath": path, "readOnly": true})
}

fn downward(name: &str, field: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}})
}
