//! What a relay made of the objects attached to it, for their own status.

use std::collections::{BTreeMap, HashMap};

use api::condition::Accepted;
use config::attachments::shard_name;
use config::{Manifest, Secret as Password};
use kube::ResourceExt as _;

use super::attach::{Attached, shard};
use super::material::Passwords;
use super::observe::Observation;
use super::status::{AppliedRelay, main_listener, reference_name};

/// What a relay made of the objects attached to it, for their own status.
#[derive(PartialEq)]
pub(crate) struct View {
    pub(crate) relay_uid: String,
    /// HOST:PORT of the listener for applications.
    pub(crate) address: Option<String>,
    /// By UID of the object.
    pub(crate) credentials: HashMap<String, AttachedView<Option<Handover>>>,
    pub(crate) routes: HashMap<String, AttachedView<()>>,
}

#[derive(PartialEq)]
pub(crate) struct AttachedView<T> {
    /// The generation that was looked at.
    pub(crate) generation: Option<i64>,
    pub(crate) accepted: Accepted,
    /// Every ready pod serves it.
    pub(crate) served: bool,
    /// Why it is not served, where that is known.
    pub(crate) waiting: String,
    pub(crate) content: T,
}

/// What an application needs to connect.
#[derive(Clone, PartialEq)]
pub(crate) struct Handover {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) implicit_tls: bool,
    pub(crate) username: String,
    pub(crate) password: Password,
    pub(crate) authority: Option<String>,
    /// UID of the Secret the password is in already.
    pub(crate) told: Option<String>,
}

pub(super) fn view(applied: &AppliedRelay<'_>, attached: &Attached, passwords: &Passwords) -> View {
    let relay = applied.relay;
    let listener = main_listener(relay);
    let handover = |uid: &str, username: &str| {
        let listener = listener?;
        let known = passwords.of(uid)?;
        let (host, authority) = reference_name(applied, &listener.certificate);
        Some(Handover {
            host,
            port: listener.port,
            implicit_tls: listener.mode == config::listener::TlsMode::Implicit,
            username: username.to_owned(),
            password: known.password.clone(),
            authority,
            told: known.told.clone(),
        })
    };
    let served = |uid: &str| is_served(applied.observation, applied.manifest, uid);
    let mut credentials = HashMap::new();
    for credential in &attached.credentials {
        let (served, waiting) = served(&credential.uid);
        credentials.insert(
            credential.uid.clone(),
            AttachedView {
                generation: credential.generation,
                accepted: Accepted::Accepted,
                served,
                waiting,
                content: handover(&credential.uid, &credential.username),
            },
        );
    }
    let mut routes = HashMap::new();
    for route in &attached.routes {
        let (served, waiting) = served(&route.uid);
        routes.insert(
            route.uid.clone(),
            AttachedView {
                generation: route.generation,
                accepted: Accepted::Accepted,
                served,
                waiting,
                content: (),
            },
        );
    }
    let generations: BTreeMap<_, _> = applied
        .refs
        .credentials
        .iter()
        .map(|object| (object.uid(), object.metadata.generation))
        .chain(
            applied
                .refs
                .routes
                .iter()
                .map(|object| (object.uid(), object.metadata.generation)),
        )
        .collect();
    for (uid, refusal) in &attached.refused {
        let generation = generations.get(&Some(uid.clone())).copied().flatten();
        let refused = || (generation, refusal.clone(), String::from("not accepted"));
        let (generation, accepted, waiting) = refused();
        // UIDs are unique over kinds, so it can stand in both.
        credentials.insert(
            uid.clone(),
            AttachedView {
                generation,
                accepted,
                served: false,
                waiting,
                content: None,
            },
        );
        let (generation, accepted, waiting) = refused();
        routes.insert(
            uid.clone(),
            AttachedView {
                generation,
                accepted,
                served: false,
                waiting,
                content: (),
            },
        );
    }
    View {
        relay_uid: relay.identity.uid.clone(),
        address: listener.map(|listener| {
            let (host, _) = reference_name(applied, &listener.certificate);
            format!("{host}:{}", listener.port)
        }),
        credentials,
        routes,
    }
}

fn is_served(observation: &Observation, manifest: &Manifest, uid: &str) -> (bool, String) {
    let shard = shard_name(shard(uid));
    let ready = observation.staying().filter(|pod| pod.ready).count();
    let serving = observation
        .staying()
        .filter(|pod| pod.ready && pod.serves_shard(manifest, &shard))
        .count();
    let served = observation.is_shard_served(manifest, &shard);
    let waiting = match ready {
        _ if served => String::new(),
        0 => "no pod of the relay is ready".to_owned(),
        _ => format!("{serving} of {ready} ready pods serve it"),
    };
    (served, waiting)
}
