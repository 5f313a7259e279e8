//! Everything a relay's spec refers to, and everything that refers to the relay.

use std::collections::BTreeMap;

use api::condition::ResolvedRefs;
use api::names;
use api::{MailCredential, MailRoute};
use config::RedisUrl;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::ResourceExt as _;
use kube::core::DeserializeGuard;

use super::validate::{Certificate, Identity, ValidRelay};
use crate::certificate::describe;
use crate::cluster::{Cluster, ClusterError};

/// What was found. No `Debug`: it holds secrets.
pub(crate) struct Refs {
    /// UID of the namespace `kube-system`, which stands for the cluster.
    pub(crate) cluster_uid: String,
    pub(crate) queue_url: Option<Secret>,
    pub(crate) queue_ca: Option<Secret>,
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
    let queue_ca = match &relay.queue.ca {
        Some(ca) => cluster.get(namespace, &ca.name).await?,
        None => None,
    };
    Ok(Refs {
        cluster_uid,
        queue_ca,
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
            let secret = self.certificates.get(name).and_then(Option::as_ref);
            for key in ["tls.crt", "tls.key"] {
                let reference = Reference::new(&field, namespace, name, key);
                if let Err(unresolved) = reference.value(secret) {
                    return unresolved;
                }
            }
        }
        match self.queue(relay) {
            Ok(()) => ResolvedRefs::ResolvedRefs,
            Err(unresolved) => unresolved,
        }
    }

    fn queue(&self, relay: &ValidRelay) -> Result<(), ResolvedRefs> {
        let namespace = &relay.identity.namespace;
        let url = &relay.queue.url;
        let url = Reference::new("queue.redis.urlSecretRef", namespace, &url.name, &url.key);
        // What is no text is no address either.
        let address = String::from_utf8_lossy(url.value(self.queue_url.as_ref())?);
        let address = RedisUrl::parse(&address).map_err(|error| url.invalid(&error.to_string()))?;
        let Some(ca) = &relay.queue.ca else {
            return Ok(());
        };
        let ca = Reference::new("queue.redis.caSecretRef", namespace, &ca.name, &ca.key);
        let certificates = String::from_utf8_lossy(ca.value(self.queue_ca.as_ref())?);
        if describe(&certificates).is_err() {
            return Err(ca.invalid("holds no certificate in PEM: put the authority's there"));
        }
        if !address.tls {
            return Err(url.invalid(
                "begins with redis://, so nobody would be asked for a certificate of \
                 queue.redis.caSecretRef: write rediss://, or leave caSecretRef out",
            ));
        }
        Ok(())
    }
}

/// One key of a Secret, and the field that names it.
struct Reference<'a> {
    field: &'a str,
    namespace: &'a str,
    name: &'a str,
    key: &'a str,
}

impl<'a> Reference<'a> {
    fn new(field: &'a str, namespace: &'a str, name: &'a str, key: &'a str) -> Self {
        Self {
            field,
            namespace,
            name,
            key,
        }
    }

    /// What stands there; `secret` is what was found under the name.
    fn value<'s>(&self, secret: Option<&'s Secret>) -> Result<&'s [u8], ResolvedRefs> {
        let (field, namespace) = (self.field.to_owned(), self.namespace.to_owned());
        let name = self.name.to_owned();
        let Some(secret) = secret else {
            return Err(ResolvedRefs::SecretNotFound {
                field,
                namespace,
                name,
            });
        };
        value(secret, self.key)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| ResolvedRefs::KeyMissing {
                field,
                namespace,
                name,
                key: self.key.to_owned(),
            })
    }

    fn invalid(&self, problem: &str) -> ResolvedRefs {
        ResolvedRefs::InvalidSecret {
            field: self.field.to_owned(),
            namespace: self.namespace.to_owned(),
            name: self.name.to_owned(),
            key: self.key.to_owned(),
            problem: problem.to_owned(),
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
    use api::condition::{ResolvedRefs, Verdict};
    use api::relay::CaSecretRef;
    use jiff::Timestamp;
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Secret;

    use super::{Refs, ValidRelay};
    use crate::certificate::Authority;
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

    /// What the condition says of a relay whose Redis has this URL, and this Secret with its authority.
    fn said(url: &str, ca: Option<&[(&str, &str)]>) -> Verdict {
        let mut relay = fixtures::relay();
        let mut refs = fixtures::refs();
        refs.queue_url = Some(fixtures::secret("redis", &[("url", url)]));
        relay.queue.ca = Some(CaSecretRef {
            name: "redis-ca".to_owned(),
            key: "ca.crt".to_owned(),
        });
        refs.queue_ca = ca.map(|data| fixtures::secret("redis-ca", data));
        refs.resolved(&relay).into()
    }

    #[test]
    fn an_address_that_is_none_is_named_and_not_quoted() {
        for url in [
            "redis:6379",
            "redis://:hunter2/x@redis",
            "http://:hunter2@redis",
        ] {
            let Verdict {
                reason, message, ..
            } = said(url, None);
            assert_eq!(reason, "InvalidSecret", "{message}");
            for part in [
                "key `url`",
                "Secret mail/redis",
                "urlSecretRef",
                "rediss://",
            ] {
                assert!(message.contains(part), "{part}: {message}");
            }
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn the_authority_of_redis_is_looked_at() {
        let pem = Authority::generate("redis", Timestamp::UNIX_EPOCH).unwrap();
        let (secure, pem) = ("rediss://:hunter2@redis", pem.certificate.as_str());
        let check = |url, ca: Option<&[(&str, &str)]>, expected, part: &str| {
            let Verdict {
                reason, message, ..
            } = said(url, ca);
            assert_eq!(reason, expected, "{message}");
            assert!(message.contains(part), "{part}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        };
        check(secure, Some(&[("ca.crt", pem)]), "ResolvedRefs", "");
        check(secure, None, "SecretNotFound", "caSecretRef");
        check(secure, Some(&[("ca.pem", pem)]), "KeyMissing", "`ca.crt`");
        check(secure, Some(&[("ca.crt", "x")]), "InvalidSecret", "PEM");
        let in_clear = "redis://:hunter2@redis";
        check(
            in_clear,
            Some(&[("ca.crt", pem)]),
            "InvalidSecret",
            "write rediss://",
        );
    }
}
