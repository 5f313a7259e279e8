use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::relay::CaSecretRef;
use config::queue::Source;
use config::{RelayConfig, ScramVerifier};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};

use super::{Built, Input, build};
use crate::apply::ChildKind;
use crate::certificate::{Authority, Pair};
use crate::relay::attach::{Attached, AttachedCredential, AttachedRoute};
use crate::relay::dereference::text;
use crate::relay::fixtures;
use crate::relay::material::{ListenerMaterial, Material, StatusMaterial};
use crate::relay::validate::ValidRelay;

fn pair(name: &str) -> Pair {
    Pair {
        certificate: format!("{name} certificate"),
        key: format!("{name} key"),
    }
}

fn authority(name: &str) -> Authority {
    Authority {
        certificate: format!("{name} certificate"),
        key: format!("{name} key"),
    }
}

fn material() -> Material {
    let verifier = ScramVerifier {
        salt: vec![7; 16],
        iterations: 4096.try_into().unwrap(),
        stored_key: [1; 32],
        server_key: [2; 32],
    };
    Material {
        status: StatusMaterial {
            authority: authority("status authority"),
            server: pair("status server"),
            client: pair("status client"),
        },
        listeners: Some(ListenerMaterial {
            authority: authority("listener authority"),
            server: pair("listener"),
        }),
        verifiers: BTreeMap::from([("c".to_owned(), verifier)]),
        queue_address: "0123456789abcdef".to_owned(),
        certificates: BTreeMap::new(),
    }
}

fn attached() -> Attached {
    Attached {
        credentials: vec![AttachedCredential {
            uid: "c".to_owned(),
            generation: Some(1),
            username: "checkout.mail".to_owned(),
            secret_name: "checkout-smtp".to_owned(),
            allowed_senders: vec!["*@example.com".parse().unwrap()],
        }],
        routes: vec![AttachedRoute {
            uid: "r".to_owned(),
            generation: Some(1),
            route: serde_saphyr::from_str(
                "{name: corp, rules: [{name: a, action: {type: Smarthost, smarthost: {host: h}}}]}",
            )
            .unwrap(),
        }],
        ..Attached::default()
    }
}

fn built(attached: &Attached) -> Built {
    built_of(&fixtures::relay(), attached)
}

fn built_of(relay: &ValidRelay, attached: &Attached) -> Built {
    let material = material();
    build(&Input {
        relay,
        attached,
        material: &material,
        cluster_uid: "0a0a",
        image: "example.com/kurier:1",
        image_pull_policy: "IfNotPresent",
    })
    .unwrap()
}

fn child(built: &Built, kind: ChildKind, name: &str) -> Value {
    let found = built
        .children
        .iter()
        .find(|child| child.kind == kind && child.name == name);
    found
        .unwrap_or_else(|| panic!("no {kind:?} {name}"))
        .object
        .clone()
}

/// Compares with the file of that name; `KURIER_WRITE_FIXTURES=1` writes it instead.
fn check(name: &str, actual: &str) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/children")
        .join(format!("{name}.yaml"));
    if std::env::var_os("KURIER_WRITE_FIXTURES").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        actual,
        expected,
        "{} differs from what is built",
        path.display()
    );
}

fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).unwrap()
}

#[test]
fn children_are_as_written_down() {
    let built = built(&attached());
    check(
        "deployment",
        &yaml(&child(&built, ChildKind::Deployment, "outbound")),
    );
    check(
        "service",
        &yaml(&child(&built, ChildKind::Service, "outbound")),
    );
    check(
        "service-account",
        &yaml(&child(&built, ChildKind::ServiceAccount, "outbound")),
    );
    check(
        "disruption-budget",
        &yaml(&child(&built, ChildKind::PodDisruptionBudget, "outbound")),
    );
    let config: Secret =
        serde_json::from_value(child(&built, ChildKind::Secret, "outbound-config-1")).unwrap();
    check("relay", text(&config, "relay.yaml").unwrap());
}

#[test]
fn children_are_what_the_api_server_expects() {
    // Every field is known to the typed object, so none is dropped by the way through it.
    fn round_trip<T: serde::de::DeserializeOwned + serde::Serialize>(object: &Value) {
        let typed: T = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(&serde_json::to_value(typed).unwrap(), object);
    }
    for child in built(&attached()).children {
        match child.kind {
            ChildKind::Deployment => round_trip::<Deployment>(&child.object),
            ChildKind::Service => round_trip::<Service>(&child.object),
            ChildKind::ServiceAccount => round_trip::<ServiceAccount>(&child.object),
            ChildKind::PodDisruptionBudget => round_trip::<PodDisruptionBudget>(&child.object),
            ChildKind::Secret => round_trip::<Secret>(&child.object),
        }
    }
}

#[test]
fn documents_can_be_loaded_and_match_their_manifest() {
    let built = built(&attached());
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let mut files = 0;
    for child in built
        .children
        .iter()
        .filter(|child| child.kind == ChildKind::Secret)
    {
        let secret: Secret = serde_json::from_value(child.object.clone()).unwrap();
        for name in secret.data.iter().flatten().map(|(name, _)| name) {
            if name == "manifest.json" || name.starts_with("shard-") {
                write(name, text(&secret, name).unwrap());
                files += 1;
            } else if name == "relay.yaml" {
                let document = text(&secret, name).unwrap();
                let parsed: RelayConfig = config::parse(document, Path::new(name)).unwrap();
                assert_eq!(parsed.queue.owner, "0a0a/mail/outbound");
                assert_eq!(parsed.drain.deadline.as_secs(), 77);
                // The same document with its files elsewhere, and the manifest with its digest.
                let here = directory.path().display().to_string();
                let moved = document
                    .replace("/etc/kurier/attachments", &here)
                    .replace("/etc/kurier/config", &here);
                write("relay.yaml", &moved);
            }
        }
    }
    assert!(files >= 3, "{files}");
    let mut manifest = built.manifest;
    let moved = std::fs::read(directory.path().join("relay.yaml")).unwrap();
    manifest.config_hash = config::Digest::of(&moved);
    write("manifest.json", &serde_json::to_string(&manifest).unwrap());
    let loaded = config::load(&directory.path().join("relay.yaml")).unwrap();
    assert_eq!(loaded.credentials[0].username, "checkout.mail");
    assert_eq!(loaded.credentials[0].tenant, "mail");
    assert_eq!(loaded.routes[0].name, "corp");
}

#[test]
fn pods_get_the_certificates_that_vouch_for_redis() {
    let mut relay = fixtures::relay();
    relay.queue.ca = Some(CaSecretRef {
        name: "redis-ca".to_owned(),
        key: "bundle.pem".to_owned(),
    });
    let built = built_of(&relay, &attached());
    let deployment = child(&built, ChildKind::Deployment, "outbound");
    let spec = &deployment["spec"]["template"]["spec"];
    let named = |list: &Value| -> Value {
        let list = list.as_array().unwrap();
        list.iter()
            .find(|entry| entry["name"] == "redis-ca")
            .unwrap()
            .clone()
    };
    assert_eq!(
        named(&spec["volumes"])["secret"],
        json!({
            "secretName": "redis-ca",
            "items": [{"key": "bundle.pem", "path": "ca.crt"}],
            "defaultMode": 0o440,
        })
    );
    let config = child(&built, ChildKind::Secret, "outbound-config-1");
    let config: Secret = serde_json::from_value(config).unwrap();
    let document = text(&config, "relay.yaml").unwrap();
    let parsed = config::parse(document, Path::new("relay.yaml")).unwrap();
    let Source::Redis(redis) = parsed.queue.source else {
        panic!("{document}")
    };
    let folder = named(&spec["containers"][0]["volumeMounts"])["mountPath"].clone();
    let file = Path::new(folder.as_str().unwrap()).join("ca.crt");
    assert_eq!(redis.ca_file, Some(file));
}

#[test]
fn an_empty_shard_does_not_exist() {
    let built = built(&Attached::default());
    assert!(built.manifest.shards.is_empty());
    assert!(
        !built
            .children
            .iter()
            .any(|child| child.name.contains("-shard-"))
    );
}

#[test]
fn equal_input_gives_equal_children() {
    let (one, other) = (built(&attached()), built(&attached()));
    assert!(one.children == other.children);
    assert_eq!(one.manifest, other.manifest);
}

#[test]
fn attachments_do_not_touch_the_relays_own_configuration() {
    assert_eq!(
        built(&attached()).manifest.config_hash,
        built(&Attached::default()).manifest.config_hash
    );
}

#[test]
fn pods_keep_nothing_and_may_do_nothing() {
    let deployment = child(&built(&attached()), ChildKind::Deployment, "outbound");
    let spec = &deployment["spec"]["template"]["spec"];
    assert_eq!(spec["automountServiceAccountToken"], false);
    for volume in spec["volumes"].as_array().unwrap() {
        assert!(
            volume["secret"].is_object() || volume["projected"].is_object(),
            "{volume}"
        );
    }
    assert!(!deployment.to_string().contains("subPath"));
    for secret in ["ca.key", "client.key", "outbound-ca"] {
        assert!(
            !deployment.to_string().contains(secret),
            "{secret} is mounted"
        );
    }
    let projected = &spec["volumes"][1]["projected"]["sources"];
    assert_eq!(projected.as_array().unwrap().len(), 16);
    assert!(
        projected
            .as_array()
            .unwrap()
            .iter()
            .all(|s| s["secret"]["optional"] == true)
    );
}
