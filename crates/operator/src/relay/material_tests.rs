use api::relay::CaSecretRef;
use jiff::{Span, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use super::{Material, Passwords, material};
use crate::relay::attach::{Attached, AttachedCredential};
use crate::relay::build::{Input, build};
use crate::relay::dereference::{Refs, text};
use crate::relay::fixtures;
use crate::relay::validate::ValidRelay;

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn attached() -> Attached {
    Attached {
        credentials: vec![AttachedCredential {
            uid: "c".to_owned(),
            generation: Some(1),
            username: "checkout.mail".to_owned(),
            secret_name: "checkout-smtp".to_owned(),
            allowed_senders: Vec::new(),
        }],
        ..Attached::default()
    }
}

fn make(refs: &Refs, passwords: &mut Passwords, at: Timestamp) -> Material {
    make_for(&fixtures::relay(), refs, passwords, at)
}

fn make_for(relay: &ValidRelay, refs: &Refs, passwords: &mut Passwords, at: Timestamp) -> Material {
    material(relay, refs, &attached(), passwords, "cluster.local", at).unwrap()
}

/// The Secrets that the API server would hold after `material` was applied.
fn stored(material: &Material) -> Vec<Secret> {
    let (relay, attached) = (fixtures::relay(), attached());
    let input = Input {
        relay: &relay,
        attached: &attached,
        material,
        cluster_uid: "",
        image: "",
        image_pull_policy: "",
    };
    let children = build(&input).unwrap().children;
    children
        .into_iter()
        .filter(|child| child.object["kind"] == json!("Secret"))
        .map(|child| serde_json::from_value(child.object).unwrap())
        .collect()
}

#[test]
fn what_is_stored_is_kept_and_renewed_in_time() {
    let first = make(&fixtures::refs(), &mut Passwords::default(), now());
    let refs = Refs {
        owned: stored(&first),
        ..fixtures::refs()
    };

    let again = make(
        &refs,
        &mut Passwords::default(),
        now() + Span::new().hours(24 * 30),
    );
    assert!(again.status.server == first.status.server);
    assert!(again.status.client == first.status.client);
    let listeners = |material: &Material| material.listeners.as_ref().unwrap().server.clone();
    assert!(listeners(&again) == listeners(&first));
    assert_eq!(again.queue_address, first.queue_address);

    let later = make(
        &refs,
        &mut Passwords::default(),
        now() + Span::new().hours(24 * 65),
    );
    assert!(
        listeners(&later) != listeners(&first),
        "renewed in the last third"
    );
    assert!(later.status.server != first.status.server);
    let authority = |material: &Material| {
        material
            .listeners
            .as_ref()
            .unwrap()
            .authority
            .certificate
            .clone()
    };
    assert_eq!(
        authority(&later),
        authority(&first),
        "applications keep trusting it"
    );
}

#[test]
fn each_listener_is_to_serve_what_its_secret_holds() {
    let material = make(&fixtures::refs(), &mut Passwords::default(), now());
    let issued = &material.listeners.as_ref().unwrap().server.certificate;
    let expected = [
        ("smtp", issued.as_str()),
        ("smtps", "certificate"),
        ("submission", issued),
    ]
    .map(|(listener, pem)| (listener.to_owned(), config::Digest::of(pem.as_bytes())));
    assert_eq!(material.certificates, expected.into());
}

#[test]
fn the_queue_address_tells_a_change_and_nothing_else() {
    let first = make(&fixtures::refs(), &mut Passwords::default(), now());
    let mut refs = Refs {
        owned: stored(&first),
        ..fixtures::refs()
    };
    refs.queue_url = Some(fixtures::secret("redis", &[("url", "redis://other:6379")]));
    let moved = make(&refs, &mut Passwords::default(), now());
    assert_ne!(moved.queue_address, first.queue_address);
    assert_eq!(moved.queue_address.len(), 16);

    let mut relay = fixtures::relay();
    relay.queue.ca = Some(CaSecretRef {
        name: "redis-ca".to_owned(),
        key: "ca.crt".to_owned(),
    });
    let mut vouched = |ca: &str| {
        refs.queue_ca = Some(fixtures::secret("redis-ca", &[("ca.crt", ca)]));
        make_for(&relay, &refs, &mut Passwords::default(), now()).queue_address
    };
    let (one, other) = (vouched("one"), vouched("other"));
    assert!(one != moved.queue_address && one != other);
}

fn told(password: &str) -> Secret {
    let mut secret = fixtures::secret("checkout-smtp", &[("SMTP_PASSWORD", password)]);
    secret.metadata.owner_references = serde_json::from_value(json!([
        {"apiVersion": "v", "kind": "MailCredential", "name": "checkout", "uid": "c", "controller": true}
    ]))
    .unwrap();
    secret
}

#[test]
fn a_password_is_made_once_and_its_salt_is_kept() {
    let mut passwords = Passwords::default();
    let first = make(&fixtures::refs(), &mut passwords, now());
    let password = passwords.of("c").unwrap().password.clone();
    assert_eq!(passwords.of("c").unwrap().told, None);

    // Until somebody is told, the same one is served on.
    let second = make(&fixtures::refs(), &mut passwords, now());
    assert_eq!(second.verifiers, first.verifiers);

    // After a restart it is read back from the Secret, and the verifier from the shard.
    let refs = Refs {
        owned: stored(&first),
        credential_secrets: vec![told(password.expose())],
        ..fixtures::refs()
    };
    let mut restarted = Passwords::default();
    assert_eq!(
        make(&refs, &mut restarted, now()).verifiers,
        first.verifiers
    );
    assert_eq!(
        restarted.of("c").unwrap().told.as_deref(),
        Some("checkout-smtp")
    );

    // Whoever throws the Secret away gets a new password.
    let refs = Refs {
        owned: stored(&first),
        ..fixtures::refs()
    };
    let renewed = make(&refs, &mut restarted, now());
    assert_ne!(renewed.verifiers, first.verifiers);
    assert_ne!(restarted.of("c").unwrap().password, password);
    assert_eq!(restarted.of("c").unwrap().told, None);
}

#[test]
fn a_secret_of_somebody_else_is_not_believed() {
    let mut foreign = told("chosen by somebody");
    foreign.metadata.owner_references = None;
    let refs = Refs {
        credential_secrets: vec![foreign],
        ..fixtures::refs()
    };
    let mut passwords = Passwords::default();
    make(&refs, &mut passwords, now());
    assert_ne!(
        passwords.of("c").unwrap().password.expose(),
        "chosen by somebody"
    );
}

#[test]
fn pods_get_no_key_that_is_not_theirs() {
    let first = make(&fixtures::refs(), &mut Passwords::default(), now());
    let secrets = stored(&first);
    let status = secrets
        .iter()
        .find(|s| s.metadata.name.as_deref() == Some("outbound-status-tls"));
    assert!(
        text(status.unwrap(), "ca.key").is_some(),
        "kept, but not mounted: see the build tests"
    );
}
