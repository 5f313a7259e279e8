//! The vocabulary of status: which conditions there are, for which reasons, and what a person reads.
//!
//! One enum per condition; its variants are the reasons, its messages say what to do. [`ready`] is
//! the sum of the others and is defined here and nowhere else.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Whether the object can be carried out as it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Accepted {
    /// With what is not carried out to the letter, if anything.
    Accepted,
    /// Fields contradict each other.
    Invalid(Vec<String>),
    /// A credential or route names a relay of another namespace.
    RefNotPermitted { relay: String, namespace: String },
    /// A credential or route names a relay that does not exist.
    RelayNotFound { relay: String, namespace: String },
    /// The Secret a credential should make is somebody else's.
    SecretConflict { secret: String },
    /// The tenant's number of credentials is used up.
    TooMany { relay: String, limit: i32 },
    /// What is asked for is not built.
    Unsupported(String),
}

/// Whether everything the object names is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ResolvedRefs {
    ResolvedRefs,
    SecretNotFound {
        field: String,
        namespace: String,
        name: String,
    },
    KeyMissing {
        field: String,
        namespace: String,
        name: String,
        key: String,
    },
    /// What is there cannot be used. `problem` never quotes it.
    InvalidSecret {
        field: String,
        namespace: String,
        name: String,
        key: String,
        problem: String,
    },
}

/// Whether every pod serves this generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Programmed {
    Programmed,
    /// A pod refuses the configuration.
    ConfigRejected {
        pod: String,
        message: String,
    },
    NoReadyPod {
        hint: String,
    },
    Pending(String),
}

/// Whether the pods reach the queue's store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QueueReachable {
    Reachable,
    NoPodAnswers,
    Unreachable {
        pods: usize,
        answered: usize,
        error: String,
    },
}

/// Whether what a client hears as 250 is as durable as declared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QueueDurable {
    Verified {
        level: &'static str,
    },
    Unmet {
        reason: DurabilityReason,
        remedy: String,
    },
    /// No pod has been able to ask yet.
    NotVerified,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DurabilityReason {
    AofOff,
    Evicting,
    FailoverCanLose,
    FsyncPausedOnRewrite,
    NotFsyncAlways,
    NotVerified,
    TooFewReplicas,
}

/// Whether the certificates are usable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsReady {
    Ready,
    Expired {
        secret: String,
        not_after: Timestamp,
    },
    /// The Secret holds no usable pair.
    Invalid {
        secret: String,
        problem: String,
    },
    NameMismatch {
        secret: String,
        name: String,
    },
}

/// A condition on its way into a status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    pub r#type: ConditionType,
    pub truth: Truth,
    pub reason: &'static str,
    pub message: String,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ConditionType {
    Accepted,
    ResolvedRefs,
    TLSReady,
    Programmed,
    QueueReachable,
    QueueDurable,
    Ready,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Truth {
    True,
    False,
    Unknown,
}

/// The sum: true when every other condition is, else what the first that is not says. The order of
/// [`ConditionType`] is the order of cause: what comes first explains what comes after.
pub fn ready(others: &[Verdict]) -> Verdict {
    let mut ordered: Vec<_> = others.iter().collect();
    ordered.sort_by_key(|verdict| verdict.r#type);
    match ordered.iter().find(|verdict| verdict.truth != Truth::True) {
        None => Verdict {
            r#type: ConditionType::Ready,
            truth: Truth::True,
            reason: "Ready",
            message: String::new(),
        },
        Some(first) => Verdict {
            r#type: ConditionType::Ready,
            truth: Truth::False,
            reason: first.reason,
            message: format!("{}: {}", first.r#type, first.message),
        },
    }
}

/// The conditions to write, and those of them that went to another truth or reason.
///
/// `lastTransitionTime` moves only with the truth, so that a status written twice is the same.
pub fn merge(
    existing: &[Condition],
    verdicts: &[Verdict],
    generation: Option<i64>,
    now: Timestamp,
) -> (Vec<Condition>, Vec<Verdict>) {
    let mut transitions = Vec::new();
    let conditions = verdicts
        .iter()
        .map(|verdict| {
            let before = existing
                .iter()
                .find(|c| c.type_ == verdict.r#type.to_string());
            let same_truth = before.filter(|c| c.status == verdict.truth.as_str());
            if same_truth.is_none_or(|c| c.reason != verdict.reason) {
                transitions.push(verdict.clone());
            }
            Condition {
                type_: verdict.r#type.to_string(),
                status: verdict.truth.as_str().to_owned(),
                reason: verdict.reason.to_owned(),
                message: bounded(&verdict.message),
                observed_generation: generation,
                last_transition_time: same_truth
                    .map_or_else(|| Time(now), |c| c.last_transition_time.clone()),
            }
        })
        .collect();
    (conditions, transitions)
}

impl From<Accepted> for Verdict {
    fn from(accepted: Accepted) -> Self {
        use Accepted as A;
        let (truth, reason, message) = match accepted {
            A::Accepted => (Truth::True, "Accepted", String::new()),
            A::Invalid(problems) => (Truth::False, "Invalid", problems.join("; ")),
            A::RefNotPermitted { relay, namespace } => (
                Truth::False,
                "RefNotPermitted",
                format!(
                    "MailRelay {namespace}/{relay} takes only its own namespace: move this object there"
                ),
            ),
            A::RelayNotFound { relay, namespace } => (
                Truth::False,
                "RelayNotFound",
                format!(
                    "MailRelay {namespace}/{relay} does not exist: make it, or correct the name"
                ),
            ),
            A::SecretConflict { secret } => (
                Truth::False,
                "SecretConflict",
                format!(
                    "Secret {secret} exists and was not made for this credential: delete it, or choose another secretName"
                ),
            ),
            A::TooMany { relay, limit } => (
                Truth::False,
                "TooManyCredentials",
                format!(
                    "MailRelay {relay} grants {limit} credentials and older ones use them up: raise tenants[].maxCredentials"
                ),
            ),
            A::Unsupported(what) => (Truth::False, "Unsupported", what),
        };
        Self {
            r#type: ConditionType::Accepted,
            truth,
            reason,
            message,
        }
    }
}

impl From<ResolvedRefs> for Verdict {
    fn from(resolved: ResolvedRefs) -> Self {
        let (truth, reason, message) = match resolved {
            ResolvedRefs::ResolvedRefs => (Truth::True, "ResolvedRefs", String::new()),
            ResolvedRefs::SecretNotFound {
                field,
                namespace,
                name,
            } => (
                Truth::False,
                "SecretNotFound",
                format!("Secret {namespace}/{name}, named by {field}, does not exist: make it"),
            ),
            ResolvedRefs::KeyMissing {
                field,
                namespace,
                name,
                key,
            } => (
                Truth::False,
                "KeyMissing",
                format!("Secret {namespace}/{name}, named by {field}, has no key `{key}`: add it"),
            ),
            ResolvedRefs::InvalidSecret {
                field,
                namespace,
                name,
                key,
                problem,
            } => (
                Truth::False,
                "InvalidSecret",
                format!("key `{key}` of Secret {namespace}/{name}, named by {field}, {problem}"),
            ),
        };
        Self {
            r#type: ConditionType::ResolvedRefs,
            truth,
            reason,
            message,
        }
    }
}

impl From<Programmed> for Verdict {
    fn from(programmed: Programmed) -> Self {
        let (truth, reason, message) = match programmed {
            Programmed::Programmed => (Truth::True, "Programmed", String::new()),
            Programmed::ConfigRejected { pod, message } => (
                Truth::False,
                "ConfigRejected",
                format!("pod {pod} keeps its old configuration and refuses the new one: {message}"),
            ),
            Programmed::NoReadyPod { hint } => (
                Truth::False,
                "NoReadyPod",
                if hint.is_empty() {
                    "no pod is ready: see the Deployment's pods and their events".to_owned()
                } else {
                    format!("no pod is ready: {hint}")
                },
            ),
            Programmed::Pending(what) => (Truth::False, "Pending", what),
        };
        Self {
            r#type: ConditionType::Programmed,
            truth,
            reason,
            message,
        }
    }
}

impl From<QueueReachable> for Verdict {
    fn from(reachable: QueueReachable) -> Self {
        let (truth, reason, message) = match reachable {
            QueueReachable::Reachable => (Truth::True, "Reachable", String::new()),
            QueueReachable::NoPodAnswers => (
                Truth::Unknown,
                "NoPodAnswers",
                "no pod answers: see the Deployment's pods and their events".to_owned(),
            ),
            QueueReachable::Unreachable {
                pods,
                answered,
                error,
            } => (
                Truth::False,
                "Unreachable",
                format!(
                    "{pods} of {answered} pods do not reach the queue's store ({error}): see that it runs and that the URL in its Secret is right. Clients get 451 meanwhile"
                ),
            ),
        };
        Self {
            r#type: ConditionType::QueueReachable,
            truth,
            reason,
            message,
        }
    }
}

impl From<QueueDurable> for Verdict {
    fn from(durable: QueueDurable) -> Self {
        let (truth, reason, message) = match durable {
            QueueDurable::Verified { level: "Memory" } => (
                Truth::True,
                "Verified",
                "Memory is in force: accepted mail is lost when the queue's store restarts"
                    .to_owned(),
            ),
            QueueDurable::Verified { level } => {
                (Truth::True, "Verified", format!("{level} is in force"))
            }
            QueueDurable::Unmet { reason, remedy } => (Truth::False, reason.as_str(), remedy),
            QueueDurable::NotVerified => (
                Truth::Unknown,
                "NotVerified",
                "no pod has been able to ask the queue's store yet".to_owned(),
            ),
        };
        Self {
            r#type: ConditionType::QueueDurable,
            truth,
            reason,
            message,
        }
    }
}

impl DurabilityReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::AofOff => "AofOff",
            Self::Evicting => "Evicting",
            Self::FailoverCanLose => "FailoverCanLose",
            Self::FsyncPausedOnRewrite => "FsyncPausedOnRewrite",
            Self::NotFsyncAlways => "NotFsyncAlways",
            Self::NotVerified => "NotVerified",
            Self::TooFewReplicas => "TooFewReplicas",
        }
    }
}

impl From<TlsReady> for Verdict {
    fn from(tls: TlsReady) -> Self {
        let (truth, reason, message) = match tls {
            TlsReady::Ready => (Truth::True, "Ready", String::new()),
            TlsReady::Expired { secret, not_after } => (
                Truth::False,
                "Expired",
                format!("the certificate in Secret {secret} ended at {not_after}: renew it"),
            ),
            TlsReady::Invalid { secret, problem } => (
                Truth::False,
                "Invalid",
                format!("Secret {secret} holds no usable certificate: {problem}"),
            ),
            TlsReady::NameMismatch { secret, name } => (
                Truth::False,
                "NameMismatch",
                format!(
                    "the certificate in Secret {secret} is for none of the names applications connect to: add {name}"
                ),
            ),
        };
        Self {
            r#type: ConditionType::TLSReady,
            truth,
            reason,
            message,
        }
    }
}

impl Truth {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a peer said goes in here too.
fn bounded(message: &str) -> String {
    message
        .chars()
        .filter(|c| !c.is_control())
        .take(1024)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{
        Accepted, Condition, Programmed, QueueReachable, ResolvedRefs, Time, Timestamp, Truth,
        Verdict, merge, ready,
    };

    fn verdicts(reachable: QueueReachable) -> Vec<Verdict> {
        let mut verdicts = vec![
            Programmed::Programmed.into(),
            reachable.into(),
            Accepted::Accepted.into(),
            ResolvedRefs::ResolvedRefs.into(),
        ];
        verdicts.push(ready(&verdicts));
        verdicts
    }

    #[test]
    fn ready_is_the_sum() {
        let all = verdicts(QueueReachable::Reachable);
        assert_eq!((all[4].truth, all[4].reason), (Truth::True, "Ready"));

        let unknown = verdicts(QueueReachable::NoPodAnswers);
        assert_eq!(
            (unknown[4].truth, unknown[4].reason),
            (Truth::False, "NoPodAnswers")
        );

        // The cause comes before its effects, however they are listed.
        let missing = ResolvedRefs::SecretNotFound {
            field: "queue.redis.urlSecretRef".to_owned(),
            namespace: "mail".to_owned(),
            name: "redis".to_owned(),
        };
        let effect = Programmed::NoReadyPod {
            hint: String::new(),
        };
        let sum = ready(&[effect.into(), missing.into()]);
        assert_eq!(sum.reason, "SecretNotFound");
        assert!(sum.message.contains("Secret mail/redis"), "{}", sum.message);
    }

    #[test]
    fn merged_again_nothing_moves() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = verdicts(QueueReachable::NoPodAnswers);
        let (conditions, transitions) = merge(&[], &first, Some(1), at(1));
        assert_eq!(transitions.len(), 5);

        let (again, transitions) = merge(&conditions, &first, Some(1), at(2));
        assert_eq!(again, conditions);
        assert!(transitions.is_empty());

        let (later, transitions) = merge(
            &conditions,
            &verdicts(QueueReachable::Reachable),
            Some(2),
            at(3),
        );
        let changed: Vec<_> = transitions.iter().map(|v| v.reason).collect();
        assert_eq!(changed, ["Reachable", "Ready"]);
        let time =
            |conditions: &[Condition], at: usize| conditions[at].last_transition_time.clone();
        assert_eq!(time(&later, 0), Time(at(1)));
        assert_eq!(time(&later, 1), Time(at(3)));
        assert!(later.iter().all(|c| c.observed_generation == Some(2)));
    }

    #[test]
    fn messages_are_bounded_and_on_one_line() {
        let message = format!("a\r\nb{}", "x".repeat(5000));
        let verdict = Programmed::Pending(message).into();
        let (conditions, _) = merge(&[], &[verdict], None, Timestamp::UNIX_EPOCH);
        assert_eq!(conditions[0].message.len(), 1024);
        assert!(conditions[0].message.starts_with("abx"));
    }
}
