use api::condition::{Accepted, ResolvedRefs};
use api::relay::MailRelayStatus;
use config::status::{Counts, Durability, DurabilityReason, Rejection};
use config::{Digest, Manifest};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::json;

use super::{AppliedRelay, Progress, rounded, status};
use crate::certificate::{Authority, Usage};
use crate::relay::attach::Attached;
use crate::relay::dereference::Refs;
use crate::relay::fixtures::{self, pod, report};
use crate::relay::material::{Material, Passwords, material};
use crate::relay::observe::{Observation, Observed};
use crate::relay::validate::ValidRelay;

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

/// A relay of three pods as it should be, for tests to break.
struct Scene {
    relay: ValidRelay,
    refs: Refs,
    material: Material,
    manifest: Manifest,
    deployment: Deployment,
    observation: Observation,
}

impl Scene {
    fn new() -> Self {
        let relay = fixtures::relay();
        let mut refs = fixtures::refs();
        refs.certificates
            .insert("mail-tls".to_owned(), Some(tls("outbound.mail.svc", now())));
        let manifest = Manifest {
            config_hash: Digest::of(b"x"),
            shards: Default::default(),
        };
        let pods = ["a", "b", "c"]
            .map(|name| Observed {
                report: Some(report(name, &manifest)),
                ..pod(name)
            })
            .to_vec();
        let attached = Attached::default();
        let passwords = &mut Passwords::default();
        let material =
            material(&relay, &refs, &attached, passwords, "cluster.local", now()).unwrap();
        Self {
            relay,
            refs,
            material,
            manifest,
            deployment: deployment(3, 3, 3),
            observation: Observation { pods },
        }
    }

    fn status(&self) -> MailRelayStatus {
        let progress = Progress::Applied(Box::new(AppliedRelay {
            relay: &self.relay,
            refs: &self.refs,
            material: &self.material,
            manifest: &self.manifest,
            deployment: Some(&self.deployment),
            observation: &self.observation,
            cluster_domain: "cluster.local",
            credentials: 4,
        }));
        let previous = MailRelayStatus::default();
        status(
            &progress,
            &fixtures::identity(),
            Some(7),
            &previous,
            true,
            now(),
        )
        .0
    }

    /// Expects that `condition` is so for `reason`.
    fn find(&self, condition: &str, truth: &str, reason: &str, part: &str) -> MailRelayStatus {
        let status = self.status();
        let found = condition_of(&status, condition);
        assert_eq!(
            (found.status.as_str(), found.reason.as_str()),
            (truth, reason)
        );
        assert!(
            found.message.contains(part),
            "{part:?} in {:?}",
            found.message
        );
        status
    }

    /// Expects that `condition` is False or Unknown for `reason`, and that Ready says the same.
    fn check(&self, condition: &str, truth: &str, reason: &str, part: &str) {
        let status = self.find(condition, truth, reason, part);
        let ready = condition_of(&status, "Ready");
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_str()),
            ("False", reason),
            "{condition}"
        );
    }

    fn report(&mut self, pod: usize) -> &mut config::Status {
        self.observation.pods[pod].report.as_mut().unwrap()
    }
}

fn condition_of<'a>(status: &'a MailRelayStatus, r#type: &str) -> &'a Condition {
    let mut conditions = status.conditions.iter();
    conditions
        .find(|condition| condition.type_ == r#type)
        .unwrap()
}

fn tls(name: &str, issued: Timestamp) -> k8s_openapi::api::core::v1::Secret {
    let authority = Authority::generate("x", issued).unwrap();
    let pair = authority
        .issue(&[name.to_owned()], Usage::Server, issued)
        .unwrap();
    fixtures::secret(
        "mail-tls",
        &[("tls.crt", &pair.certificate), ("tls.key", &pair.key)],
    )
}

fn deployment(all: i32, updated: i32, available: i32) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"generation": 2},
        "status": {"observedGeneration": 2, "replicas": all, "updatedReplicas": updated, "availableReplicas": available},
    }))
    .unwrap()
}

#[test]
fn all_is_well() {
    let status = Scene::new().status();
    assert!(
        status.conditions.iter().all(|c| c.status == "True"),
        "{:?}",
        status.conditions
    );
    assert!(
        status
            .conditions
            .iter()
            .all(|c| c.observed_generation == Some(7))
    );
    assert_eq!(status.conditions.len(), 7);
    assert_eq!(status.replicas, 3);
    assert_eq!(status.address.as_deref(), Some("outbound.mail.svc:587"));
    assert_eq!(status.durability.as_deref(), Some("Fsync"));
    assert_eq!(
        status.selector.as_deref(),
        Some(
            "app.kubernetes.io/component=relay,kurier.dev/relay-uid=6c0e2f6e-5f0f-4d0a-9f2b-1f6f0a3f7a11"
        )
    );
    let queue = status.queue.unwrap();
    assert_eq!(
        (queue.ready, queue.deferred, queue.in_flight),
        (1200, 99, 7)
    );
    let smtps = &status.listeners[1];
    assert_eq!(
        (smtps.name.as_str(), smtps.port, smtps.attached_credentials),
        ("smtps", 465, 4)
    );
    assert!(
        status
            .listeners
            .iter()
            .all(|l| l.certificate_not_after.is_some())
    );
}

#[test]
fn programmed() {
    let mut scene = Scene::new();
    scene.report(1).config_hash = Some(Digest::of(b"old"));
    scene.check("Programmed", "False", "Pending", "2 of 3 pods serve");

    scene.report(1).config_rejected = Some(Rejection {
        config_hash: None,
        message: "relay.yaml:3:1: listeners".to_owned(),
    });
    scene.check("Programmed", "False", "ConfigRejected", "pod b");

    // A pod on its way out may serve what it likes.
    scene.observation.pods[1].terminating = true;
    let status = scene.status();
    assert!(
        status.conditions.iter().all(|c| c.status == "True"),
        "{:?}",
        status.conditions
    );

    let mut scene = Scene::new();
    scene.deployment = deployment(4, 1, 3);
    scene.check(
        "Programmed",
        "False",
        "Pending",
        "1 of 3 pods are of the present make",
    );
    scene.deployment.metadata.generation = Some(3);
    scene.check("Programmed", "False", "Pending", "not been looked at");

    let mut scene = Scene::new();
    for pod in &mut scene.observation.pods {
        pod.ready = false;
        pod.trouble = Some("ImagePullBackOff: no such image".to_owned());
    }
    scene.check("Programmed", "False", "NoReadyPod", "no such image");
}

#[test]
fn queue() {
    let mut scene = Scene::new();
    scene.report(2).redis.reachable = false;
    scene.report(2).redis.error = Some("connection refused".to_owned());
    scene.check("QueueReachable", "False", "Unreachable", "1 of 3 pods");
    scene.check(
        "QueueReachable",
        "False",
        "Unreachable",
        "connection refused",
    );

    let mut scene = Scene::new();
    for pod in &mut scene.observation.pods {
        pod.report = None;
    }
    let status = scene.status();
    let reachable = status
        .conditions
        .iter()
        .find(|c| c.type_ == "QueueReachable")
        .unwrap();
    assert_eq!(
        (reachable.status.as_str(), reachable.reason.as_str()),
        ("Unknown", "NoPodAnswers")
    );

    let mut scene = Scene::new();
    scene.report(0).durability = Durability::Unmet {
        reason: DurabilityReason::AofOff,
        remedy: "set appendonly yes".to_owned(),
    };
    scene.check("QueueDurable", "False", "AofOff", "set appendonly yes");
    assert_eq!(scene.status().durability, None);

    let mut scene = Scene::new();
    for at in 0..3 {
        scene.report(at).durability = Durability::Replicated { acks: 1 };
    }
    scene.find("QueueDurable", "True", "Verified", "Replicated is in force");
    assert_eq!(scene.status().durability.as_deref(), Some("Replicated"));
    scene.report(1).durability = Durability::Unmet {
        reason: DurabilityReason::TooFewReplicas,
        remedy: "bring replicas up".to_owned(),
    };
    scene.check(
        "QueueDurable",
        "False",
        "TooFewReplicas",
        "bring replicas up",
    );

    let mut scene = Scene::new();
    for at in 0..3 {
        scene.report(at).durability = Durability::Memory;
    }
    scene.find(
        "QueueDurable",
        "True",
        "Verified",
        "lost when the queue's store restarts",
    );

    let mut scene = Scene::new();
    for at in 0..3 {
        scene.report(at).durability = Durability::Unknown;
    }
    scene.check("QueueDurable", "Unknown", "NotVerified", "");
}

#[test]
fn certificates() {
    let mut scene = Scene::new();
    let mut with = |secret| {
        scene
            .refs
            .certificates
            .insert("mail-tls".to_owned(), Some(secret));
        Scene {
            ..std::mem::replace(&mut scene, Scene::new())
        }
    };
    let long_ago = "2025-01-01T00:00:00Z".parse().unwrap();
    with(tls("outbound.mail.svc", long_ago)).check("TLSReady", "False", "Expired", "renew it");
    with(tls("other.example.org", now())).check(
        "TLSReady",
        "False",
        "NameMismatch",
        "outbound.mail.svc",
    );
    let garbage = fixtures::secret("mail-tls", &[("tls.crt", "x"), ("tls.key", "y")]);
    with(garbage).check("TLSReady", "False", "Invalid", "mail-tls");
}

#[test]
fn a_relay_that_cannot_be_carried_out_says_why() {
    let refused = Progress::Refused(Accepted::Unsupported("use Fsync".to_owned()));
    let previous = Scene::new().status();
    let (status, transitions) = status(
        &refused,
        &fixtures::identity(),
        Some(8),
        &previous,
        true,
        now(),
    );
    let reasons: Vec<_> = status
        .conditions
        .iter()
        .map(|c| c.reason.as_str())
        .collect();
    assert_eq!(reasons, ["Unsupported", "Pending", "Unsupported"]);
    assert_eq!(transitions.len(), 3);
    assert_eq!(status.replicas, 3, "what is served is served on");

    let missing = ResolvedRefs::SecretNotFound {
        field: "queue.redis.urlSecretRef".to_owned(),
        namespace: "mail".to_owned(),
        name: "redis".to_owned(),
    };
    let unresolved = Progress::Unresolved(missing);
    let (status, _) = super::status(
        &unresolved,
        &fixtures::identity(),
        Some(1),
        &MailRelayStatus::default(),
        true,
        now(),
    );
    let ready = status.conditions.last().unwrap();
    assert_eq!(ready.reason, "SecretNotFound");
    assert!(ready.message.contains("mail/redis"), "{}", ready.message);
}

#[test]
fn nothing_moves_by_itself() {
    let mut scene = Scene::new();
    let first = scene.status();
    for at in 0..3 {
        scene.report(at).counts = Some(Counts {
            ready: 5,
            ..Default::default()
        });
    }
    let progress = Progress::Applied(Box::new(AppliedRelay {
        relay: &scene.relay,
        refs: &scene.refs,
        material: &scene.material,
        manifest: &scene.manifest,
        deployment: Some(&scene.deployment),
        observation: &scene.observation,
        cluster_domain: "cluster.local",
        credentials: 4,
    }));
    let later = "2026-03-01T12:00:09Z".parse().unwrap();
    let again = |due| {
        status(
            &progress,
            &fixtures::identity(),
            Some(7),
            &first,
            due,
            later,
        )
        .0
    };
    assert_eq!(again(false), first, "counts wait for their turn");
    assert_eq!(again(true).queue.unwrap().ready, 5);
}

#[test]
fn counts_are_rounded_to_two_digits() {
    for (count, shown) in [
        (0, 0),
        (7, 7),
        (99, 99),
        (100, 100),
        (101, 100),
        (1999, 1900),
        (123_456, 120_000),
    ] {
        assert_eq!(rounded(count), shown, "{count}");
    }
}
