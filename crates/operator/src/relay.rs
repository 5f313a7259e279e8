//! `MailRelay`: the steps in order, and what is remembered between two rounds.

use std::sync::Arc;
use std::time::Duration;

use api::MailRelay;
use api::condition::ResolvedRefs;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};
use tokio::time::Instant;

use self::attach::attach;
pub(crate) use self::build::BuildError;
use self::build::Input;
use self::dereference::{dereference, label};
use self::material::{Passwords, material};
use self::observe::{Bumps, Expected, observe};
use self::status::{AppliedRelay, Progress, status};
use self::validate::{Identity, validate};
use self::view::view;
pub(crate) use self::view::{Handover, View};
use crate::apply::{Applied, ApplyError, apply};
use crate::context::{Context, Guarded, ReconcileError, jittered};
use crate::metrics::Kind;
use crate::status_client::StatusClient;

mod attach;
mod build;
mod dereference;
mod material;
mod observe;
mod status;
mod validate;
mod view;

#[cfg(test)]
pub(crate) mod fixtures;

/// What is remembered of a relay while this replica leads. Losing it costs a few writes.
#[derive(Default)]
pub(crate) struct Memory {
    applied: Applied,
    bumps: Bumps,
    passwords: Passwords,
    queue_written: Option<Instant>,
    /// What was waited for last, and since when.
    waiting: Option<(String, Instant)>,
}

impl Memory {
    /// When to look again: soon after something moved, then less and less often. Pods that come
    /// and go trigger a round by themselves; only their reports must be asked for.
    fn next_look(&mut self, waiting_for: Option<String>, now: Instant) -> Duration {
        let Some(waiting_for) = waiting_for else {
            self.waiting = None;
            return LATER;
        };
        let since = match &self.waiting {
            Some((before, since)) if *before == waiting_for => *since,
            _ => self.waiting.insert((waiting_for, now)).1,
        };
        match now.saturating_duration_since(since) {
            short if short < Duration::from_secs(20) => SOON,
            longer if longer < Duration::from_secs(120) => SOON * 5,
            _ => LATER,
        }
    }
}

pub(crate) async fn reconcile(
    relay: Arc<Guarded<MailRelay>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    context.look_after(Kind::MailRelay, relay, round).await
}

pub(crate) fn after_error(
    relay: Arc<Guarded<MailRelay>>,
    _: &ReconcileError,
    context: Arc<Context>,
) -> Action {
    context.after_error(&*relay)
}

/// While pods are on their way.
const SOON: Duration = Duration::from_millis(400);
/// While everything is as it should be: how long an outage of the queue may go unnoticed.
const LATER: Duration = Duration::from_secs(8);
const QUEUE_STATUS_EVERY: Duration = Duration::from_secs(60);

async fn round(relay: MailRelay, context: Arc<Context>) -> Result<Action, ReconcileError> {
    if relay.metadata.deletion_timestamp.is_some() {
        // Children go by their owner references.
        return Ok(Action::await_change());
    }
    let identity = Identity {
        namespace: relay.namespace().unwrap_or_default(),
        name: relay.name_any(),
        uid: relay.uid().unwrap_or_default(),
    };
    let memory = context.memory(&identity.uid);
    let mut memory = memory.lock().await;
    let valid = match validate(identity.clone(), &relay.spec) {
        Ok(valid) => valid,
        Err(refusal) => {
            let progress = Progress::Refused(refusal);
            return unserved(&context, &relay, &identity, &progress, &mut memory).await;
        }
    };
    let refs = dereference(&context.cluster, &valid).await?;
    let missing = refs.resolved(&valid);
    if missing != ResolvedRefs::ResolvedRefs {
        let progress = Progress::Unresolved(missing);
        return unserved(&context, &relay, &identity, &progress, &mut memory).await;
    }
    let attached = attach(&valid, refs.credentials.clone(), refs.routes.clone());
    let domain = &context.settings.cluster_domain;
    let now = Timestamp::now();
    let material = material(&valid, &refs, &attached, &mut memory.passwords, domain, now)?;
    let built = build::build(&Input {
        relay: &valid,
        attached: &attached,
        material: &material,
        cluster_uid: &refs.cluster_uid,
        image: &context.settings.relay_image,
        image_pull_policy: &context.settings.relay_image_pull_policy,
    })?;
    let removable: Vec<_> = refs
        .owned
        .iter()
        .filter(|secret| !build::is_config_secret(&identity, &secret.name_any()))
        .cloned()
        .collect();
    let applied = apply(
        &context.cluster,
        &identity.namespace,
        &identity.uid,
        &built.children,
        &removable,
        &mut memory.applied,
    )
    .await;
    if let Err(error @ ApplyError::Foreign { .. }) = applied {
        let progress = Progress::Blocked(error.to_string());
        return unserved(&context, &relay, &identity, &progress, &mut memory).await;
    }
    applied?;

    let client = StatusClient::new(
        &material.status.authority.certificate,
        &material.status.client,
        &identity.uid,
    )?;
    let pods = context
        .cluster
        .list::<Pod>(&identity.namespace, &label(&identity))
        .await?;
    let observation = observe(&pods, &identity.name, &client).await;
    let expected = Expected {
        manifest: &built.manifest,
        certificates: &material.certificates,
    };
    for (pod, value) in memory.bumps.due(&observation, expected, Instant::now()) {
        // The pod may be gone by now; the next round looks again.
        if let Err(error) = context
            .cluster
            .bump(&identity.namespace, &pod, &value)
            .await
        {
            tracing::debug!(pod, %error, "the pod could not be bumped");
        }
    }
    let deployment = context
        .cluster
        .get::<Deployment>(&identity.namespace, &identity.name)
        .await?;
    let progress = Progress::Applied(Box::new(AppliedRelay {
        relay: &valid,
        refs: &refs,
        material: &material,
        manifest: &built.manifest,
        deployment: deployment.as_ref(),
        observation: &observation,
        cluster_domain: domain,
        credentials: attached.credentials.len(),
    }));
    write_status(&context, &relay, &identity, &progress, &mut memory).await?;
    if let Progress::Applied(applied) = &progress {
        let view = view(applied, &attached, &memory.passwords);
        show(&context, &identity, view, &refs);
    }
    let settled = observation.is_settled(expected)
        && observation.staying().count() == usize::try_from(valid.replicas).unwrap_or(0);
    let waiting_for = (!settled).then(|| observation.fingerprint(expected));
    Ok(Action::requeue(jittered(
        memory.next_look(waiting_for, Instant::now()),
    )))
}

/// A relay that cannot be carried out: says so, to its attachments as well, and leaves its children.
async fn unserved(
    context: &Context,
    relay: &MailRelay,
    identity: &Identity,
    progress: &Progress<'_>,
    memory: &mut Memory,
) -> Result<Action, ReconcileError> {
    write_status(context, relay, identity, progress, memory).await?;
    Ok(Action::requeue(jittered(LATER)))
}

async fn write_status(
    context: &Context,
    relay: &MailRelay,
    identity: &Identity,
    progress: &Progress<'_>,
    memory: &mut Memory,
) -> Result<(), ReconcileError> {
    let previous = relay.status.clone().unwrap_or_default();
    let queue_due = memory
        .queue_written
        .is_none_or(|at| at.elapsed() >= QUEUE_STATUS_EVERY);
    let (status, transitions) = status(
        progress,
        identity,
        relay.metadata.generation,
        &previous,
        queue_due,
        Timestamp::now(),
    );
    if status == previous {
        return Ok(());
    }
    if status.queue != previous.queue {
        memory.queue_written = Some(Instant::now());
    }
    context
        .cluster
        .write_status::<MailRelay>(&identity.namespace, &identity.name, &status)
        .await?;
    context.tell(&relay.object_ref(&()), &transitions).await;
    Ok(())
}

/// Publishes the view, and wakes the objects it is about when it says something new.
fn show(context: &Context, identity: &Identity, view: View, refs: &dereference::Refs) {
    if !context.show(&identity.namespace, &identity.name, view) {
        return;
    }
    // The receivers live as long as this replica leads.
    for credential in &refs.credentials {
        let reference = ObjectRef::new(&credential.name_any()).within(&identity.namespace);
        let _ = context.credential_triggers.unbounded_send(reference);
    }
    for route in &refs.routes {
        let reference = ObjectRef::new(&route.name_any()).within(&identity.namespace);
        let _ = context.route_triggers.unbounded_send(reference);
    }
}

/// Whether a Secret is one the relay names.
pub(crate) fn names_secret(relay: &MailRelay, secret: &str) -> bool {
    let queue = relay.spec.queue.redis.as_ref();
    let listeners = relay.spec.listeners.iter();
    queue.is_some_and(|redis| {
        let ca = redis.ca_secret_ref.as_ref();
        redis.url_secret_ref.name == secret || ca.is_some_and(|ca| ca.name == secret)
    }) || listeners
        .filter_map(|listener| listener.tls.secret_ref.as_ref())
        .any(|reference| reference.name == secret)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{LATER, Memory, SOON};

    #[test]
    fn what_does_not_move_is_looked_at_less_often() {
        let mut memory = Memory::default();
        let start = Instant::now();
        let mut look = |waiting: Option<&str>, second: u64| {
            memory.next_look(
                waiting.map(str::to_owned),
                start + Duration::from_secs(second),
            )
        };
        assert_eq!(look(None, 0), LATER);
        assert_eq!(look(Some("a"), 0), SOON);
        assert_eq!(look(Some("a"), 19), SOON);
        assert_eq!(look(Some("a"), 60), SOON * 5);
        assert_eq!(look(Some("a"), 200), LATER);
        assert_eq!(look(Some("b"), 201), SOON, "something moved");
        assert_eq!(look(None, 202), LATER);
    }
}
