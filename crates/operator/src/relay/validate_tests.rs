use api::condition::{Accepted, Verdict};
use api::relay::MailRelaySpec;
use serde_json::{Value, json};

use super::{Certificate, Identity, ValidRelay, validate};

fn with(extra: Value) -> Result<ValidRelay, Accepted> {
    let mut spec = json!({
        "hostname": "mail.example.com",
        "queue": {"redis": {"urlSecretRef": {"name": "redis"}}},
    });
    for (key, value) in extra.as_object().unwrap() {
        match (spec.get_mut(key), value) {
            (Some(Value::Object(there)), Value::Object(more)) => there.extend(more.clone()),
            _ => spec[key] = value.clone(),
        }
    }
    let spec: MailRelaySpec = serde_json::from_value(spec).unwrap();
    let identity = Identity {
        namespace: "mail".to_owned(),
        name: "outbound".to_owned(),
        uid: "u".to_owned(),
    };
    validate(identity, &spec)
}

/// Expects one refusal whose message holds every part.
fn refused(extra: Value, reason: &str, parts: &[&str]) {
    let verdict: Verdict = with(extra.clone()).expect_err(&extra.to_string()).into();
    assert_eq!(verdict.reason, reason, "{}", verdict.message);
    for part in parts {
        assert!(
            verdict.message.contains(part),
            "{part:?} in {:?}",
            verdict.message
        );
    }
}

#[test]
fn the_smallest_relay() {
    let relay = with(json!({})).unwrap();
    assert_eq!(relay.replicas, 2);
    assert_eq!(relay.queue.id, "mail.outbound");
    assert_eq!(relay.queue.url.key, "url");
    assert_eq!(relay.queue.ca, None);
    assert_eq!(relay.listeners.len(), 1);
    assert_eq!(
        (relay.listeners[0].port, relay.listeners[0].container_port),
        (587, 2587)
    );
    assert_eq!(relay.listeners[0].certificate, Certificate::SelfIssued);
    assert!(relay.listeners[0].auth.required);
    assert_eq!(relay.grace.as_secs(), 90);
}

#[test]
fn a_size_out_of_bounds_is_refused() {
    for (written, good) in [
        ("64Ki", true),
        ("50Mi", true),
        ("63Ki", false),
        ("1Gi", false),
    ] {
        let relay = with(json!({"limits": {"messageSize": written}}));
        assert_eq!(relay.is_ok(), good, "{written}");
    }
}

#[test]
fn certificates_of_redis_have_a_usual_key() {
    let redis = json!({"urlSecretRef": {"name": "redis"}, "caSecretRef": {"name": "redis-ca"}});
    let relay = with(json!({"queue": {"redis": redis}})).unwrap();
    let ca = relay.queue.ca.unwrap();
    assert_eq!((ca.name.as_str(), ca.key.as_str()), ("redis-ca", "ca.crt"));
}

#[test]
fn container_ports() {
    let relay = with(json!({"listeners": [
        {"name": "a", "port": 25}, {"name": "b", "port": 465}, {"name": "c", "port": 2500},
        {"name": "d", "port": 8080},
    ]}))
    .unwrap();
    let ports: Vec<_> = relay.listeners.iter().map(|l| l.container_port).collect();
    assert_eq!(ports, [2025, 2465, 2500, 18080]);
}

#[test]
fn a_level_of_durability_is_carried_out_as_declared() {
    use config::queue::{Durability as D, Replicas};
    let two = Replicas { acks: 2 };
    for (declared, expected) in [
        (json!({"type": "Memory"}), D::Memory),
        (json!({"type": "Fsync"}), D::Fsync),
        (
            json!({"type": "Replicated", "replicated": {"acks": 2}}),
            D::Replicated(two),
        ),
        (
            json!({"type": "FsyncReplicated", "fsyncReplicated": {"acks": 2}}),
            D::FsyncReplicated(two),
        ),
    ] {
        let relay = with(json!({"queue": {"durability": declared}})).unwrap();
        assert_eq!(relay.queue.durability, expected);
    }
}

#[test]
fn refusals_say_what_to_do() {
    refused(
        json!({"queue": {"durability": {"type": "Replicated"}}}),
        "Invalid",
        &["queue.durability", "acks from 1 to 10"],
    );
    refused(
        json!({"listeners": [{"name": "a", "port": 25}, {"name": "b", "port": 2025}]}),
        "Invalid",
        &["listeners[b].port", "2025", "listener a", "choose another"],
    );
    refused(
        json!({"listeners": [{"name": "kurier-health", "port": 25}]}),
        "Invalid",
        &["listeners[kurier-health].name", "choose another"],
    );
    refused(
        json!({"queue": {"lifetime": "1h", "retry": {"initial": "2h", "max": "4h"}}}),
        "Invalid",
        &["queue.retry.initial", "queue.lifetime", "shorten it"],
    );
    refused(
        json!({"pods": {"labels": {"kurier.dev/relay-uid": "x"}}}),
        "Invalid",
        &["pods.labels.kurier.dev/relay-uid", "leave it out"],
    );
    // What the schema refuses already is refused here as well: schemas can be switched off.
    refused(
        json!({"hostname": "a b"}),
        "Invalid",
        &["hostname", "host name"],
    );
    refused(
        json!({"listeners": [{"name": "a", "port": 0}]}),
        "Invalid",
        &["listeners[a].port", "1 to 65535"],
    );
    refused(
        json!({"listeners": [{"name": "a", "port": 25, "allowedNetworks": ["10.0.0.1/8"]}]}),
        "Invalid",
        &["listeners[a].allowedNetworks", "behind its prefix"],
    );
}

#[test]
fn all_problems_are_told_at_once() {
    refused(
        json!({"hostname": "", "queue": {"lifetime": "5d"}, "limits": {"messageSize": "x"}}),
        "Invalid",
        &["hostname", "queue.lifetime", "limits.messageSize"],
    );
}
