//! Which objects a change of another object concerns.

use api::{MailCredential, MailRelay, MailRoute, names};
use futures::StreamExt as _;
use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};

use crate::apply::controller;
use crate::context::Guarded;
use crate::relay::names_secret;

/// A credential concerns the relay it names, if that is in its own namespace.
pub(crate) fn credential_to_relay(
    credential: Guarded<MailCredential>,
) -> Option<ObjectRef<Guarded<MailRelay>>> {
    let namespace = credential.namespace()?;
    let reference = credential.0.ok()?.spec.relay_ref;
    let same = reference.namespace.is_none_or(|named| named == namespace);
    same.then(|| ObjectRef::new(&reference.name).within(&namespace))
}

pub(crate) fn route_to_relays(route: Guarded<MailRoute>) -> Vec<ObjectRef<Guarded<MailRelay>>> {
    let namespace = route.namespace().unwrap_or_default();
    let parents = route
        .0
        .map(|route| route.spec.parent_refs)
        .unwrap_or_default();
    parents
        .iter()
        .map(|parent| ObjectRef::new(&parent.name).within(&namespace))
        .collect()
}

pub(crate) fn pod_to_relay(pod: Pod) -> Option<ObjectRef<Guarded<MailRelay>>> {
    let relay = pod.labels().get(names::INSTANCE)?;
    Some(ObjectRef::new(relay).within(&pod.namespace()?))
}

/// Credentials of a relay, so that one which names a relay that is made or deleted hears of it.
pub(crate) fn relay_to_credentials(
    relay: &Guarded<MailRelay>,
    credentials: &Store<Guarded<MailCredential>>,
) -> Vec<ObjectRef<Guarded<MailCredential>>> {
    let (name, namespace) = (relay.name_any(), relay.namespace());
    credentials
        .state_filter(|credential| {
            let names_it = credential
                .0
                .as_ref()
                .is_ok_and(|c| c.spec.relay_ref.name == name);
            names_it && credential.namespace() == namespace
        })
        .iter()
        .map(|credential| ObjectRef::from_obj(&**credential))
        .collect()
}

pub(crate) fn relay_to_routes(
    relay: &Guarded<MailRelay>,
    routes: &Store<Guarded<MailRoute>>,
) -> Vec<ObjectRef<Guarded<MailRoute>>> {
    let (name, namespace) = (relay.name_any(), relay.namespace());
    routes
        .state_filter(|route| {
            let parents = route
                .0
                .as_ref()
                .map(|route| route.spec.parent_refs.as_slice());
            let names_it = parents
                .unwrap_or_default()
                .iter()
                .any(|parent| parent.name == name);
            names_it && route.namespace() == namespace
        })
        .iter()
        .map(|route| ObjectRef::from_obj(&**route))
        .collect()
}

/// Follows the metadata of Secrets and triggers whom they concern. Their content is never watched.
pub(crate) async fn secrets(
    api: Api<PartialObjectMeta<Secret>>,
    relays: Store<Guarded<MailRelay>>,
    relay_triggers: UnboundedSender<ObjectRef<Guarded<MailRelay>>>,
    credential_triggers: UnboundedSender<ObjectRef<Guarded<MailCredential>>>,
) {
    let changes = watcher(api, watcher::Config::default())
        .default_backoff()
        .touched_objects();
    let mut changes = std::pin::pin!(changes);
    while let Some(change) = changes.next().await {
        let secret: PartialObjectMeta<Secret> = match change {
            Ok(secret) => secret,
            Err(error) => {
                tracing::debug!(%error, "the watch of Secrets was interrupted");
                continue;
            }
        };
        let concerned = relays
            .state()
            .into_iter()
            .filter_map(|relay| relay.0.clone().ok());
        let (of_relays, of_credentials) = concerns(&secret.metadata, concerned);
        // The receivers live as long as this task.
        for relay in of_relays {
            let _ = relay_triggers.unbounded_send(relay);
        }
        for credential in of_credentials {
            let _ = credential_triggers.unbounded_send(credential);
        }
    }
}

type Concerned = (
    Vec<ObjectRef<Guarded<MailRelay>>>,
    Vec<ObjectRef<Guarded<MailCredential>>>,
);

fn concerns(secret: &ObjectMeta, relays: impl Iterator<Item = MailRelay>) -> Concerned {
    let namespace = secret.namespace.clone().unwrap_or_default();
    let name = secret.name.clone().unwrap_or_default();
    let mut of_relays: Vec<_> = relays
        .filter(|relay| {
            relay.namespace().as_ref() == Some(&namespace) && names_secret(relay, &name)
        })
        .map(|relay| ObjectRef::new(&relay.name_any()).within(&namespace))
        .collect();
    let mut of_credentials = Vec::new();
    match controller(secret) {
        Some(owner) if owner.kind == "MailRelay" => {
            of_relays.push(ObjectRef::new(&owner.name).within(&namespace));
        }
        Some(owner) if owner.kind == "MailCredential" => {
            of_credentials.push(ObjectRef::new(&owner.name).within(&namespace));
            // The relay makes a new password when this one is gone.
            let relay = secret
                .labels
                .as_ref()
                .and_then(|labels| labels.get(names::INSTANCE));
            of_relays.extend(relay.map(|relay| ObjectRef::new(relay).within(&namespace)));
        }
        _ => {}
    }
    (of_relays, of_credentials)
}

#[cfg(test)]
mod tests {
    use api::MailRelay;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use serde_json::{Value, json};

    use super::{concerns, credential_to_relay};

    fn relay() -> MailRelay {
        serde_json::from_value(json!({
            "apiVersion": "kurier.dev/v1alpha1", "kind": "MailRelay",
            "metadata": {"name": "outbound", "namespace": "mail"},
            "spec": {
                "hostname": "mail.example.com",
                "listeners": [{"name": "a", "port": 587, "tls": {"type": "SecretRef", "secretRef": {"name": "mail-tls"}}}],
                "queue": {"redis": {"urlSecretRef": {"name": "redis"}}},
            },
        }))
        .unwrap()
    }

    fn check(metadata: Value, relays: &[&str], credentials: &[&str]) {
        let metadata: ObjectMeta = serde_json::from_value(metadata).unwrap();
        let (of_relays, of_credentials) = concerns(&metadata, [relay()].into_iter());
        let names: Vec<_> = of_relays.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, relays, "{metadata:?}");
        let names: Vec<_> = of_credentials.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, credentials, "{metadata:?}");
    }

    #[test]
    fn secrets() {
        check(
            json!({"name": "redis", "namespace": "mail"}),
            &["outbound"],
            &[],
        );
        check(
            json!({"name": "mail-tls", "namespace": "mail"}),
            &["outbound"],
            &[],
        );
        check(json!({"name": "redis", "namespace": "other"}), &[], &[]);
        check(json!({"name": "unrelated", "namespace": "mail"}), &[], &[]);
        let owned = |kind: &str| {
            json!({"name": "x", "namespace": "mail", "labels": {"app.kubernetes.io/instance": "outbound"},
                "ownerReferences": [{"apiVersion": "v", "kind": kind, "name": "n", "uid": "u", "controller": true}]})
        };
        check(owned("MailRelay"), &["n"], &[]);
        check(owned("MailCredential"), &["outbound"], &["n"]);
        check(owned("Deployment"), &[], &[]);
    }

    #[test]
    fn a_credential_of_another_namespace_concerns_no_relay() {
        let of = |namespace: Value| {
            serde_json::from_value(json!({
                "apiVersion": "kurier.dev/v1alpha1", "kind": "MailCredential",
                "metadata": {"name": "c", "namespace": "mail"},
                "spec": {"relayRef": {"name": "outbound", "namespace": namespace}, "authentication": []},
            }))
            .unwrap()
        };
        assert!(credential_to_relay(of(json!("mail"))).is_some());
        assert!(credential_to_relay(of(json!(null))).is_some());
        assert!(credential_to_relay(of(json!("other"))).is_none());
        // An object that cannot be read concerns nobody, and stops nothing.
        let broken = json!({"metadata": {"name": "c", "namespace": "mail"}, "spec": 5});
        assert!(credential_to_relay(serde_json::from_value(broken).unwrap()).is_none());
    }
}
