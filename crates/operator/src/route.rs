//! `MailRoute`: tells for each of its relays how it stands. The relays themselves carry it.

use std::sync::Arc;
use std::time::Duration;

use api::MailRoute;
use api::condition::{Accepted, Programmed, ResolvedRefs, Verdict, merge};
use api::route::{MailRouteStatus, ParentRef, ParentStatus};
use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};

use crate::context::{Context, Guarded, ReconcileError, is_current, jittered};
use crate::metrics::Kind;

pub(crate) async fn reconcile(
    route: Arc<Guarded<MailRoute>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    context.look_after(Kind::MailRoute, route, round).await
}

pub(crate) fn after_error(
    route: Arc<Guarded<MailRoute>>,
    _: &ReconcileError,
    context: Arc<Context>,
) -> Action {
    context.after_error(&*route)
}

/// Relays tell at once; this is for what nobody tells.
const LATER: Duration = Duration::from_secs(60);

async fn round(route: MailRoute, context: Arc<Context>) -> Result<Action, ReconcileError> {
    if route.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let namespace = route.namespace().unwrap_or_default();
    let previous = route.status.clone().unwrap_or_default();
    let now = Timestamp::now();
    let mut status = MailRouteStatus::default();
    let mut transitions = Vec::new();
    for parent in &route.spec.parent_refs {
        let before = previous
            .parents
            .iter()
            .find(|status| status.parent_ref == *parent);
        if let Some(before) = before
            && is_current(&before.conditions, route.meta())
            && context.has_relay(&namespace, &parent.name)
            && context.view(&namespace, &parent.name).is_none()
        {
            // This replica has just begun to lead. What its predecessor found holds until it knows better.
            status.parents.push(before.clone());
            continue;
        }
        let (accepted, programmed) = standing(&route, &namespace, parent, &context);
        let mut verdicts: Vec<Verdict> = vec![accepted.clone().into()];
        if !matches!(accepted, Accepted::RelayNotFound { .. }) {
            verdicts.push(ResolvedRefs::ResolvedRefs.into());
        }
        verdicts.push(programmed.into());
        let before = before
            .map(|status| status.conditions.as_slice())
            .unwrap_or_default();
        let (conditions, changed) = merge(before, &verdicts, route.metadata.generation, now);
        transitions.extend(changed);
        status.parents.push(ParentStatus {
            parent_ref: parent.clone(),
            conditions,
        });
    }
    if status != previous {
        context
            .cluster
            .write_status::<MailRoute>(&namespace, &route.name_any(), &status)
            .await?;
        context.tell(&route.object_ref(&()), &transitions).await;
    }
    Ok(Action::requeue(jittered(LATER)))
}

fn standing(
    route: &MailRoute,
    namespace: &str,
    parent: &ParentRef,
    context: &Context,
) -> (Accepted, Programmed) {
    let relay = &parent.name;
    if !context.has_relay(namespace, relay) {
        let refusal = Accepted::RelayNotFound {
            relay: relay.clone(),
            namespace: namespace.to_owned(),
        };
        return (refusal, Programmed::Pending("not accepted".to_owned()));
    }
    let view = context.view(namespace, relay);
    let uid = route.uid().unwrap_or_default();
    match view.as_ref().and_then(|view| view.routes.get(&uid)) {
        None => (
            Accepted::Accepted,
            Programmed::Pending(format!(
                "MailRelay {relay} has not taken it up: see its conditions"
            )),
        ),
        Some(attached) if attached.served && attached.generation == route.metadata.generation => {
            (attached.accepted.clone(), Programmed::Programmed)
        }
        Some(attached) => {
            let waiting = if attached.waiting.is_empty() {
                "the relay is taking a change up".to_owned()
            } else {
                attached.waiting.clone()
            };
            (attached.accepted.clone(), Programmed::Pending(waiting))
        }
    }
}
