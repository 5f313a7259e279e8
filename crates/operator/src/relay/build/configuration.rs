//! The configuration document, its shards, and the manifest that names them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use config::admin::{Admin, Drain, StatusListener};
use config::attachments::{AttachmentFiles, Attachments, shard_file, shard_name};
use config::listener::{Listener, ListenerTls};
use config::queue::{Journal, Queue, Redis, Source, Timing};
use config::relay::{Identity, RelayConfig, Tenant};
use config::{Credential, Digest, Manifest, SCHEMA};

use super::deployment::path;
use super::{BuildError, Input, config_secret, secret, shard_secret};
use crate::apply::Child;
use crate::relay::attach::shard;
use crate::status_client;

pub(super) struct Configuration {
    /// The Secrets, shards first.
    pub(super) children: Vec<Child>,
    pub(super) manifest: Manifest,
    /// Changes when pods must start anew.
    pub(super) fixed_at_start: Digest,
}

pub(super) fn build(input: &Input<'_>) -> Result<Configuration, BuildError> {
    let relay = &input.relay.identity;
    let config = document(input);
    let document = serde_saphyr::to_string(&config)?;
    let mut manifest = Manifest {
        config_hash: Digest::of(document.as_bytes()),
        shards: BTreeMap::new(),
    };
    let mut children = Vec::new();
    for (name, attachments) in shards(input) {
        let text = serde_saphyr::to_string(&attachments)?;
        manifest
            .shards
            .insert(name.clone(), Digest::of(text.as_bytes()));
        let file = shard_file(&name);
        children.push(secret(
            relay,
            shard_secret(relay, &name),
            "Opaque",
            &[(&file, &text)],
        ));
    }
    let manifest_text = serde_json::to_string(&manifest).expect("a manifest is JSON");
    children.push(secret(
        relay,
        config_secret(relay),
        "Opaque",
        &[("manifest.json", &manifest_text), ("relay.yaml", &document)],
    ));
    Ok(Configuration {
        children,
        manifest,
        fixed_at_start: config.fixed_at_start().digest(),
    })
}

/// Attached objects by shard; a shard with nothing in it does not exist.
fn shards(input: &Input<'_>) -> BTreeMap<String, Attachments> {
    let mut shards: BTreeMap<String, Attachments> = BTreeMap::new();
    let mut of = |uid: &str, add: &mut dyn FnMut(&mut Attachments)| {
        let attachments = shards
            .entry(shard_name(shard(uid)))
            .or_insert_with(|| Attachments {
                schema: SCHEMA,
                ..Attachments::default()
            });
        add(attachments);
    };
    for credential in &input.attached.credentials {
        let Some(verifier) = input.material.verifiers.get(&credential.uid) else {
            continue;
        };
        of(&credential.uid, &mut |shard| {
            shard.credentials.push(Credential {
                username: credential.username.clone(),
                tenant: input.relay.identity.namespace.clone(),
                allowed_senders: credential.allowed_senders.clone(),
                scram_sha256: verifier.clone(),
            });
        });
    }
    for route in &input.attached.routes {
        of(&route.uid, &mut |shard| {
            shard.routes.push(route.route.clone())
        });
    }
    shards
}

fn document(input: &Input<'_>) -> RelayConfig {
    let relay = input.relay;
    let identity = &relay.identity;
    RelayConfig {
        schema: SCHEMA,
        identity: Some(Identity {
            uid: identity.uid.clone(),
            namespace: identity.namespace.clone(),
            name: identity.name.clone(),
        }),
        hostname: relay.hostname.clone(),
        listeners: relay
            .listeners
            .iter()
            .map(|listener| Listener {
                name: listener.name.clone(),
                address: everywhere(listener.container_port),
                role: listener.role,
                tls: Some(ListenerTls {
                    mode: listener.mode,
                    certificate_file: file(&format!("{}/{}/tls.crt", path::TLS, listener.name)),
                    key_file: file(&format!("{}/{}/tls.key", path::TLS, listener.name)),
                }),
                auth: listener.auth.clone(),
                allowed_networks: listener.allowed_networks.clone(),
            })
            .collect(),
        default_tenant: identity.namespace.clone(),
        tenants: vec![Tenant {
            name: identity.namespace.clone(),
            sender_domains: relay.sender_domains.clone(),
            weight: 1,
        }],
        queue: Queue {
            id: relay.queue.id.clone(),
            owner: format!(
                "{}/{}/{}",
                input.cluster_uid, identity.namespace, identity.name
            ),
            source: Source::Redis(Redis {
                url: None,
                url_file: Some(file(&format!("{}/url", path::REDIS))),
                ca_file: (relay.queue.ca.as_ref())
                    .map(|_| file(&format!("{}/ca.crt", path::REDIS_CA))),
            }),
            durability: relay.queue.durability,
            lifetime: relay.queue.lifetime,
            held_expiry: config::queue::HeldExpiry::default(),
            retry: relay.queue.retry,
            delay_notice: relay.queue.delay_notice,
            schema: None,
            journal: Journal::default(),
        },
        delivery: relay.delivery.clone(),
        limits: relay.limits.clone(),
        telemetry: relay.telemetry.clone(),
        admin: Admin {
            health: Some(everywhere(path::HEALTH_PORT)),
            status: Some(StatusListener {
                address: everywhere(status_client::PORT),
                certificate_file: file(&format!("{}/tls.crt", path::STATUS_TLS)),
                key_file: file(&format!("{}/tls.key", path::STATUS_TLS)),
                client_ca_file: file(&format!("{}/ca.crt", path::STATUS_TLS)),
            }),
            management: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8025)),
        },
        timing: Timing::default(),
        drain: Drain {
            // What the preStop hook and the kubelet take comes off the grace period.
            deadline: relay
                .grace
                .saturating_sub(Duration::from_secs(path::PRE_STOP_SECONDS + 8))
                .max(Duration::from_secs(6)),
            ..Drain::default()
        },
        attachments: Some(AttachmentFiles {
            directory: file(path::ATTACHMENTS),
            manifest: file(&format!("{}/manifest.json", path::CONFIG)),
        }),
        credentials: Vec::new(),
        routes: Vec::new(),
    }
}

fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
}

fn file(path: &str) -> PathBuf {
    PathBuf::from(path)
}
