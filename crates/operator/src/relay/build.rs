//! The children of a relay. Pure: equal input gives equal children.

use std::collections::BTreeMap;

use api::names;
use config::Manifest;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::attach::Attached;
use super::material::Material;
use super::validate::{Identity, ValidRelay};
use crate::apply::{Child, ChildKind};

mod account;
mod configuration;
mod deployment;
mod disruption;
mod secrets;
mod service;

pub(crate) struct Input<'a> {
    pub(crate) relay: &'a ValidRelay,
    pub(crate) attached: &'a Attached,
    pub(crate) material: &'a Material,
    pub(crate) cluster_uid: &'a str,
    pub(crate) image: &'a str,
    pub(crate) image_pull_policy: &'a str,
}

/// All children in the order in which they are applied, and what pods must report to serve them.
pub(crate) struct Built {
    pub(crate) children: Vec<Child>,
    pub(crate) manifest: Manifest,
}

/// # Errors
/// When a document cannot be written as text, which no valid input causes.
pub(crate) fn build(input: &Input<'_>) -> Result<Built, BuildError> {
    let configuration = configuration::build(input)?;
    let mut children = vec![account::build(input)];
    children.extend(secrets::build(input));
    // Shards stand before the manifest that names them, so a pod that reads early sees it match sooner.
    children.extend(configuration.children);
    children.push(service::build(input));
    children.push(disruption::build(input));
    children.push(deployment::build(input, &configuration.fixed_at_start));
    Ok(Built {
        children,
        manifest: configuration.manifest,
    })
}

#[derive(Debug, thiserror::Error)]
#[error("a document cannot be written: {0}")]
pub(crate) struct BuildError(#[from] serde_saphyr::SerializeError);

/// Holds `relay.yaml` and the manifest. Its name carries the format, so that pods of an older
/// version keep theirs until they are replaced.
pub(crate) fn config_secret(relay: &Identity) -> String {
    format!("{}-config-{}", relay.name, config::SCHEMA)
}

/// Whether the Secret holds the configuration in any format: pods of another version may need it,
/// so it goes with the relay and not before.
pub(crate) fn is_config_secret(relay: &Identity, secret: &str) -> bool {
    secret
        .strip_prefix(&relay.name)
        .and_then(|rest| rest.strip_prefix("-config-"))
        .is_some_and(|schema| !schema.is_empty() && schema.bytes().all(|b| b.is_ascii_digit()))
}

pub(crate) fn shard_secret(relay: &Identity, shard: &str) -> String {
    format!("{}-shard-{shard}", relay.name)
}

/// The status listeners' authority and pairs.
pub(crate) fn status_secret(relay: &Identity) -> String {
    format!("{}-status-tls", relay.name)
}

/// The authority of self-issued certificates; no pod mounts it.
pub(crate) fn authority_secret(relay: &Identity) -> String {
    format!("{}-ca", relay.name)
}

/// The self-issued certificate of the listeners.
pub(crate) fn listener_secret(relay: &Identity) -> String {
    format!("{}-tls", relay.name)
}

/// Selects a relay's pods. It is the Deployment's selector, so it never changes.
pub(crate) fn selector(relay: &Identity) -> BTreeMap<String, String> {
    BTreeMap::from([
        (names::RELAY_UID.to_owned(), relay.uid.clone()),
        (
            names::COMPONENT.to_owned(),
            names::RELAY_COMPONENT.to_owned(),
        ),
    ])
}

fn labels(relay: &Identity) -> BTreeMap<String, String> {
    let mut labels = selector(relay);
    labels.insert(names::NAME.to_owned(), "kurier".to_owned());
    labels.insert(names::INSTANCE.to_owned(), relay.name.clone());
    labels.insert(names::MANAGED_BY.to_owned(), names::MANAGER.to_owned());
    labels
}

fn metadata(relay: &Identity, name: &str) -> Value {
    json!({
        "name": name,
        "namespace": relay.namespace,
        "labels": labels(relay),
        "ownerReferences": [{
            "apiVersion": "kurier.dev/v1alpha1",
            "kind": "MailRelay",
            "name": relay.name,
            "uid": relay.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        }],
    })
}

fn secret(relay: &Identity, name: String, r#type: &str, data: &[(&str, &str)]) -> Child {
    let data = data
        .iter()
        .map(|(key, text)| {
            (
                (*key).to_owned(),
                k8s_openapi::ByteString(text.as_bytes().to_vec()),
            )
        })
        .collect();
    // Typed, because it is what writes octets as base64.
    let content = Secret {
        data: Some(data),
        type_: Some(r#type.to_owned()),
        ..Secret::default()
    };
    let mut object = serde_json::to_value(content).expect("a Secret is JSON");
    object["metadata"] = metadata(relay, &name);
    Child {
        kind: ChildKind::Secret,
        name,
        object,
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
