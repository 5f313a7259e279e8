//! Which credentials and routes a relay takes. Pure.

use std::collections::BTreeMap;

use api::condition::Accepted;
use api::route::ActionType;
use api::{MailCredential, MailRoute};
use config::route::{Match, RuleLimits};
use config::{Action, Route, Rule, SHARDS, SenderPattern, Smarthost};
use kube::ResourceExt as _;
use sha2::{Digest as _, Sha256};

use super::validate::{ValidRelay, next_hop_tls, rate};

/// What will be served, and why the rest will not.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct Attached {
    pub(crate) credentials: Vec<AttachedCredential>,
    pub(crate) routes: Vec<AttachedRoute>,
    /// By UID of the object.
    pub(crate) refused: BTreeMap<String, Accepted>,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct AttachedCredential {
    pub(crate) uid: String,
    pub(crate) generation: Option<i64>,
    pub(crate) username: String,
    pub(crate) secret_name: String,
    pub(crate) allowed_senders: Vec<SenderPattern>,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct AttachedRoute {
    pub(crate) uid: String,
    pub(crate) generation: Option<i64>,
    pub(crate) route: Route,
}

/// The shard an attached object is in, for ever: which one must not depend on the others.
pub(crate) fn shard(uid: &str) -> u8 {
    Sha256::digest(uid.as_bytes())[0] % SHARDS
}

pub(crate) fn attach(
    relay: &ValidRelay,
    mut credentials: Vec<MailCredential>,
    routes: Vec<MailRoute>,
) -> Attached {
    let mut attached = Attached::default();
    // The oldest first, so that one more credential takes nothing from those that are there.
    credentials.sort_by_key(|credential| {
        (
            credential.creation_timestamp(),
            credential.uid().unwrap_or_default(),
        )
    });
    for credential in credentials {
        let Some(uid) = credential.uid() else {
            continue;
        };
        if let Some(limit) = relay.max_credentials
            && attached.credentials.len() >= usize::try_from(limit).unwrap_or(0)
        {
            let relay = relay.identity.name.clone();
            attached
                .refused
                .insert(uid, Accepted::TooMany { relay, limit });
            continue;
        }
        match self::credential(&credential, uid.clone()) {
            Ok(valid) => attached.credentials.push(valid),
            Err(refusal) => drop(attached.refused.insert(uid, refusal)),
        }
    }
    for route in routes {
        let Some(uid) = route.uid() else { continue };
        match self::route(&route, uid.clone()) {
            Ok(valid) => attached.routes.push(valid),
            Err(refusal) => drop(attached.refused.insert(uid, refusal)),
        }
    }
    attached
        .credentials
        .sort_by(|a, b| a.username.cmp(&b.username));
    attached
        .routes
        .sort_by(|a, b| a.route.name.cmp(&b.route.name));
    attached
}

fn credential(credential: &MailCredential, uid: String) -> Result<AttachedCredential, Accepted> {
    let mut problems = Vec::new();
    let mut allowed_senders = Vec::new();
    for sender in &credential.spec.allowed_senders {
        match sender.parse() {
            Ok(pattern) => allowed_senders.push(pattern),
            Err(error) => problems.push(format!("allowedSenders: {error}")),
        }
    }
    let password = credential
        .spec
        .authentication
        .iter()
        .find_map(|a| a.password.as_ref());
    if password.is_none() {
        problems.push("authentication: type Password needs password".to_owned());
    }
    match password {
        Some(password) if problems.is_empty() => Ok(AttachedCredential {
            uid,
            generation: credential.metadata.generation,
            username: format!(
                "{}.{}",
                credential.name_any(),
                credential.namespace().unwrap_or_default()
            ),
            secret_name: password.secret_name.clone(),
            allowed_senders,
        }),
        _ => Err(Accepted::Invalid(problems)),
    }
}

fn route(route: &MailRoute, uid: String) -> Result<AttachedRoute, Accepted> {
    let mut problems = Vec::new();
    let mut rules = Vec::new();
    for rule in &route.spec.rules {
        let field = |name: &str| format!("rules[{}].{name}", rule.name);
        let mut recipient_domains = Vec::new();
        for domain in &rule.r#match.recipient_domains {
            match domain.parse() {
                Ok(pattern) => recipient_domains.push(pattern),
                Err(error) => {
                    problems.push(format!("{}: {error}", field("match.recipientDomains")));
                }
            }
        }
        let action = match (rule.action.r#type, &rule.action.smarthost) {
            (ActionType::Mx, _) => Ok(Action::Mx),
            (ActionType::Smarthost, None) => Err("type Smarthost needs smarthost"),
            (ActionType::Smarthost, Some(smarthost)) => u16::try_from(smarthost.port)
                .map_err(|_| "smarthost.port must be from 1 to 65535")
                .and_then(|port| {
                    Action::smarthost(Smarthost {
                        host: smarthost.host.clone(),
                        port,
                        tls: next_hop_tls(smarthost.tls),
                    })
                }),
        };
        let limits = rule.limits.as_ref().map(limits).transpose();
        match (action, limits) {
            (Ok(action), Ok(limits)) => {
                if let Some(problem) = limits.as_ref().and_then(|limits| limits.problem(&action)) {
                    problems.push(format!("{}: {problem}", field("limits")));
                }
                rules.push(Rule {
                    name: rule.name.clone(),
                    r#match: Match { recipient_domains },
                    action,
                    limits,
                });
            }
            (action, limits) => {
                if let Err(problem) = action {
                    problems.push(format!("{}: {problem}", field("action")));
                }
                if let Err(problem) = limits {
                    problems.push(format!("{}: {problem}", field("limits")));
                }
            }
        }
    }
    if !problems.is_empty() {
        return Err(Accepted::Invalid(problems));
    }
    Ok(AttachedRoute {
        uid,
        generation: route.metadata.generation,
        route: Route {
            name: route.name_any(),
            priority: route.spec.priority,
            rules,
        },
    })
}

fn limits(limits: &api::route::RuleLimits) -> Result<RuleLimits, String> {
    let rate = limits.rate.as_ref().map(rate).transpose();
    Ok(RuleLimits {
        concurrency: limits.concurrency.map(i32::unsigned_abs),
        rate: rate.map_err(|problem| format!("rate.{problem}"))?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use api::condition::Accepted;
    use api::{MailCredential, MailRoute};
    use config::route::RuleLimits;
    use serde_json::{Value, json};

    use super::{Attached, attach, shard};
    use crate::relay::fixtures;

    fn credential(name: &str, created: &str) -> MailCredential {
        serde_json::from_value(json!({
            "apiVersion": "kurier.dev/v1alpha1", "kind": "MailCredential",
            "metadata": {"name": name, "namespace": "mail", "uid": name, "creationTimestamp": created},
            "spec": {
                "relayRef": {"name": "outbound"},
                "allowedSenders": ["*@example.com"],
                "authentication": [{"name": "pw", "type": "Password", "password": {"secretName": "s"}}],
            },
        }))
        .unwrap()
    }

    fn route(action: &Value) -> MailRoute {
        serde_json::from_value(json!({
            "apiVersion": "kurier.dev/v1alpha1", "kind": "MailRoute",
            "metadata": {"name": "r", "namespace": "mail", "uid": "r"},
            "spec": {"parentRefs": [{"name": "outbound"}], "rules": [{"name": "x", "action": action}]},
        }))
        .unwrap()
    }

    #[test]
    fn the_oldest_credentials_are_kept() {
        let mut relay = fixtures::relay();
        relay.max_credentials = Some(1);
        let young = credential("young", "2026-02-01T00:00:00Z");
        let old = credential("old", "2026-01-01T00:00:00Z");
        let attached = attach(&relay, vec![young, old], vec![]);
        assert_eq!(attached.credentials[0].username, "old.mail");
        assert!(matches!(
            attached.refused["young"],
            Accepted::TooMany { limit: 1, .. }
        ));
    }

    #[test]
    fn routes() {
        let with = |action: &Value| attach(&fixtures::relay(), vec![], vec![route(action)]);
        let valid: Attached =
            with(&json!({"type": "Smarthost", "smarthost": {"host": "10.0.0.1"}}));
        assert_eq!(valid.routes[0].route.rules.len(), 1);
        for action in [
            json!({"type": "Smarthost"}),
            json!({"type": "Smarthost", "smarthost": {"host": "a b"}}),
            json!({"type": "Smarthost", "smarthost": {"host": "a", "port": 70000}}),
        ] {
            assert!(
                matches!(with(&action).refused["r"], Accepted::Invalid(_)),
                "{action}"
            );
        }
    }

    #[test]
    fn limits_of_a_smarthost() {
        let with = |action: &Value, limits: &Value| {
            let mut route = route(action);
            route.spec.rules[0].limits = Some(serde_json::from_value(limits.clone()).unwrap());
            attach(&fixtures::relay(), vec![], vec![route])
        };
        let smarthost = json!({"type": "Smarthost", "smarthost": {"host": "10.0.0.1"}});
        let valid = with(
            &smarthost,
            &json!({"concurrency": 5, "rate": {"messages": 10, "per": "1s"}}),
        );
        let expected = RuleLimits {
            concurrency: Some(5),
            rate: Some(config::delivery::Rate {
                messages: 10,
                per: Duration::from_secs(1),
                burst: 1,
            }),
        };
        assert_eq!(valid.routes[0].route.rules[0].limits, Some(expected));
        for (action, limits) in [
            (&smarthost, json!({"concurrency": 0})),
            (&smarthost, json!({"rate": {"messages": 1, "per": "25h"}})),
            (&smarthost, json!({"rate": {"messages": 1, "per": "often"}})),
            (&json!({"type": "MX"}), json!({"concurrency": 5})),
        ] {
            assert!(
                matches!(with(action, &limits).refused["r"], Accepted::Invalid(_)),
                "{limits}"
            );
        }
    }

    #[test]
    fn shards_do_not_move() {
        // SHA-256("a") begins with ca, SHA-256("b") with 3e.
        assert_eq!((shard("a"), shard("b")), (0xca % 16, 0x3e % 16));
    }
}
