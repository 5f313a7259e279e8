//! Certificates and verifiers: kept where there are usable ones, made where not.

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::hmac;
use config::attachments::{Attachments, shard_file, shard_name};
use config::{Digest, SHARDS, ScramVerifier, Secret as Password};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;

use super::attach::{Attached, AttachedCredential};
use super::build;
use super::dereference::{Refs, text, value};
use super::validate::{Certificate, Identity, ValidRelay};
use crate::apply::is_owned;
use crate::certificate::{Authority, CertificateError, Pair, Usage, describe};
use crate::{password, status_client};

/// What children are built from besides the spec. No `Debug`: it holds secrets.
pub(crate) struct Material {
    /// For the status listeners of the pods.
    pub(crate) status: StatusMaterial,
    /// For listeners with `type: SelfIssued`, if there are any.
    pub(crate) listeners: Option<ListenerMaterial>,
    /// By UID of the credential.
    pub(crate) verifiers: BTreeMap<String, ScramVerifier>,
    /// Changes when the queue's address does, or who vouches for it, and gives neither away.
    pub(crate) queue_address: String,
    /// Of the certificate that each listener is to serve, by the listener's name.
    pub(crate) certificates: BTreeMap<String, Digest>,
}

pub(crate) struct StatusMaterial {
    pub(crate) authority: Authority,
    pub(crate) server: Pair,
    pub(crate) client: Pair,
}

pub(crate) struct ListenerMaterial {
    pub(crate) authority: Authority,
    pub(crate) server: Pair,
}

/// Passwords of a relay's credentials, by UID of the credential. Lives as long as the process: a
/// password that nobody was told yet may be lost.
#[derive(Default)]
pub(crate) struct Passwords(HashMap<String, Known>);

pub(crate) struct Known {
    pub(crate) password: Password,
    pub(crate) verifier: ScramVerifier,
    /// UID of the Secret the password was read from; `None` while nobody was told.
    pub(crate) told: Option<String>,
}

impl Passwords {
    pub(crate) fn of(&self, credential_uid: &str) -> Option<&Known> {
        self.0.get(credential_uid)
    }
}

/// # Errors
/// Only when a certificate cannot be made.
pub(crate) fn material(
    relay: &ValidRelay,
    refs: &Refs,
    attached: &Attached,
    passwords: &mut Passwords,
    cluster_domain: &str,
    now: Timestamp,
) -> Result<Material, CertificateError> {
    let status = status_material(&relay.identity, refs, now)?;
    let self_issued = relay
        .listeners
        .iter()
        .any(|l| l.certificate == Certificate::SelfIssued);
    let listeners = self_issued
        .then(|| listener_material(relay, refs, cluster_domain, now))
        .transpose()?;
    let url = refs
        .queue_url
        .as_ref()
        .and_then(|secret| value(secret, &relay.queue.url.key));
    let key = hmac::Key::new(hmac::HMAC_SHA256, status.authority.key.as_bytes());
    let mut address = hmac::Context::with_key(&key);
    address.update(url.unwrap_or_default());
    if let (Some(ca), Some(secret)) = (&relay.queue.ca, &refs.queue_ca) {
        // No address holds the octet between them.
        address.update(&[0]);
        address.update(value(secret, &ca.key).unwrap_or_default());
    }
    let tag = address.sign();
    Ok(Material {
        certificates: certificates(relay, refs, listeners.as_ref()),
        queue_address: tag.as_ref()[..8]
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect(),
        verifiers: verifiers(&relay.identity, refs, &attached.credentials, passwords),
        status,
        listeners,
    })
}

fn certificates(
    relay: &ValidRelay,
    refs: &Refs,
    self_issued: Option<&ListenerMaterial>,
) -> BTreeMap<String, Digest> {
    let served = relay.listeners.iter().filter_map(|listener| {
        let certificate = match &listener.certificate {
            Certificate::SelfIssued => self_issued?.server.certificate.as_bytes(),
            Certificate::Secret(name) => value(refs.certificates.get(name)?.as_ref()?, "tls.crt")?,
        };
        Some((listener.name.clone(), Digest::of(certificate)))
    });
    served.collect()
}

/// The names applications may connect to, the usual one first.
pub(crate) fn service_names(relay: &ValidRelay, cluster_domain: &str) -> Vec<String> {
    let Identity {
        name, namespace, ..
    } = &relay.identity;
    let mut names = vec![
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}.svc.{cluster_domain}"),
        format!("{name}.{namespace}"),
        name.clone(),
    ];
    let hostname = relay.hostname.to_ascii_lowercase();
    if !names.contains(&hostname) {
        names.push(hostname);
    }
    names
}

fn status_material(
    relay: &Identity,
    refs: &Refs,
    now: Timestamp,
) -> Result<StatusMaterial, CertificateError> {
    let kept = owned(relay, refs, &build::status_secret(relay));
    let authority = match kept.and_then(|secret| authority(secret, "ca")) {
        Some(authority) => authority,
        None => Authority::generate(&format!("kurier status {}", relay.uid), now)?,
    };
    let pair = |key: &str, name: &str, usage| match kept.and_then(|secret| pair(secret, key)) {
        Some(pair) if is_usable(&pair, &[name.to_owned()], now) => Ok(pair),
        _ => authority.issue(&[name.to_owned()], usage, now),
    };
    let server = pair(
        "tls",
        &status_client::server_name(&relay.uid),
        Usage::Server,
    )?;
    let client = pair("client", "operator.kurier", Usage::Client)?;
    Ok(StatusMaterial {
        authority,
        server,
        client,
    })
}

fn listener_material(
    relay: &ValidRelay,
    refs: &Refs,
    cluster_domain: &str,
    now: Timestamp,
) -> Result<ListenerMaterial, CertificateError> {
    let identity = &relay.identity;
    let authority = match owned(identity, refs, &build::authority_secret(identity))
        .and_then(|secret| authority(secret, "tls"))
    {
        Some(authority) => authority,
        None => Authority::generate(
            &format!("kurier {}/{}", identity.namespace, identity.name),
            now,
        )?,
    };
    let names = service_names(relay, cluster_domain);
    let kept = owned(identity, refs, &build::listener_secret(identity))
        .filter(|secret| text(secret, "ca.crt") == Some(&authority.certificate))
        .and_then(|secret| pair(secret, "tls"))
        .filter(|pair| is_usable(pair, &names, now));
    let server = match kept {
        Some(pair) => pair,
        None => authority.issue(&names, Usage::Server, now)?,
    };
    Ok(ListenerMaterial { authority, server })
}

fn verifiers(
    relay: &Identity,
    refs: &Refs,
    credentials: &[AttachedCredential],
    passwords: &mut Passwords,
) -> BTreeMap<String, ScramVerifier> {
    passwords
        .0
        .retain(|uid, _| credentials.iter().any(|credential| credential.uid == *uid));
    let persisted = persisted_verifiers(relay, refs);
    let mut verifiers = BTreeMap::new();
    for credential in credentials {
        let told = told_password(refs, credential);
        let known = passwords.0.remove(&credential.uid);
        let known = match (told, known) {
            // Nothing new. The usual case costs no key derivation.
            (Some((secret_uid, password)), Some(known)) if known.password == password => Known {
                told: Some(secret_uid),
                ..known
            },
            (Some((secret_uid, password)), _) => {
                let verifier = persisted
                    .get(&credential.username)
                    .filter(|verifier| password::matches(verifier, &password))
                    .cloned()
                    .unwrap_or_else(|| password::verifier(&password));
                Known {
                    password,
                    verifier,
                    told: Some(secret_uid),
                }
            }
            (None, Some(known)) if known.told.is_none() => known,
            // Nobody was told yet, or whoever was told has thrown the Secret away: a new password.
            (None, _) => {
                let password = password::generate();
                Known {
                    verifier: password::verifier(&password),
                    password,
                    told: None,
                }
            }
        };
        verifiers.insert(credential.uid.clone(), known.verifier.clone());
        passwords.0.insert(credential.uid.clone(), known);
    }
    verifiers
}

/// The password in the credential's own Secret, under its present or its former name.
fn told_password(refs: &Refs, credential: &AttachedCredential) -> Option<(String, Password)> {
    let mut secrets: Vec<_> = refs
        .credential_secrets
        .iter()
        .filter(|secret| is_owned(&secret.metadata, &credential.uid))
        .collect();
    secrets.sort_by_key(|secret| secret.name_any() != credential.secret_name);
    secrets.into_iter().find_map(|secret| {
        let password = text(secret, "SMTP_PASSWORD").filter(|password| !password.is_empty())?;
        Some((secret.uid()?, Password::new(password)))
    })
}

/// Verifiers that the shards hold now, by user name: their salts are kept.
fn persisted_verifiers(relay: &Identity, refs: &Refs) -> HashMap<String, ScramVerifier> {
    let mut verifiers = HashMap::new();
    for shard in (0..SHARDS).map(shard_name) {
        let parsed = owned(relay, refs, &build::shard_secret(relay, &shard))
            .and_then(|secret| text(secret, &shard_file(&shard)))
            .and_then(|yaml| serde_saphyr::from_str::<Attachments>(yaml).ok());
        for credential in parsed.map(|shard| shard.credentials).unwrap_or_default() {
            verifiers.insert(credential.username, credential.scram_sha256);
        }
    }
    verifiers
}

fn owned<'a>(relay: &Identity, refs: &'a Refs, name: &str) -> Option<&'a Secret> {
    refs.owned
        .iter()
        .find(|secret| secret.name_any() == name && is_owned(&secret.metadata, &relay.uid))
}

fn authority(secret: &Secret, key: &str) -> Option<Authority> {
    let Pair { certificate, key } = pair(secret, key)?;
    describe(&certificate).ok()?;
    Some(Authority { certificate, key })
}

fn pair(secret: &Secret, key: &str) -> Option<Pair> {
    Some(Pair {
        certificate: text(secret, &format!("{key}.crt"))?.to_owned(),
        key: text(secret, &format!("{key}.key"))?.to_owned(),
    })
}

fn is_usable(pair: &Pair, names: &[String], now: Timestamp) -> bool {
    describe(&pair.certificate).is_ok_and(|read| read.names == names && !read.is_due(now))
}

#[cfg(test)]
#[path = "material_tests.rs"]
mod tests;
