use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::client::Body;
use kube::runtime::events::{Recorder, Reporter};
use serde_json::{Value, json};
use telemetry::metrics::Registry;
use tokio::time::{Duration, Instant};

use super::{Cluster, ClusterError, Created};
use crate::apply::{Applied, ApplyError, Child, ChildKind, apply};
use crate::leader::Leadership;
use crate::metrics::Metrics;

/// A request as the API server saw it.
#[derive(Clone, Debug)]
struct Seen {
    method: String,
    path: String,
    content_type: String,
    body: Value,
}

/// Answers by method and path; everything else is 404.
#[derive(Clone, Default)]
struct ApiServer {
    answers: Arc<BTreeMap<(String, String), (u16, Value)>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl ApiServer {
    fn new(answers: &[(&str, &str, u16, Value)]) -> Self {
        let answers = answers
            .iter()
            .map(|(method, path, code, body)| {
                (
                    ((*method).to_owned(), (*path).to_owned()),
                    (*code, body.clone()),
                )
            })
            .collect();
        Self {
            answers: Arc::new(answers),
            seen: Arc::default(),
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn writes(&self) -> Vec<Seen> {
        self.seen()
            .into_iter()
            .filter(|seen| seen.method != "GET")
            .collect()
    }

    fn cluster(&self, leads: bool) -> Cluster {
        let server = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let client = Client::new(service, "default");
        let leadership = Leadership::default();
        if leads {
            leadership.hold_until(Instant::now() + Duration::from_secs(60));
        }
        let reporter = Reporter {
            controller: "test".to_owned(),
            instance: None,
        };
        let recorder = Recorder::new(client.clone(), reporter);
        let metrics = Metrics::register(&mut Registry::new("0", "0"));
        Cluster::new(client, leadership, recorder, Arc::new(metrics))
    }

    async fn answer(&self, request: http::Request<Body>) -> http::Response<Body> {
        let (parts, body) = request.into_parts();
        let octets = body.collect().await.unwrap().to_bytes();
        let header = parts.headers.get(http::header::CONTENT_TYPE);
        let seen = Seen {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            content_type: header
                .map(|v| v.to_str().unwrap().to_owned())
                .unwrap_or_default(),
            body: serde_json::from_slice(&octets).unwrap_or_default(),
        };
        let not_found = (
            404,
            json!({"kind": "Status", "apiVersion": "v1", "code": 404, "reason": "NotFound"}),
        );
        let key = (seen.method.clone(), seen.path.clone());
        let (code, body) = self.answers.get(&key).cloned().unwrap_or(not_found);
        self.seen.lock().unwrap().push(seen);
        http::Response::builder()
            .status(code)
            .body(Body::from(body.to_string().into_bytes()))
            .unwrap()
    }
}

fn secret(name: &str) -> Secret {
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "mail", "uid": "u"}}))
        .unwrap()
}

#[tokio::test]
async fn whoever_does_not_lead_writes_nothing() {
    let server = ApiServer::default();
    let cluster = server.cluster(false);
    let results = [
        cluster.create("mail", &secret("a")).await.map(drop),
        cluster.update("mail", &secret("a")).await,
        cluster.delete("mail", &secret("a")).await,
        cluster.bump("mail", "pod", "x").await,
        cluster
            .write_status::<api::MailRelay>("mail", "outbound", &json!({}))
            .await,
        cluster
            .apply("mail", &ChildKind::Secret.resource(), "a", &json!({}))
            .await
            .map(drop),
    ];
    for result in results {
        assert!(
            matches!(result, Err(ClusterError::NotLeading)),
            "{result:?}"
        );
    }
    assert!(server.seen().is_empty(), "{:?}", server.seen());
}

#[tokio::test]
async fn a_secret_that_is_there_is_not_touched() {
    let conflict =
        json!({"kind": "Status", "apiVersion": "v1", "code": 409, "reason": "AlreadyExists"});
    let server = ApiServer::new(&[("POST", "/api/v1/namespaces/mail/secrets", 409, conflict)]);
    let created = server
        .cluster(true)
        .create("mail", &secret("a"))
        .await
        .unwrap();
    assert_eq!(created, Created::Exists);
    assert_eq!(server.writes().len(), 1);
}

#[tokio::test]
async fn pods_are_bumped_through_their_status_alone() {
    let path = "/api/v1/namespaces/mail/pods/p/status";
    let server = ApiServer::new(&[("PATCH", path, 200, json!({"metadata": {"name": "p"}}))]);
    server
        .cluster(true)
        .bump("mail", "p", "abc-0")
        .await
        .unwrap();
    let seen = &server.seen()[0];
    assert_eq!(seen.content_type, "application/merge-patch+json");
    assert_eq!(
        seen.body,
        json!({"metadata": {"annotations": {"kurier.dev/config-bump": "abc-0"}}})
    );
}

#[tokio::test]
async fn deleting_names_the_object_that_was_looked_at() {
    let path = "/api/v1/namespaces/mail/secrets/a";
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Success"});
    let server = ApiServer::new(&[("DELETE", path, 200, gone)]);
    server
        .cluster(true)
        .delete("mail", &secret("a"))
        .await
        .unwrap();
    assert_eq!(server.seen()[0].body["preconditions"]["uid"], "u");
    // One that is gone already is as good.
    ApiServer::default()
        .cluster(true)
        .delete("mail", &secret("a"))
        .await
        .unwrap();
}

fn child(name: &str) -> Child {
    Child {
        kind: ChildKind::Service,
        name: name.to_owned(),
        object: json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}}),
    }
}

fn service(name: &str, owner: &str, version: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {
        "name": name, "uid": name, "resourceVersion": version,
        "ownerReferences": [{"apiVersion": "v", "kind": "MailRelay", "name": "n", "uid": owner, "controller": true}],
    }})
}

#[tokio::test]
async fn what_belongs_to_somebody_else_stops_everything() {
    let path = "/api/v1/namespaces/mail/services/taken";
    let server = ApiServer::new(&[("GET", path, 200, service("taken", "them", "1"))]);
    let children = [child("free"), child("taken")];
    let result = apply(
        &server.cluster(true),
        "mail",
        "us",
        &children,
        &[],
        &mut Applied::default(),
    )
    .await;
    let Err(ApplyError::Foreign {
        kind: ChildKind::Service,
        name,
    }) = result
    else {
        panic!("{result:?}")
    };
    assert_eq!(name, "taken");
    assert!(server.writes().is_empty(), "{:?}", server.writes());
}

#[tokio::test]
async fn children_are_applied_once() {
    let path = "/api/v1/namespaces/mail/services/a";
    let server = ApiServer::new(&[
        ("GET", path, 200, service("a", "us", "2")),
        ("PATCH", path, 200, service("a", "us", "2")),
    ]);
    let cluster = server.cluster(true);
    let mut applied = Applied::default();
    for _ in 0..3 {
        apply(&cluster, "mail", "us", &[child("a")], &[], &mut applied)
            .await
            .unwrap();
    }
    let writes = server.writes();
    assert_eq!(writes.len(), 1, "{writes:?}");
    assert_eq!(writes[0].content_type, "application/apply-patch+yaml");
}
