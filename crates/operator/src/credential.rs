//! `MailCredential`: hands a password over once every ready pod takes it, and tells how it stands.

use std::sync::Arc;
use std::time::Duration;

use api::MailCredential;
use api::condition::{Accepted, Programmed, Verdict, merge, ready};
use api::credential::MailCredentialStatus;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};

use self::secret::{build, content};
use crate::apply::is_owned;
use crate::cluster::Created;
use crate::context::{Context, Guarded, ReconcileError, is_current, jittered};
use crate::metrics::Kind;
use crate::relay::Handover;

mod secret;

pub(crate) async fn reconcile(
    credential: Arc<Guarded<MailCredential>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    context
        .look_after(Kind::MailCredential, credential, round)
        .await
}

pub(crate) fn after_error(
    credential: Arc<Guarded<MailCredential>>,
    _: &ReconcileError,
    context: Arc<Context>,
) -> Action {
    context.after_error(&*credential)
}

/// Relays tell at once; this is for what nobody tells.
const LATER: Duration = Duration::from_secs(60);

async fn round(
    credential: MailCredential,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    if credential.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let Some(standing) = standing(&credential, &context) else {
        // This replica has just begun to lead. What its predecessor found holds until it knows better.
        return Ok(Action::requeue(jittered(LATER)));
    };
    let (accepted, programmed, secret_name) = match standing.handover {
        Some(handover) => match hand_over(&credential, &context, &handover).await? {
            Handed::Done(name) => (standing.accepted, Programmed::Programmed, Some(name)),
            Handed::Conflict(secret) => (
                Accepted::SecretConflict { secret },
                Programmed::Pending("no password is handed over".to_owned()),
                None,
            ),
            Handed::NotYet => (
                standing.accepted,
                Programmed::Pending("the relay is making a new password".to_owned()),
                None,
            ),
        },
        None => {
            // What was handed over stays in use while the relay is on its way to something new.
            let before = credential
                .status
                .as_ref()
                .and_then(|status| status.secret_name.clone());
            (
                standing.accepted,
                Programmed::Pending(standing.waiting),
                before,
            )
        }
    };
    let mut verdicts: Vec<Verdict> = vec![accepted.into(), programmed.into()];
    verdicts.push(ready(&verdicts));
    let previous = credential.status.clone().unwrap_or_default();
    let generation = credential.metadata.generation;
    let (conditions, transitions) = merge(
        &previous.conditions,
        &verdicts,
        generation,
        Timestamp::now(),
    );
    let status = MailCredentialStatus {
        observed_generation: generation,
        conditions,
        secret_name,
        address: standing.address,
    };
    if status != previous {
        let namespace = credential.namespace().unwrap_or_default();
        context
            .cluster
            .write_status::<MailCredential>(&namespace, &credential.name_any(), &status)
            .await?;
        context
            .tell(&credential.object_ref(&()), &transitions)
            .await;
    }
    Ok(Action::requeue(jittered(LATER)))
}

/// What the relay says about the credential.
struct Standing {
    accepted: Accepted,
    waiting: String,
    address: Option<String>,
    /// Only once every ready pod serves it.
    handover: Option<Handover>,
}

/// `None` while nothing is known that would be newer than what the status says.
fn standing(credential: &MailCredential, context: &Context) -> Option<Standing> {
    let namespace = credential.namespace().unwrap_or_default();
    let reference = &credential.spec.relay_ref;
    let relay = reference.name.clone();
    let of = reference
        .namespace
        .clone()
        .unwrap_or_else(|| namespace.clone());
    let not = |accepted: Accepted, waiting: &str| {
        Some(Standing {
            accepted,
            waiting: waiting.to_owned(),
            address: None,
            handover: None,
        })
    };
    if of != namespace {
        let refusal = Accepted::RefNotPermitted {
            relay,
            namespace: of,
        };
        return not(refusal, "not accepted");
    }
    if !context.has_relay(&namespace, &relay) {
        return not(
            Accepted::RelayNotFound {
                relay,
                namespace: of,
            },
            "not accepted",
        );
    }
    let accepted = Accepted::Accepted;
    let view = context.view(&namespace, &relay);
    let said = credential.status.as_ref();
    if view.is_none() && said.is_some_and(|s| is_current(&s.conditions, credential.meta())) {
        return None;
    }
    let uid = credential.uid().unwrap_or_default();
    let found = view
        .as_ref()
        .and_then(|view| Some((view, view.credentials.get(&uid)?)));
    let Some((view, attached)) = found else {
        return not(
            accepted,
            &format!("MailRelay {relay} has not taken it up: see its conditions"),
        );
    };
    Some(Standing {
        accepted: attached.accepted.clone(),
        waiting: if attached.waiting.is_empty() {
            "the relay is taking a change up".to_owned()
        } else {
            attached.waiting.clone()
        },
        address: view.address.clone(),
        handover: attached
            .content
            .clone()
            .filter(|_| attached.served && attached.generation == credential.metadata.generation),
    })
}

enum Handed {
    Done(String),
    /// The name is taken.
    Conflict(String),
    NotYet,
}

/// Makes the Secret, or brings ours up to date; removes the one of a former name.
async fn hand_over(
    credential: &MailCredential,
    context: &Context,
    handover: &Handover,
) -> Result<Handed, ReconcileError> {
    let namespace = credential.namespace().unwrap_or_default();
    let uid = credential.uid().unwrap_or_default();
    let label = format!("{}={uid}", api::names::CREDENTIAL_UID);
    let ours: Vec<Secret> = context
        .cluster
        .list::<Secret>(&namespace, &label)
        .await?
        .into_iter()
        .filter(|secret| is_owned(&secret.metadata, &uid))
        .collect();
    let wanted = build(credential, handover);
    let name = wanted.name_any();
    match ours.iter().find(|secret| secret.name_any() == name) {
        Some(there) if content(there) == content(&wanted) => {}
        Some(there) => {
            let mut changed = there.clone();
            changed.data = wanted.data;
            context.cluster.update(&namespace, &changed).await?;
        }
        None => {
            // The password was in a Secret that is gone: whoever deleted it wants another one.
            if handover.told.is_some() && !ours.iter().any(|secret| secret.uid() == handover.told) {
                return Ok(Handed::NotYet);
            }
            if context.cluster.create(&namespace, &wanted).await? == Created::Exists {
                return Ok(Handed::Conflict(name));
            }
        }
    }
    for former in ours.iter().filter(|secret| secret.name_any() != name) {
        context.cluster.delete(&namespace, former).await?;
    }
    Ok(Handed::Done(name))
}
