use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use api::{MailCredential, MailRelay};
use futures::FutureExt as _;
use futures::channel::mpsc;
use kube::Client;
use kube::client::Body;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use serde_json::json;
use telemetry::metrics::Registry;

use super::{Context, FORGET_EVERY, Guarded, Stores, lock};
use crate::cluster::Cluster;
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::relay::View;
use crate::settings::{LeaseTiming, Settings};

/// A context, and what its watches would write to.
struct Scene {
    context: Context,
    relays: Writer<Guarded<MailRelay>>,
    credentials: Writer<Guarded<MailCredential>>,
}

fn scene() -> Scene {
    let nobody = tower::service_fn(|_: http::Request<Body>| async {
        Ok::<_, Infallible>(http::Response::new(Body::empty()))
    });
    let client = Client::new(nobody, "default");
    let reporter = Reporter {
        controller: "test".to_owned(),
        instance: None,
    };
    let recorder = Recorder::new(client.clone(), reporter);
    let metrics = Arc::new(Metrics::register(&mut Registry::new("0", "0")));
    let seconds = Duration::from_secs;
    let settings = Settings {
        relay_image: "kurier:0".to_owned(),
        relay_image_pull_policy: "Never".to_owned(),
        namespace: "kurier-system".to_owned(),
        identity: "a".to_owned(),
        lease_name: "kurier".to_owned(),
        lease: LeaseTiming::new(seconds(3), seconds(2), seconds(1)).unwrap(),
        listen: ([127, 0, 0, 1], 0).into(),
        cluster_domain: "cluster.local".to_owned(),
        version: "0",
        revision: "0",
    };
    let (relay_store, relays) = store();
    let (credential_store, credentials) = store();
    let stores = Stores {
        relays: relay_store,
        credentials: credential_store,
        routes: store().0,
    };
    let context = Context::new(
        Cluster::new(client, Leadership::default(), recorder, metrics.clone()),
        settings,
        metrics,
        stores,
        mpsc::unbounded().0,
        mpsc::unbounded().0,
    );
    Scene {
        context,
        relays,
        credentials,
    }
}

fn object<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let metadata = json!({"name": name, "namespace": "mail", "uid": name});
    serde_json::from_value(json!({"metadata": metadata, "spec": {}})).unwrap()
}

fn view(relay: &str) -> View {
    View {
        relay_uid: relay.to_owned(),
        address: None,
        credentials: HashMap::new(),
        routes: HashMap::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_remembered_of_objects_that_are_gone() {
    let mut scene = scene();
    for relay in ["old", "new"] {
        scene
            .relays
            .apply_watcher_event(&Event::Apply(object(relay)));
        drop(scene.context.memory(relay));
        scene.context.show("mail", relay, view(relay));
    }
    let credential: Guarded<MailCredential> = object("checkout");
    scene
        .credentials
        .apply_watcher_event(&Event::Apply(credential.clone()));
    scene.context.after_error(&credential);
    let remembered = |context: &Context| {
        let mut memories: Vec<_> = lock(&context.memories).keys().cloned().collect();
        memories.sort();
        let mut views: Vec<_> = lock(&context.views)
            .keys()
            .map(|(_, name)| name.clone())
            .collect();
        views.sort();
        (memories.join(" "), views.join(" "), context.backoff.len())
    };
    let all = || ("new old".to_owned(), "new old".to_owned(), 1);
    scene.context.forget_the_gone();
    assert_eq!(remembered(&scene.context), all(), "everything is there");

    scene
        .relays
        .apply_watcher_event(&Event::Delete(object("old")));
    scene
        .credentials
        .apply_watcher_event(&Event::Delete(credential));
    assert_eq!(remembered(&scene.context), all(), "nobody has looked yet");
    let mut forgetting = std::pin::pin!(scene.context.keep_forgetting());
    assert!(forgetting.as_mut().now_or_never().is_none());
    tokio::time::advance(FORGET_EVERY).await;
    assert!(forgetting.as_mut().now_or_never().is_none());
    let rest = ("new".to_owned(), "new".to_owned(), 0);
    assert_eq!(remembered(&scene.context), rest);
}
