//! Writes children, and removes what is no longer built.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt as _;
use kube::api::ApiResource;
use serde_json::Value;

use crate::cluster::{Cluster, ClusterError};

/// One object that belongs to a relay. No `Debug`: some hold secrets.
#[derive(Clone, PartialEq)]
pub(crate) struct Child {
    pub(crate) kind: ChildKind,
    pub(crate) name: String,
    /// Everything the operator has a say in, with `apiVersion`, `kind` and `metadata`.
    pub(crate) object: Value,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum ChildKind {
    ServiceAccount,
    Secret,
    Service,
    PodDisruptionBudget,
    Deployment,
}

impl ChildKind {
    pub(crate) fn resource(self) -> ApiResource {
        match self {
            Self::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
            Self::Secret => ApiResource::erase::<Secret>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
        }
    }
}

/// What was applied last, so that nothing is written that is there already.
#[derive(Default)]
pub(crate) struct Applied(HashMap<(ChildKind, String), (u64, String)>);

impl Applied {
    /// Whether `child` was applied as it is and nobody changed it since.
    fn is_current(&self, child: &Child, live: Option<&ObjectMeta>) -> bool {
        live.is_some_and(|live| {
            self.0.get(&(child.kind, child.name.clone())) == Some(&(digest(child), version(live)))
        })
    }

    fn remember(&mut self, child: &Child, live: &ObjectMeta) {
        self.0.insert(
            (child.kind, child.name.clone()),
            (digest(child), version(live)),
        );
    }
}

/// Applies `children` in their order, then deletes the Secrets of `existing` that are not among them.
///
/// # Errors
/// [`ApplyError::Foreign`] before anything is written when a name is taken by somebody else.
pub(crate) async fn apply(
    cluster: &Cluster,
    namespace: &str,
    owner_uid: &str,
    children: &[Child],
    existing: &[Secret],
    applied: &mut Applied,
) -> Result<(), ApplyError> {
    let mut live = Vec::with_capacity(children.len());
    for child in children {
        let found = cluster
            .metadata(namespace, &child.kind.resource(), &child.name)
            .await?;
        if found
            .as_ref()
            .is_some_and(|found| !is_owned(&found.metadata, owner_uid))
        {
            return Err(ApplyError::Foreign {
                kind: child.kind,
                name: child.name.clone(),
            });
        }
        live.push(found);
    }
    for (child, live) in children.iter().zip(&live) {
        if applied.is_current(child, live.as_ref().map(|live| &live.metadata)) {
            continue;
        }
        let resource = child.kind.resource();
        let written = cluster
            .apply(namespace, &resource, &child.name, &child.object)
            .await?;
        applied.remember(child, &written.metadata);
    }
    for secret in orphans(existing, children, owner_uid) {
        cluster.delete(namespace, secret).await?;
    }
    Ok(())
}

/// Secrets that bear our label and owner but are not built any more.
fn orphans<'a>(
    existing: &'a [Secret],
    children: &'a [Child],
    owner_uid: &'a str,
) -> impl Iterator<Item = &'a Secret> {
    existing.iter().filter(move |secret| {
        is_owned(&secret.metadata, owner_uid)
            && !children
                .iter()
                .any(|child| child.kind == ChildKind::Secret && child.name == secret.name_any())
    })
}

/// Whether the object's controller is the one with `uid`.
pub(crate) fn is_owned(metadata: &ObjectMeta, uid: &str) -> bool {
    controller(metadata).is_some_and(|owner| owner.uid == uid)
}

/// The owner that controls the object.
pub(crate) fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata
        .owner_references
        .as_ref()?
        .iter()
        .find(|owner| owner.controller == Some(true))
}

/// Where there is a generation it moves with the spec alone; else any change moves the version.
fn version(metadata: &ObjectMeta) -> String {
    let version = match metadata.generation {
        Some(generation) => generation.to_string(),
        None => metadata.resource_version.clone().unwrap_or_default(),
    };
    format!("{}/{version}", metadata.uid.as_deref().unwrap_or_default())
}

fn digest(child: &Child) -> u64 {
    let mut hasher = DefaultHasher::new();
    child.object.to_string().hash(&mut hasher);
    hasher.finish()
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ApplyError {
    #[error(
        "{kind:?} {name} exists and belongs to somebody else: delete it, or give the MailRelay another name"
    )]
    Foreign { kind: ChildKind, name: String },
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use kube::ResourceExt as _;
    use serde_json::json;

    use super::{Applied, Child, ChildKind, orphans};

    fn secret(name: &str, owner: &str, version: &str) -> Secret {
        serde_json::from_value(json!({"metadata": {
            "name": name, "uid": name, "resourceVersion": version,
            "ownerReferences": [{"apiVersion": "v", "kind": "k", "name": "n", "uid": owner, "controller": true}],
        }}))
        .unwrap()
    }

    fn child(name: &str, data: &str) -> Child {
        Child {
            kind: ChildKind::Secret,
            name: name.to_owned(),
            object: json!({"data": data}),
        }
    }

    #[test]
    fn only_our_own_orphans_go() {
        let existing = [
            secret("kept", "us", "1"),
            secret("left", "us", "1"),
            secret("theirs", "them", "1"),
        ];
        let children = [child("kept", "")];
        let gone: Vec<_> = orphans(&existing, &children, "us")
            .map(|s| s.name_any())
            .collect();
        assert_eq!(gone, ["left"]);
    }

    #[test]
    fn what_is_there_already_is_not_written() {
        let mut applied = Applied::default();
        let live = secret("a", "us", "7").metadata;
        assert!(
            !applied.is_current(&child("a", "x"), Some(&live)),
            "never applied"
        );
        applied.remember(&child("a", "x"), &live);
        assert!(applied.is_current(&child("a", "x"), Some(&live)));
        assert!(
            !applied.is_current(&child("a", "y"), Some(&live)),
            "built differently"
        );
        assert!(!applied.is_current(&child("a", "x"), None), "deleted");
        let edited = secret("a", "us", "8").metadata;
        assert!(
            !applied.is_current(&child("a", "x"), Some(&edited)),
            "edited by somebody"
        );
    }
}
