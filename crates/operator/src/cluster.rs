//! The API server as the operator uses it: every read it needs, and every write behind the Lease.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Secret};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
    Preconditions,
};
use kube::core::PartialObjectMeta;
use kube::runtime::events::{Event, Recorder};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::leader::Leadership;
use crate::metrics::{Metrics, WriteKind, WriteLabels};

pub(crate) struct Cluster {
    client: Client,
    leadership: Leadership,
    recorder: Recorder,
    metrics: Arc<Metrics>,
}

impl Cluster {
    pub(crate) fn new(
        client: Client,
        leadership: Leadership,
        recorder: Recorder,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            client,
            leadership,
            recorder,
            metrics,
        }
    }

    /// Everything of a kind, for watching.
    pub(crate) fn everywhere<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::all(self.client.clone())
    }

    pub(crate) async fn get<K>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<K>, ClusterError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        Ok(self.api::<K>(namespace).get_opt(name).await?)
    }

    /// A cluster-wide object.
    pub(crate) async fn get_global<K>(&self, name: &str) -> Result<Option<K>, ClusterError>
    where
        K: Resource<Scope = k8s_openapi::ClusterResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        Ok(Api::<K>::all(self.client.clone()).get_opt(name).await?)
    }

    pub(crate) async fn list<K>(
        &self,
        namespace: &str,
        labels: &str,
    ) -> Result<Vec<K>, ClusterError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let params = ListParams::default().labels(labels);
        Ok(self.api::<K>(namespace).list(&params).await?.items)
    }

    /// What is there under a child's name, without its content.
    pub(crate) async fn metadata(
        &self,
        namespace: &str,
        resource: &ApiResource,
        name: &str,
    ) -> Result<Option<PartialObjectMeta<DynamicObject>>, ClusterError> {
        Ok(self
            .dynamic(namespace, resource)
            .get_metadata_opt(name)
            .await?)
    }

    pub(crate) async fn apply(
        &self,
        namespace: &str,
        resource: &ApiResource,
        name: &str,
        object: &Value,
    ) -> Result<DynamicObject, ClusterError> {
        self.count(WriteKind::Apply)?;
        let params = PatchParams::apply(api::names::MANAGER).force();
        Ok(self
            .dynamic(namespace, resource)
            .patch(name, &params, &Patch::Apply(object))
            .await?)
    }

    /// Makes a Secret, never touching one that is there.
    pub(crate) async fn create(
        &self,
        namespace: &str,
        secret: &Secret,
    ) -> Result<Created, ClusterError> {
        self.count(WriteKind::Create)?;
        match self
            .api::<Secret>(namespace)
            .create(&PostParams::default(), secret)
            .await
        {
            Ok(_) => Ok(Created::Done),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Created::Exists),
            Err(error) => Err(error.into()),
        }
    }

    /// Brings the content of one of our Secrets up to date, unless it changed since it was read.
    pub(crate) async fn update(
        &self,
        namespace: &str,
        secret: &Secret,
    ) -> Result<(), ClusterError> {
        self.count(WriteKind::Apply)?;
        let patch = json!({
            "metadata": {"resourceVersion": secret.metadata.resource_version},
            "data": secret.data,
        });
        self.api::<Secret>(namespace)
            .patch(
                &secret.name_any(),
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await?;
        Ok(())
    }

    /// Deletes exactly the Secret that was looked at.
    pub(crate) async fn delete(
        &self,
        namespace: &str,
        secret: &Secret,
    ) -> Result<(), ClusterError> {
        self.count(WriteKind::Delete)?;
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: secret.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self
            .api::<Secret>(namespace)
            .delete(&secret.name_any(), &params)
            .await
        {
            Ok(_) => Ok(()),
            // Gone, or another one of that name.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces the whole status.
    pub(crate) async fn write_status<K>(
        &self,
        namespace: &str,
        name: &str,
        status: &impl serde::Serialize,
    ) -> Result<(), ClusterError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        self.count(WriteKind::Status)?;
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": name},
            "status": status,
        });
        let params = PatchParams::apply(api::names::MANAGER).force();
        self.api::<K>(namespace)
            .patch_status(name, &params, &Patch::Apply(patch))
            .await?;
        Ok(())
    }

    /// Changes an annotation of a pod through its status, so that the kubelet looks at its volumes.
    pub(crate) async fn bump(
        &self,
        namespace: &str,
        pod: &str,
        value: &str,
    ) -> Result<(), ClusterError> {
        self.count(WriteKind::Bump)?;
        let annotations = BTreeMap::from([(api::names::CONFIG_BUMP, value)]);
        let patch = json!({"metadata": {"annotations": annotations}});
        self.api::<Pod>(namespace)
            .patch_status(pod, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// An event that cannot be written is only logged: it must not hold up what it tells about.
    pub(crate) async fn publish(&self, event: &Event, about: &ObjectReference) {
        if !self.leadership.is_held() {
            return;
        }
        if let Err(error) = self.recorder.publish(event, about).await {
            tracing::warn!(%error, "an event could not be written");
        }
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn dynamic(&self, namespace: &str, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, resource)
    }

    fn count(&self, write: WriteKind) -> Result<(), ClusterError> {
        if !self.leadership.is_held() {
            return Err(ClusterError::NotLeading);
        }
        self.metrics
            .writes
            .get_or_create(&WriteLabels { write })
            .inc();
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Created {
    Done,
    Exists,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ClusterError {
    #[error("this replica does not hold the Lease")]
    NotLeading,
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
