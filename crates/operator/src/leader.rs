//! Which replica writes: whoever holds the Lease (coordination.k8s.io/v1).
//!
//! Acquiring and renewing are replacements at a known `resourceVersion`, so of two candidates one
//! wins. Nobody's clock is compared with another's: a candidate counts from when *it* saw the Lease
//! change last, the holder from when it *sent* the last renewal that succeeded. Since
//! `renew < duration` ([`LeaseTiming`]), the holder has stopped before anybody else starts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::settings::LeaseTiming;

/// Whether this replica may write right now.
#[derive(Clone, Default)]
pub(crate) struct Leadership(Arc<Mutex<Option<Instant>>>);

impl Leadership {
    /// Until when the Lease is ours.
    pub(crate) fn is_held(&self) -> bool {
        self.lock()
            .is_some_and(|deadline| Instant::now() < deadline)
    }

    pub(crate) fn hold_until(&self, deadline: Instant) {
        *self.lock() = Some(deadline);
    }

    fn let_go(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one object the election needs.
pub(crate) trait LeaseStore: Send + Sync {
    fn read(&self) -> impl Future<Output = Result<Option<Lease>, kube::Error>> + Send;
    fn create(&self, lease: &Lease) -> impl Future<Output = Result<Lease, kube::Error>> + Send;
    /// Fails when `lease.metadata.resourceVersion` is not the stored one.
    fn replace(&self, lease: &Lease) -> impl Future<Output = Result<Lease, kube::Error>> + Send;
}

/// The Lease in the cluster.
pub(crate) struct StoredLease {
    pub(crate) api: Api<Lease>,
    pub(crate) name: String,
}

impl LeaseStore for StoredLease {
    async fn read(&self) -> Result<Option<Lease>, kube::Error> {
        self.api.get_opt(&self.name).await
    }

    async fn create(&self, lease: &Lease) -> Result<Lease, kube::Error> {
        self.api.create(&PostParams::default(), lease).await
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, kube::Error> {
        self.api
            .replace(&self.name, &PostParams::default(), lease)
            .await
    }
}

/// Takes part until `stop`, then gives the Lease up so that another replica takes over at once.
/// `leading` says whether it is held; `leadership` is the same with its deadline.
pub(crate) struct Election<S> {
    pub(crate) store: S,
    pub(crate) name: String,
    pub(crate) identity: String,
    pub(crate) timing: LeaseTiming,
    pub(crate) leadership: Leadership,
    pub(crate) leading: watch::Sender<bool>,
}

impl<S: LeaseStore> Election<S> {
    /// `released` is awaited between stopping and giving up: until then there may still be writers.
    pub(crate) async fn run(&self, stop: CancellationToken, released: impl Future<Output = ()>) {
        let mut seen: Option<(String, Instant)> = None;
        let mut held: Option<(Lease, Instant)> = None;
        while !stop.is_cancelled() {
            let sent = Instant::now();
            let attempt = timeout(self.timing.retry, self.attempt(&mut seen, held.take()));
            match attempt.await {
                Ok(Ok(Some(lease))) => {
                    self.leadership.hold_until(sent + self.timing.renew);
                    held = Some((lease, sent));
                    if self
                        .leading
                        .send_if_modified(|leading| !std::mem::replace(leading, true))
                    {
                        tracing::info!(identity = self.identity, "leading");
                    }
                }
                Ok(Ok(None)) => self.step_down(),
                Ok(Err(error)) => tracing::warn!(%error, "the Lease cannot be renewed"),
                Err(_) => tracing::warn!("the Lease cannot be renewed: no answer"),
            }
            if !self.leadership.is_held() {
                self.step_down();
            }
            tokio::select! {
                () = sleep(self.timing.retry) => {}
                () = stop.cancelled() => {}
            }
        }
        self.leading.send_replace(false);
        released.await;
        if self.leadership.is_held() {
            self.release().await;
        }
        self.leadership.let_go();
    }

    fn step_down(&self) {
        self.leadership.let_go();
        if self
            .leading
            .send_if_modified(|leading| std::mem::replace(leading, false))
        {
            tracing::warn!(identity = self.identity, "no longer leading");
        }
    }

    /// One try to acquire or renew: the Lease as it is when it is ours now.
    async fn attempt(
        &self,
        seen: &mut Option<(String, Instant)>,
        held: Option<(Lease, Instant)>,
    ) -> Result<Option<Lease>, kube::Error> {
        // The usual case without a read: what we wrote last is still there.
        if let Some((lease, _)) = held
            && let Ok(renewed) = self.store.replace(&self.renewed(&lease)).await
        {
            return Ok(Some(renewed));
        }
        let Some(lease) = self.store.read().await? else {
            let new = self.renewed(&Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: None,
            });
            return taken(self.store.create(&new).await);
        };
        let version = lease.resource_version().unwrap_or_default();
        if seen.as_ref().is_none_or(|(last, _)| *last != version) {
            *seen = Some((version, Instant::now()));
        }
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        let runs = Duration::from_secs(
            spec.lease_duration_seconds
                .unwrap_or(0)
                .max(0)
                .unsigned_abs()
                .into(),
        );
        let unchanged_since = seen.as_ref().map_or_else(Instant::now, |(_, at)| *at);
        let free = holder.is_empty() || unchanged_since.elapsed() >= runs.max(self.timing.duration);
        if holder != self.identity && !free {
            return Ok(None);
        }
        taken(self.store.replace(&self.renewed(&lease)).await)
    }

    /// `lease` with us as its holder from now on.
    fn renewed(&self, lease: &Lease) -> Lease {
        let mut lease = lease.clone();
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        let now = MicroTime(Timestamp::now());
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
            spec.acquire_time = Some(now.clone());
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds =
            Some(i32::try_from(self.timing.duration.as_secs()).unwrap_or(i32::MAX));
        spec.renew_time = Some(now);
        lease
    }

    async fn release(&self) {
        let release = async {
            let Some(mut lease) = self.store.read().await? else {
                return Ok(());
            };
            let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
            if spec.holder_identity.as_deref() == Some(&self.identity) {
                spec.holder_identity = None;
                spec.lease_duration_seconds = Some(1);
                self.store.replace(&lease).await?;
            }
            Ok::<(), kube::Error>(())
        };
        match timeout(self.timing.retry, release).await {
            Ok(Ok(())) => tracing::info!("gave the Lease up"),
            Ok(Err(error)) => tracing::warn!(%error, "the Lease could not be given up"),
            Err(_) => tracing::warn!("the Lease could not be given up: no answer"),
        }
    }
}

/// A conflict means that another candidate was faster, which is no error.
fn taken(result: Result<Lease, kube::Error>) -> Result<Option<Lease>, kube::Error> {
    match result {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[path = "leader_tests.rs"]
mod tests;
