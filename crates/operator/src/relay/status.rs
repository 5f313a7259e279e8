//! A relay's status, from what was applied and observed. Pure.

use api::condition::{
    Accepted, DurabilityReason, Programmed, QueueDurable, QueueReachable, ResolvedRefs, TlsReady,
    Verdict, merge, ready,
};
use api::relay::{ListenerStatus, MailRelayStatus, QueueStatus};
use config::Manifest;
use config::listener::Role;
use config::status::{self, Counts, Durability};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::build;
use super::dereference::{Refs, text};
use super::material::{Material, service_names};
use super::observe::Observation;
use super::validate::{Certificate, Identity, ValidRelay};
use crate::certificate::describe;

/// How far the relay got.
pub(crate) enum Progress<'a> {
    /// The spec cannot be carried out.
    Refused(Accepted),
    /// Something it names is missing.
    Unresolved(ResolvedRefs),
    /// Children could not be written for a reason a person must clear.
    Blocked(String),
    Applied(Box<AppliedRelay<'a>>),
}

pub(crate) struct AppliedRelay<'a> {
    pub(crate) relay: &'a ValidRelay,
    pub(crate) refs: &'a Refs,
    pub(crate) material: &'a Material,
    pub(crate) manifest: &'a Manifest,
    pub(crate) deployment: Option<&'a Deployment>,
    pub(crate) observation: &'a Observation,
    pub(crate) cluster_domain: &'a str,
    pub(crate) credentials: usize,
}

/// The status to write, and the transitions to tell as events.
///
/// `queue_due`: the queue's counts may be rewritten; they also are when a condition changes.
pub(crate) fn status(
    progress: &Progress<'_>,
    identity: &Identity,
    generation: Option<i64>,
    previous: &MailRelayStatus,
    queue_due: bool,
    now: Timestamp,
) -> (MailRelayStatus, Vec<Verdict>) {
    let mut verdicts = verdicts(progress, now);
    verdicts.push(ready(&verdicts));
    let (conditions, transitions) = merge(&previous.conditions, &verdicts, generation, now);
    let mut status = MailRelayStatus {
        observed_generation: generation,
        conditions,
        selector: Some(selector(identity)),
        ..previous.clone()
    };
    if let Progress::Applied(applied) = progress {
        fill(&mut status, applied, queue_due || !transitions.is_empty());
    }
    (status, transitions)
}

fn verdicts(progress: &Progress<'_>, now: Timestamp) -> Vec<Verdict> {
    match progress {
        Progress::Refused(refusal) => {
            let pending = "not accepted; what was served before is served on".to_owned();
            vec![refusal.clone().into(), Programmed::Pending(pending).into()]
        }
        Progress::Unresolved(missing) => {
            let pending =
                "waits for what is missing; what was served before is served on".to_owned();
            vec![
                Accepted::Accepted.into(),
                missing.clone().into(),
                Programmed::Pending(pending).into(),
            ]
        }
        Progress::Blocked(problem) => vec![
            Accepted::Accepted.into(),
            ResolvedRefs::ResolvedRefs.into(),
            Programmed::Pending(problem.clone()).into(),
        ],
        Progress::Applied(applied) => vec![
            Accepted::Accepted.into(),
            ResolvedRefs::ResolvedRefs.into(),
            tls(applied, now).into(),
            programmed(applied).into(),
            reachable(applied.observation).into(),
            durable(applied.observation).into(),
        ],
    }
}

fn programmed(applied: &AppliedRelay<'_>) -> Programmed {
    let (observation, manifest) = (applied.observation, applied.manifest);
    if !observation.staying().any(|pod| pod.ready) {
        let hint = if applied.relay.replicas == 0 {
            Some("spec.replicas is 0".to_owned())
        } else {
            observation.staying().find_map(|pod| pod.trouble.clone())
        };
        return Programmed::NoReadyPod {
            hint: hint.unwrap_or_default(),
        };
    }
    if let Some(waiting) = rollout(applied) {
        return Programmed::Pending(waiting);
    }
    // Not before the roll is over: pods on their way out need not take up what the new ones do.
    let rejecting = observation.staying().find_map(|pod| {
        let rejection = pod.report.as_ref()?.config_rejected.as_ref()?;
        (!pod.serves_config(manifest)).then(|| (pod.name.clone(), rejection.message.clone()))
    });
    if let Some((pod, message)) = rejecting {
        return Programmed::ConfigRejected { pod, message };
    }
    let pods = observation.staying().count();
    let serving = observation
        .staying()
        .filter(|pod| pod.serves_config(manifest))
        .count();
    if serving < pods {
        return Programmed::Pending(format!(
            "{serving} of {pods} pods serve the present configuration"
        ));
    }
    Programmed::Programmed
}

/// What the Deployment is still waiting for.
fn rollout(applied: &AppliedRelay<'_>) -> Option<String> {
    let deployment = applied.deployment?;
    let status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation < deployment.metadata.generation {
        return Some("the Deployment has not been looked at yet".to_owned());
    }
    let wanted = applied.relay.replicas;
    let (updated, all) = (
        status.updated_replicas.unwrap_or(0),
        status.replicas.unwrap_or(0),
    );
    let available = status.available_replicas.unwrap_or(0);
    if updated < wanted || all > wanted || available < wanted {
        let trouble = applied
            .observation
            .staying()
            .find_map(|pod| pod.trouble.as_deref());
        let trouble = trouble
            .map(|trouble| format!(": {trouble}"))
            .unwrap_or_default();
        return Some(format!(
            "{updated} of {wanted} pods are of the present make, {available} are available, {all} exist{trouble}"
        ));
    }
    None
}

fn reachable(observation: &Observation) -> QueueReachable {
    let reports: Vec<_> = observation
        .staying()
        .filter_map(|pod| pod.report.as_ref())
        .collect();
    let cut: Vec<_> = reports
        .iter()
        .filter(|report| !report.redis.reachable)
        .collect();
    match cut.first() {
        _ if reports.is_empty() => QueueReachable::NoPodAnswers,
        None => QueueReachable::Reachable,
        Some(first) => QueueReachable::Unreachable {
            pods: cut.len(),
            answered: reports.len(),
            error: first
                .redis
                .error
                .clone()
                .unwrap_or_else(|| "no connection".to_owned()),
        },
    }
}

fn durable(observation: &Observation) -> QueueDurable {
    let levels: Vec<_> = observation
        .staying()
        .filter_map(|pod| pod.report.as_ref())
        .map(|r| &r.durability)
        .collect();
    for level in &levels {
        if let Durability::Unmet { reason, remedy } = level {
            return QueueDurable::Unmet {
                reason: durability(*reason),
                remedy: remedy.clone(),
            };
        }
    }
    match levels.iter().find_map(|level| level.level()) {
        Some(level) => QueueDurable::Verified { level },
        None => QueueDurable::NotVerified,
    }
}

fn durability(reason: status::DurabilityReason) -> DurabilityReason {
    use status::DurabilityReason as R;
    match reason {
        R::AofOff => DurabilityReason::AofOff,
        R::Evicting => DurabilityReason::Evicting,
        R::FailoverCanLose => DurabilityReason::FailoverCanLose,
        R::FsyncPausedOnRewrite => DurabilityReason::FsyncPausedOnRewrite,
        R::NotFsyncAlways => DurabilityReason::NotFsyncAlways,
        R::NotVerified => DurabilityReason::NotVerified,
        R::TooFewReplicas => DurabilityReason::TooFewReplicas,
    }
}

fn tls(applied: &AppliedRelay<'_>, now: Timestamp) -> TlsReady {
    let names = service_names(applied.relay, applied.cluster_domain);
    for listener in &applied.relay.listeners {
        let Certificate::Secret(secret) = &listener.certificate else {
            continue;
        };
        let name = secret.clone();
        match describe(certificate(applied, &listener.certificate).unwrap_or_default()) {
            Err(error) => {
                return TlsReady::Invalid {
                    secret: name,
                    problem: error.to_string(),
                };
            }
            Ok(read) if read.not_after <= now => {
                return TlsReady::Expired {
                    secret: name,
                    not_after: read.not_after,
                };
            }
            Ok(read) if !names.iter().any(|name| read.covers(name)) => {
                return TlsReady::NameMismatch {
                    secret: name,
                    name: names[0].clone(),
                };
            }
            Ok(_) => {}
        }
    }
    TlsReady::Ready
}

fn certificate<'a>(applied: &'a AppliedRelay<'_>, of: &Certificate) -> Option<&'a str> {
    match of {
        Certificate::SelfIssued => applied
            .material
            .listeners
            .as_ref()
            .map(|l| l.server.certificate.as_str()),
        Certificate::Secret(name) => {
            text(applied.refs.certificates.get(name)?.as_ref()?, "tls.crt")
        }
    }
}

/// The name applications should connect to at a listener, and what they need to verify it.
pub(crate) fn reference_name(
    applied: &AppliedRelay<'_>,
    of: &Certificate,
) -> (String, Option<String>) {
    let names = service_names(applied.relay, applied.cluster_domain);
    let usual = names[0].clone();
    let read = certificate(applied, of).and_then(|pem| describe(pem).ok());
    let name = read.and_then(|read| names.into_iter().find(|name| read.covers(name)));
    let authority = match of {
        Certificate::SelfIssued => applied
            .material
            .listeners
            .as_ref()
            .map(|l| l.authority.certificate.clone()),
        Certificate::Secret(name) => applied
            .refs
            .certificates
            .get(name)
            .and_then(Option::as_ref)
            .and_then(|secret| text(secret, "ca.crt"))
            .map(str::to_owned),
    };
    (name.unwrap_or(usual), authority)
}

fn fill(status: &mut MailRelayStatus, applied: &AppliedRelay<'_>, with_queue: bool) {
    let relay = applied.relay;
    let host = service_names(relay, applied.cluster_domain)[0].clone();
    status.replicas = applied
        .deployment
        .and_then(|deployment| deployment.status.as_ref()?.replicas)
        .unwrap_or(0);
    status.listeners = relay
        .listeners
        .iter()
        .map(|listener| ListenerStatus {
            name: listener.name.clone(),
            address: host.clone(),
            port: i32::from(listener.port),
            attached_credentials: i32::try_from(applied.credentials).unwrap_or(i32::MAX),
            certificate_not_after: certificate(applied, &listener.certificate)
                .and_then(|pem| describe(pem).ok())
                .map(|read| Time(read.not_after)),
        })
        .collect();
    let main = main_listener(relay);
    status.address = main.map(|listener| format!("{host}:{}", listener.port));
    let reports = || {
        applied
            .observation
            .staying()
            .filter_map(|pod| pod.report.as_ref())
    };
    status.durability = reports()
        .find_map(|report| report.durability.level())
        .map(str::to_owned)
        .filter(|_| reports().all(|r| !matches!(r.durability, Durability::Unmet { .. })));
    if let Some(report) = reports().next() {
        status.version = Some(report.version.clone());
    }
    if with_queue && let Some(report) = reports().find(|report| report.counts.is_some()) {
        status.queue = report
            .counts
            .map(|counts| queue(counts, report.oldest_ready_time));
    }
}

/// The first submission listener, else the first.
pub(crate) fn main_listener(relay: &ValidRelay) -> Option<&super::validate::ValidListener> {
    let submission = relay.listeners.iter().find(|l| l.role == Role::Submission);
    submission.or_else(|| relay.listeners.first())
}

fn queue(counts: Counts, oldest: Option<Timestamp>) -> QueueStatus {
    QueueStatus {
        ready: rounded(counts.ready),
        deferred: rounded(counts.deferred),
        in_flight: rounded(counts.in_flight),
        oldest_ready_time: oldest.map(Time),
    }
}

/// Two significant digits: a status that moved with every message would be written all the time.
fn rounded(count: u64) -> i64 {
    let mut unit = 1;
    while count / unit >= 100 {
        unit *= 10;
    }
    i64::try_from(count / unit * unit).unwrap_or(i64::MAX)
}

fn selector(identity: &Identity) -> String {
    build::selector(identity)
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
