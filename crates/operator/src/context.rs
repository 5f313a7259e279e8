//! What all controllers share.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::condition::{ConditionType, Truth, Verdict};
use api::{MailCredential, MailRelay, MailRoute};
use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt as _};
use tokio::time::Instant;

use crate::apply::ApplyError;
use crate::backoff::Backoff;
use crate::certificate::CertificateError;
use crate::cluster::{Cluster, ClusterError};
use crate::metrics::{Kind, KindLabels, Metrics, Outcome, ReconcileLabels};
use crate::password::random;
use crate::relay::{Memory, View};
use crate::settings::Settings;
use crate::status_client::StatusClientError;

/// An object as it is watched: one that cannot be read is an object all the same.
pub(crate) type Guarded<K> = DeserializeGuard<K>;

pub(crate) struct Context {
    pub(crate) cluster: Cluster,
    pub(crate) settings: Settings,
    pub(crate) metrics: Arc<Metrics>,
    stores: Stores,
    pub(crate) credential_triggers: UnboundedSender<ObjectRef<Guarded<MailCredential>>>,
    pub(crate) route_triggers: UnboundedSender<ObjectRef<Guarded<MailRoute>>>,
    backoff: Backoff,
    memories: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Memory>>>>,
    views: Mutex<HashMap<(String, String), Arc<View>>>,
}

/// The objects there are, as they were seen last.
pub(crate) struct Stores {
    pub(crate) relays: Store<Guarded<MailRelay>>,
    pub(crate) credentials: Store<Guarded<MailCredential>>,
    pub(crate) routes: Store<Guarded<MailRoute>>,
}

impl Context {
    pub(crate) fn new(
        cluster: Cluster,
        settings: Settings,
        metrics: Arc<Metrics>,
        stores: Stores,
        credential_triggers: UnboundedSender<ObjectRef<Guarded<MailCredential>>>,
        route_triggers: UnboundedSender<ObjectRef<Guarded<MailRoute>>>,
    ) -> Self {
        Self {
            cluster,
            settings,
            metrics,
            stores,
            credential_triggers,
            route_triggers,
            backoff: Backoff::default(),
            memories: Mutex::default(),
            views: Mutex::default(),
        }
    }

    /// What is remembered of a relay.
    pub(crate) fn memory(&self, uid: &str) -> Arc<tokio::sync::Mutex<Memory>> {
        lock(&self.memories)
            .entry(uid.to_owned())
            .or_default()
            .clone()
    }

    /// Forgets the objects that are gone, for as long as it is polled. A deletion alone brings no round
    /// in which it could be done, and what is remembered includes passwords.
    pub(crate) async fn keep_forgetting(&self) {
        loop {
            tokio::time::sleep(FORGET_EVERY).await;
            self.forget_the_gone();
        }
    }

    fn forget_the_gone(&self) {
        let mut living = HashSet::new();
        living.extend(uids(&self.stores.relays));
        living.extend(uids(&self.stores.credentials));
        living.extend(uids(&self.stores.routes));
        lock(&self.memories).retain(|uid, _| living.contains(uid));
        lock(&self.views).retain(|_, view| living.contains(&view.relay_uid));
        self.backoff.retain(|uid| living.contains(uid));
    }

    /// What a relay made of the objects attached to it; `None` until it has looked at them.
    pub(crate) fn view(&self, namespace: &str, relay: &str) -> Option<Arc<View>> {
        let reference = ObjectRef::new(relay).within(namespace);
        let uid = self.stores.relays.get(&reference)?.uid()?;
        let key = (namespace.to_owned(), relay.to_owned());
        lock(&self.views)
            .get(&key)
            .filter(|view| view.relay_uid == uid)
            .cloned()
    }

    /// Whether the relay exists.
    pub(crate) fn has_relay(&self, namespace: &str, relay: &str) -> bool {
        self.stores
            .relays
            .get(&ObjectRef::new(relay).within(namespace))
            .is_some()
    }

    /// Publishes what a relay made of its attachments; true when it is something new.
    pub(crate) fn show(&self, namespace: &str, relay: &str, view: View) -> bool {
        let key = (namespace.to_owned(), relay.to_owned());
        let view = Arc::new(view);
        lock(&self.views)
            .insert(key, view.clone())
            .is_none_or(|before| *before != *view)
    }

    /// Tells each transition as an event.
    pub(crate) async fn tell(&self, about: &ObjectReference, transitions: &[Verdict]) {
        for verdict in transitions {
            let event = Event {
                type_: if verdict.truth == Truth::False {
                    EventType::Warning
                } else {
                    EventType::Normal
                },
                reason: verdict.reason.to_owned(),
                note: Some(verdict.message.chars().take(1000).collect()),
                action: verdict.r#type.to_string(),
                secondary: None,
            };
            self.cluster.publish(&event, about).await;
        }
    }

    /// Runs one reconciliation: unreadable objects are passed over, outcomes are counted.
    pub(crate) async fn look_after<K, F>(
        self: Arc<Self>,
        kind: Kind,
        object: Arc<Guarded<K>>,
        reconcile: impl FnOnce(K, Arc<Self>) -> F,
    ) -> Result<Action, ReconcileError>
    where
        K: Resource<DynamicType = ()> + Clone,
        F: Future<Output = Result<Action, ReconcileError>>,
    {
        let started = Instant::now();
        let name = format!(
            "{}/{}",
            object.namespace().unwrap_or_default(),
            object.name_any()
        );
        let (result, outcome) = match &object.0 {
            Err(invalid) => {
                tracing::warn!(
                    ?kind,
                    name,
                    error = invalid.error,
                    "the object cannot be read"
                );
                (Ok(Action::await_change()), Outcome::Unreadable)
            }
            Ok(readable) => match reconcile(readable.clone(), self.clone()).await {
                Ok(action) => {
                    self.backoff.succeeded(&object.uid().unwrap_or_default());
                    (Ok(action), Outcome::Done)
                }
                Err(error) => {
                    tracing::warn!(?kind, name, %error, "the object could not be looked after");
                    (Err(error), Outcome::Failed)
                }
            },
        };
        self.metrics
            .reconciles
            .get_or_create(&ReconcileLabels { kind, outcome })
            .inc();
        let labels = KindLabels { kind };
        self.metrics
            .seconds
            .get_or_create(&labels)
            .observe(started.elapsed().as_secs_f64());
        result
    }

    /// How to go on after an error.
    pub(crate) fn after_error<K: Resource<DynamicType = ()>>(&self, object: &K) -> Action {
        let uid = object.uid().unwrap_or_default();
        Action::requeue(self.backoff.failed(&uid, random::<1>()[0]))
    }
}

/// Whether a status says of this very generation that it is accepted.
pub(crate) fn is_current(conditions: &[Condition], metadata: &ObjectMeta) -> bool {
    conditions.iter().any(|condition| {
        condition.type_ == ConditionType::Accepted.to_string()
            && condition.status == Truth::True.as_str()
            && condition.observed_generation == metadata.generation
    })
}

/// Up to a quarter more, so that objects do not come in step.
pub(crate) fn jittered(duration: Duration) -> Duration {
    duration + duration * u32::from(random::<1>()[0]) / 1024
}

fn uids<K>(store: &Store<Guarded<K>>) -> impl Iterator<Item = String>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.state().into_iter().filter_map(|object| object.uid())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const FORGET_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ReconcileError {
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Build(#[from] crate::relay::BuildError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("the status client cannot be made: {0}")]
    StatusClient(#[from] StatusClientError),
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
