//! What a relay's pods are and report, and which of them the kubelet must look at again.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use config::status::Status;
use config::{Digest, Manifest};
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use kube::ResourceExt as _;
use tokio::time::Instant;

use crate::apply::controller;
use crate::status_client::StatusClient;

/// What every pod of a relay should serve.
#[derive(Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) manifest: &'a Manifest,
    /// Digests of certificates, by listener.
    pub(crate) certificates: &'a BTreeMap<String, Digest>,
}

/// All pods of a relay at one moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Observation {
    pub(crate) pods: Vec<Observed>,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Observed {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) ready: bool,
    pub(crate) terminating: bool,
    pub(crate) address: Option<IpAddr>,
    /// Why it does not run, in the kubelet's or the scheduler's words.
    pub(crate) trouble: Option<String>,
    /// What it answered, if it was asked and did.
    pub(crate) report: Option<Status>,
}

impl Observed {
    /// Whether it serves the relay's own configuration.
    pub(crate) fn serves_config(&self, manifest: &Manifest) -> bool {
        self.report
            .as_ref()
            .is_some_and(|r| r.config_hash.as_ref() == Some(&manifest.config_hash))
    }

    /// Whether it serves a shard as it should be; `None` for one that should not exist.
    pub(crate) fn serves_shard(&self, manifest: &Manifest, shard: &str) -> bool {
        self.report
            .as_ref()
            .is_some_and(|r| r.attachments.get(shard) == manifest.shards.get(shard))
    }

    fn serves_all(&self, expected: Expected<'_>) -> bool {
        let Some(report) = &self.report else {
            return false;
        };
        // A listener that is new to the pod comes with another pod, and an older relay does not say.
        let certificates = report.certificates.as_ref().is_none_or(|served| {
            let mut known = expected.certificates.iter();
            known.all(|(name, digest)| served.get(name).is_none_or(|served| served == digest))
        });
        self.serves_config(expected.manifest)
            && report.attachments == expected.manifest.shards
            && certificates
    }
}

impl Observation {
    pub(crate) fn staying(&self) -> impl Iterator<Item = &Observed> {
        self.pods.iter().filter(|pod| !pod.terminating)
    }

    /// Whether every pod that takes clients serves `shard`, and there is one.
    pub(crate) fn is_shard_served(&self, manifest: &Manifest, shard: &str) -> bool {
        let mut ready = self.staying().filter(|pod| pod.ready).peekable();
        ready.peek().is_some() && ready.all(|pod| pod.serves_shard(manifest, shard))
    }

    /// Changes whenever something moves.
    pub(crate) fn fingerprint(&self, expected: Expected<'_>) -> String {
        let pods = self.pods.iter().map(|pod| {
            let state = (
                pod.ready,
                pod.terminating,
                pod.serves_all(expected),
                &pod.trouble,
            );
            format!("{}{state:?}", pod.uid)
        });
        pods.chain([digest(expected).to_string()]).collect()
    }

    /// Whether there is nothing left to wait for.
    pub(crate) fn is_settled(&self, expected: Expected<'_>) -> bool {
        self.staying()
            .all(|pod| pod.ready && pod.serves_all(expected))
    }
}

/// Asks every running pod of the Deployment `deployment`, ready or not, a few at a time.
pub(crate) async fn observe(pods: &[Pod], deployment: &str, client: &StatusClient) -> Observation {
    let ours: Vec<_> = pods
        .iter()
        .filter(|pod| is_ours(pod, deployment))
        .map(look)
        .collect();
    let asked = stream::iter(ours)
        .map(|mut pod| async move {
            if let Some(address) = pod.address {
                match client.ask(address, &pod.uid).await {
                    Ok(status) => pod.report = Some(status),
                    Err(error) => {
                        tracing::debug!(pod = pod.name, %error, "the pod does not report");
                    }
                }
            }
            pod
        })
        .buffer_unordered(16);
    let mut pods: Vec<_> = asked.collect().await;
    pods.sort_by(|a, b| a.name.cmp(&b.name));
    Observation { pods }
}

/// Pods with our labels that somebody else made are not asked.
fn is_ours(pod: &Pod, deployment: &str) -> bool {
    controller(&pod.metadata).is_some_and(|owner| {
        owner.kind == "ReplicaSet"
            && owner
                .name
                .strip_prefix(deployment)
                .and_then(|rest| rest.strip_prefix('-'))
                .is_some_and(|hash| !hash.contains('-'))
    })
}

fn look(pod: &Pod) -> Observed {
    let status = pod.status.clone().unwrap_or_default();
    let running = status.phase.as_deref() == Some("Running");
    Observed {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        ready: condition(&status, "Ready").is_some_and(|c| c.status == "True"),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        address: running
            .then(|| status.pod_ip.as_deref()?.parse().ok())
            .flatten(),
        trouble: trouble(&status),
        report: None,
    }
}

fn trouble(status: &PodStatus) -> Option<String> {
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .find_map(|container| {
            let state = container.state.as_ref()?.waiting.as_ref()?;
            let reason = state
                .reason
                .as_deref()
                .filter(|reason| *reason != "ContainerCreating")?;
            Some(match &state.message {
                Some(message) => format!("{reason}: {message}"),
                None => reason.to_owned(),
            })
        });
    waiting.or_else(|| {
        let scheduled = condition(status, "PodScheduled").filter(|c| c.status == "False")?;
        Some(format!(
            "{}: {}",
            scheduled.reason.as_deref().unwrap_or("Unschedulable"),
            scheduled.message.as_deref().unwrap_or_default()
        ))
    })
}

fn condition<'a>(status: &'a PodStatus, r#type: &str) -> Option<&'a PodCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == r#type)
}

/// When each pod was bumped last, by its UID.
///
/// A bump makes the kubelet look at the pod's volumes at once, but its cache of Secrets may be old
/// still. So it is repeated, slower each time, until the pod serves what it should.
#[derive(Default)]
pub(crate) struct Bumps(HashMap<String, Bump>);

struct Bump {
    wanted: Digest,
    count: u32,
    next: Instant,
}

impl Bumps {
    /// Pods to bump now, and the value to write.
    pub(crate) fn due(
        &mut self,
        observation: &Observation,
        expected: Expected<'_>,
        now: Instant,
    ) -> Vec<(String, String)> {
        let wanted = digest(expected);
        self.0
            .retain(|uid, _| observation.pods.iter().any(|pod| pod.uid == *uid));
        let mut due = Vec::new();
        for pod in observation.staying().filter(|pod| pod.address.is_some()) {
            // A pod that does not answer is bumped as well: it may be waiting for its configuration.
            if pod.serves_all(expected) {
                self.0.remove(&pod.uid);
                continue;
            }
            let bump = self.0.entry(pod.uid.clone()).or_insert_with(|| Bump {
                wanted: wanted.clone(),
                count: 0,
                next: now,
            });
            if bump.wanted != wanted {
                *bump = Bump {
                    wanted: wanted.clone(),
                    count: 0,
                    next: now,
                };
            }
            if bump.next > now {
                continue;
            }
            due.push((
                pod.name.clone(),
                format!("{}-{}", &wanted.as_str()[..16], bump.count),
            ));
            let wait = FIRST * 2_u32.saturating_pow(bump.count.min(8));
            bump.next = now + wait.min(LONGEST);
            bump.count = bump.count.saturating_add(1);
        }
        due
    }
}

const FIRST: Duration = Duration::from_millis(1500);
const LONGEST: Duration = Duration::from_secs(60);

fn digest(expected: Expected<'_>) -> Digest {
    let all = (expected.manifest, expected.certificates);
    Digest::of(
        serde_json::to_string(&all)
            .expect("digests by name are JSON")
            .as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use config::{Digest, Manifest};
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;
    use tokio::time::Instant;

    use super::{Bumps, Expected, Observation, Observed, is_ours, look};
    use crate::relay::fixtures::{pod, report};

    fn manifest(shard: Option<&str>) -> Manifest {
        Manifest {
            config_hash: Digest::of(b"relay"),
            shards: shard
                .map(|s| ("03".to_owned(), Digest::of(s.as_bytes())))
                .into_iter()
                .collect(),
        }
    }

    fn expected(manifest: &Manifest) -> Expected<'_> {
        static NONE: BTreeMap<String, Digest> = BTreeMap::new();
        Expected {
            manifest,
            certificates: &NONE,
        }
    }

    fn serving(name: &str, manifest: &Manifest) -> Observed {
        let mut pod = pod(name);
        pod.report = Some(report(name, manifest));
        pod
    }

    #[test]
    fn bumps_are_repeated_with_back_off_until_served() {
        let (old, new) = (manifest(None), manifest(Some("a")));
        let behind = Observation {
            pods: vec![serving("a", &old), serving("b", &new)],
        };
        let mut bumps = Bumps::default();
        let start = Instant::now();
        let mut at = Vec::new();
        for ms in (0..20_000).step_by(100) {
            for (pod, value) in
                bumps.due(&behind, expected(&new), start + Duration::from_millis(ms))
            {
                assert_eq!(pod, "a");
                assert!(value.ends_with(&format!("-{}", at.len())));
                at.push(ms);
            }
        }
        assert_eq!(at, [0, 1500, 4500, 10500]);
        let served = Observation {
            pods: vec![serving("a", &new)],
        };
        assert!(bumps.due(&served, expected(&new), start).is_empty());
        // Another change starts again at once.
        assert_eq!(bumps.due(&served, expected(&old), start).len(), 1);
    }

    #[test]
    fn a_pod_with_an_old_certificate_is_bumped() {
        let manifest = manifest(None);
        let certificates = BTreeMap::from(
            [("smtps", "new"), ("added", "any")]
                .map(|(listener, pem)| (listener.to_owned(), Digest::of(pem.as_bytes()))),
        );
        let expected = Expected {
            manifest: &manifest,
            certificates: &certificates,
        };
        let check = |served: Option<&str>, settled: bool| {
            let mut pod = serving("a", &manifest);
            let report = pod.report.as_mut().unwrap();
            report.certificates = served
                .map(|pem| BTreeMap::from([("smtps".to_owned(), Digest::of(pem.as_bytes()))]));
            let observation = Observation { pods: vec![pod] };
            assert_eq!(observation.is_settled(expected), settled, "{served:?}");
            let bumped = Bumps::default().due(&observation, expected, Instant::now());
            assert_eq!(bumped.is_empty(), settled, "{served:?}");
        };
        check(Some("old"), false);
        check(Some("new"), true);
        // A relay of an older version does not say, and must not be bumped for ever.
        check(None, true);
    }

    #[test]
    fn a_shard_is_served_when_every_ready_pod_says_so() {
        let (old, new) = (manifest(Some("old")), manifest(Some("new")));
        let mut observation = Observation {
            pods: vec![serving("a", &new), serving("b", &old)],
        };
        assert!(!observation.is_shard_served(&new, "03"));
        observation.pods[1].ready = false;
        assert!(observation.is_shard_served(&new, "03"));
        observation.pods[0].terminating = true;
        assert!(
            !observation.is_shard_served(&new, "03"),
            "no pod takes clients"
        );
        // A removed shard is served when it is gone.
        let gone = Observation {
            pods: vec![serving("a", &new)],
        };
        assert!(!gone.is_shard_served(&manifest(None), "03"));
    }

    fn k8s(owner: &str, status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u", "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": "r", "controller": true}]},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn only_pods_of_the_deployment_are_asked() {
        assert!(is_ours(&k8s("outbound-5d9f", json!({})), "outbound"));
        assert!(!is_ours(&k8s("outbound-eu-5d9f", json!({})), "outbound"));
        assert!(!is_ours(&k8s("other-5d9f", json!({})), "outbound"));
        assert!(!is_ours(&Pod::default(), "outbound"));
    }

    #[test]
    fn trouble_is_told_in_the_kubelets_words() {
        let waiting = json!({"phase": "Pending", "containerStatuses": [{
            "name": "relay", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]});
        assert_eq!(
            look(&k8s("a-1", waiting)).trouble.unwrap(),
            "ImagePullBackOff: no such image"
        );
        let unschedulable = json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}]});
        assert_eq!(
            look(&k8s("a-1", unschedulable)).trouble.unwrap(),
            "Unschedulable: no node"
        );
        let running = look(&k8s(
            "a-1",
            json!({"phase": "Running", "podIP": "10.0.0.7",
            "conditions": [{"type": "Ready", "status": "True"}]}),
        ));
        assert!(running.ready && running.trouble.is_none());
        assert_eq!(running.address.unwrap().to_string(), "10.0.0.7");
    }
}
