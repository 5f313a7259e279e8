//! Everything a relay's spec refers to, and everything that refers to the relay.

use std::collections::BTreeMap;

use api::condition::ResolvedRefs;
use api::names;
use api::{MailCredential, MailRoute};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::ResourceExt as _;
use kube::core::DeserializeGuard;

use super::validate::{Certificate, Identity, ValidRelay};
use crate::cluster::{Cluster, ClusterError};

/// What was found. No `Debug`: it holds secrets.
pub(crate) struct Refs {
    /// UID of the namespace `kube-system`, which stands for the cluster.
    pub(crate) cluster_uid: String,
    pub(crate) queue_url: Option<Secret>,
    /// TLS Secrets by name.
    pub(crate) certificates: BTreeMap<String, Option<Secret>>,
    /// Secrets with the relay's label.
    pub(crate) owned: Vec<Secret>,
    pub(crate) credentials: Vec<MailCredential>,
    /// Secrets made for credentials of the namespace.
    pub(crate) credential_secrets: Vec<Secret>,
    pub(crate) routes: Vec<MailRoute>,
}

pub(crate) async fn dereference(
    cluster: &Cluster,
    relay: &ValidRelay,
) -> Result<Refs, ClusterError> {
    let namespace = relay.identity.namespace.as_str();
    let cluster_uid = cluster
        .get_global::<Namespace>("kube-system")
        .await?
        .and_then(|namespace| namespace.uid())
        .unwrap_or_default();
    let mut certificates = BTreeMap::new();
    for listener in &relay.listeners {
        if let Certificate::Secret(name) = &listener.certificate
            && !certificates.contains_key(name)
        {
            certificates.insert(name.clone(), cluster.get::<Secret>(namespace, name).await?);
        }
    }
    Ok(Refs {
        cluster_uid,
        queue_url: cluster.get(namespace, &relay.queue.url.name).await?,
        certificates,
        owned: cluster.list(namespace, &label(&relay.identity)).await?,
        credentials: readable(cluster.list(namespace, "").await?)
            .filter(|credential: &MailCredential| refers(credential, &relay.identity))
            .collect(),
        credential_secrets: cluster.list(namespace, names::CREDENTIAL_UID).await?,
        routes: readable(cluster.list(namespace, "").await?)
            .filter(|route: &MailRoute| {
                route
                    .spec
                    .parent_refs
                    .iter()
                    .any(|parent| parent.name == relay.identity.name)
            })
            .collect(),
    })
}

/// The label that all children of a relay bear.
pub(crate) fn label(relay: &Identity) -> String {
    format!("{}={}", names::RELAY_UID, relay.uid)
}

/// Whether `credential` is meant for `relay`.
pub(crate) fn refers(credential: &MailCredential, relay: &Identity) -> bool {
    let reference = &credential.spec.relay_ref;
    let own = credential.namespace().unwrap_or_default();
    reference.name == relay.name
        && reference.namespace.as_deref().unwrap_or(&own) == relay.namespace
        && own == relay.namespace
}

impl Refs {
    /// The first reference that leads nowhere, in the order of the spec.
    pub(crate) fn resolved(&self, relay: &ValidRelay) -> ResolvedRefs {
        let namespace = &relay.identity.namespace;
        for listener in &relay.listeners {
            let Certificate::Secret(name) = &listener.certificate else {
                continue;
            };
            let field = format!("listeners[{}].tls.secretRef", listener.name);
            let Some(secret) = self.certificates.get(name).and_then(Option::as_ref) else {
                return ResolvedRefs::SecretNotFound {
                    field,
                    namespace: namespace.clone(),
                    name: name.clone(),
                };
            };
            for key in ["tls.crt", "tls.key"] {
                if value(secret, key).is_none_or(<[u8]>::is_empty) {
                    return ResolvedRefs::KeyMissing {
                        field,
                        namespace: namespace.clone(),
                        name: name.clone(),
                        key: key.to_owned(),
                    };
                }
            }
        }
        let reference = &relay.queue.url;
        let field = "queue.redis.urlSecretRef".to_owned();
        let (namespace, name) = (namespace.clone(), reference.name.clone());
        match &self.queue_url {
            None => ResolvedRefs::SecretNotFound {
                field,
                namespace,
                name,
            },
            Some(secret) if value(secret, &reference.key).is_none_or(<[u8]>::is_empty) => {
                ResolvedRefs::KeyMissing {
                    field,
                    namespace,
                    name,
                    key: reference.key.clone(),
                }
            }
            Some(_) => ResolvedRefs::ResolvedRefs,
        }
    }
}

/// The content of one key.
pub(crate) fn value<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    secret
        .data
        .as_ref()?
        .get(key)
        .map(|bytes| bytes.0.as_slice())
}

/// The content of one key as text.
pub(crate) fn text<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    value(secret, key).and_then(|octets| std::str::from_utf8(octets).ok())
}

/// An object that cannot be read stops nobody else's.
fn readable<K>(objects: Vec<DeserializeGuard<K>>) -> impl Iterator<Item = K> {
    objects.into_iter().filter_map(|guard| match guard.0 {
        Ok(object) => Some(object),
        Err(invalid) => {
            let name = invalid.metadata.name.clone().unwrap_or_default();
            tracing::warn!(
                name,
                error = invalid.error,
                "an attached object cannot be read"
            );
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use api::condition::ResolvedRefs;
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Secret;

    use super::{Refs, ValidRelay};
    use crate::relay::fixtures;

    fn secret(keys: &[&str]) -> Secret {
        let data = keys
            .iter()
            .map(|key| ((*key).to_owned(), ByteString(b"x".to_vec())))
            .collect();
        Secret {
            data: Some(data),
            ..Secret::default()
        }
    }

    fn resolved(change: impl FnOnce(&mut Refs)) -> ResolvedRefs {
        let relay: ValidRelay = fixtures::relay();
        let mut refs = fixtures::refs();
        change(&mut refs);
        refs.resolved(&relay)
    }

    #[test]
    fn the_missing_one_is_named() {
        assert_eq!(resolved(|_| ()), ResolvedRefs::ResolvedRefs);
        assert_eq!(
            resolved(|refs| refs.queue_url = None),
            ResolvedRefs::SecretNotFound {
                field: "queue.redis.urlSecretRef".to_owned(),
                namespace: "mail".to_owned(),
                name: "redis".to_owned(),
            }
        );
        assert_eq!(
            resolved(|refs| refs.queue_url = Some(secret(&["address"]))),
            ResolvedRefs::KeyMissing {
                field: "queue.redis.urlSecretRef".to_owned(),
                namespace: "mail".to_owned(),
                name: "redis".to_owned(),
                key: "url".to_owned(),
            }
        );
        assert_eq!(
            resolved(|refs| {
                refs.certificates
                    .insert("mail-tls".to_owned(), Some(secret(&["tls.crt"])));
            }),
            ResolvedRefs::KeyMissing {
                field: "listeners[smtps].tls.secretRef".to_owned(),
                namespace: "mail".to_owned(),
                name: "mail-tls".to_owned(),
                key: "tls.key".to_owned(),
            }
        );
        assert!(matches!(
            resolved(|refs| {
                refs.certificates.clear();
            }),
            ResolvedRefs::SecretNotFound { name, .. } if name == "mail-tls"
        ));
    }
}
