//! The administrative interface.

use std::sync::Arc;

use config::Status;
use config::status::Durability;
use queue::Queue as _;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::gate::State;
use crate::world::{Files, PATIENCE, World, http};

/// As the operator asks for it.
pub(crate) async fn status(world: &World) -> Status {
    let answer = ask(world, world.files.trusting_with("status")).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    Status::decode(body.as_bytes()).unwrap()
}

/// What comes back, if anything does.
async fn ask(world: &World, config: Arc<ClientConfig>) -> Vec<u8> {
    let stream = TcpStream::connect(world.address("status")).await.unwrap();
    let name = ServerName::try_from("uid.relay.kurier").unwrap();
    let mut answer = Vec::new();
    let exchange = async {
        let mut stream = TlsConnector::from(config).connect(name, stream).await?;
        let request = "GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut answer).await
    };
    // A client whose certificate is missed hears of it with the first read under TLS 1.3.
    let _ = tokio::time::timeout(PATIENCE, exchange)
        .await
        .expect("an end");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics() {
    let world = World::new().await;
    assert_eq!(
        world.get("health", "/healthz").await,
        (200, "ok\n".to_owned())
    );
    assert_eq!(
        world.get("health", "/readyz").await,
        (200, "ready\n".to_owned())
    );
    let mut client = world.client().await;
    client.submit().await;
    client.command("MAIL FROM:<app@example.org>").await;
    client.command("RCPT TO:<user%x@example.net>").await;
    client.command("RCPT TO:<user@example.net>").await;
    client.command("DATA").await;
    let (code, metrics) = world.get("health", "/metrics").await;
    assert_eq!(code, 200);
    for line in [
        "kurier_build_info{version=\"1.2.3\",revision=\"abc\"} 1",
        "kurier_smtp_connections_accepted_total 1",
        "kurier_smtp_connections_open 1",
        "kurier_smtp_open_transactions{phase=\"data\"} 1",
        "kurier_messages_accepted_total 1",
        "kurier_smtp_refusals_total{reason=\"recipient\"} 1",
        "kurier_enqueue_seconds_count 1",
        "kurier_queue_reachable 1",
        "kurier_config_rejected 0",
        "kurier_draining 0",
    ] {
        assert!(
            metrics.lines().any(|l| l == line),
            "{line} is not in\n{metrics}"
        );
    }
    for name in [
        "kurier_queue_claims ",
        "kurier_queue_tasks{state=\"deferred\"} ",
    ] {
        assert!(
            metrics.lines().any(|l| l.starts_with(name)),
            "{name} is not in\n{metrics}"
        );
    }
    assert_eq!(world.get("health", "/v1/queue").await.0, 404);
    assert_eq!(world.get("health", "/v1/status").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_for_the_operator() {
    let world = World::new().await;
    let status = status(&world).await;
    assert_eq!(
        (status.pod_uid.as_str(), status.schema),
        ("uid-0", config::SCHEMA)
    );
    assert_eq!(status.version, "1.2.3");
    let document = std::fs::read(world.files.document()).unwrap();
    assert_eq!(status.config_hash, Some(config::Digest::of(&document)));
    assert!(status.redis.reachable);
    assert!(matches!(
        status.durability,
        Durability::Fsync | Durability::Unmet { .. }
    ));
    assert!(status.counts.is_some());

    // Without a certificate, and with one of another authority.
    let mut of_another = ClientConfig::clone(&world.files.trusting());
    of_another.client_auth_cert_resolver = Arc::clone(
        &Files::new()
            .trusting_with("status")
            .client_auth_cert_resolver,
    );
    for config in [world.files.trusting(), Arc::new(of_another)] {
        assert_eq!(String::from_utf8_lossy(&ask(&world, config).await), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn management() {
    let world = World::new().await;
    world.client().await.submit().await;
    let (code, body) = world.get("management", "/v1/queue").await;
    assert_eq!(code, 200, "{body}");
    let report: serde_json::Value = serde_json::from_str(&body).unwrap();
    let sum = ["ready", "deferred", "inFlight"].map(|field| report[field].as_u64().unwrap());
    assert_eq!(sum.iter().sum::<u64>(), 1, "{body}");
    assert!(report["claims"].is_u64(), "{body}");

    let put = async |body: &str| {
        let stream = TcpStream::connect(world.address("management"))
            .await
            .unwrap();
        http(stream, "PUT /v1/claiming HTTP/1.1\r\n", body).await
    };
    assert_eq!(
        put(r#"{"enabled":false}"#).await,
        (200, r#"{"enabled":false}"#.to_owned())
    );
    assert_eq!(put(r#"{"enabled":true}"#).await.0, 200);
    assert_eq!(put(r#"{"enable":true}"#).await.0, 422);

    world.queue.set(State::Unreachable);
    let (code, _) = loop {
        // The answer of a moment ago is still good for a second.
        let answer = world.get("management", "/v1/queue").await;
        if answer.0 != 200 {
            break answer;
        }
    };
    assert_eq!(code, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn suspensions() {
    let world = World::new().await;
    let ask = async |method: &str, path: &str, body: &str| {
        let stream = TcpStream::connect(world.address("management"))
            .await
            .unwrap();
        http(stream, &format!("{method} {path} HTTP/1.1\r\n"), body).await
    };
    let put = async |body: &str| ask("PUT", "/v1/suspensions", body).await.0;
    let route = r#"{"scope":"site:rule:corp/smarthost","reason":"under repair"}"#;
    assert_eq!(put(route).await, 204);
    assert_eq!(
        put(r#"{"scope":"tenant:shop","forSeconds":3600}"#).await,
        204
    );
    for refused in [
        r#"{"scope":"everything"}"#.to_owned(),
        r#"{"scope":"all","for":1}"#.to_owned(),
        format!(r#"{{"scope":"all","reason":"{}"}}"#, "x".repeat(1025)),
    ] {
        assert_eq!(put(&refused).await, 422, "{refused}");
    }
    let list = async || {
        let (code, body) = world.get("management", "/v1/suspensions").await;
        assert_eq!(code, 200, "{body}");
        serde_json::from_str::<Vec<serde_json::Value>>(&body).unwrap()
    };
    let known = list().await;
    assert_eq!(known.len(), 2, "{known:?}");
    assert_eq!(
        known[0],
        serde_json::from_str::<serde_json::Value>(route).unwrap()
    );
    assert_eq!(known[1]["scope"], "tenant:shop");
    assert!(
        known[1]["forSeconds"]
            .as_u64()
            .is_some_and(|left| (1..=3600).contains(&left))
    );

    let resume = async |scope: &str| {
        let path = format!("/v1/suspensions/{scope}");
        ask("DELETE", &path, "").await.0
    };
    assert_eq!(resume("site:rule:corp/smarthost").await, 204);
    assert_eq!(resume("site:rule:corp/smarthost").await, 404);
    assert_eq!(resume("everything").await, 422);
    assert_eq!(list().await.len(), 1);

    world.queue.set(State::Unreachable);
    assert_eq!(put(route).await, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_what_is_done_to_them() {
    let world = World::new().await;
    let send = async |head: &str, body: &str| {
        let stream = TcpStream::connect(world.address("management"))
            .await
            .unwrap();
        let (code, body) = http(stream, head, body).await;
        (
            code,
            serde_json::from_str::<serde_json::Value>(&body).unwrap(),
        )
    };
    let get = async |path: &str| send(&format!("GET {path} HTTP/1.1\r\n"), "").await;
    let post =
        async |path: &str, body: &str| send(&format!("POST {path} HTTP/1.1\r\n"), body).await;
    let pause = r#"{"enabled":false}"#;
    send("PUT /v1/claiming HTTP/1.1\r\n", pause).await;
    world.client().await.submit().await;
    let (code, list) = get("/v1/messages?sender=example.org&limit=5").await;
    assert_eq!(code, 200, "{list}");
    let task = &list["tasks"][0];
    assert_eq!(task["place"], "ready", "{list}");
    assert_eq!(task["sender"], "app@example.org");
    assert_eq!(task["recipients"][0]["address"], "user@example.net");
    let (message, task) = (&task["message"], &task["task"]);
    let message = format!("/v1/messages/{}", message.as_str().unwrap());
    let task = format!("/v1/messages/{}", task.as_str().unwrap());
    let (_, shown) = get(&message).await;
    assert_eq!(
        shown["tasks"][0]["recipients"][0]["outcome"],
        serde_json::Value::Null
    );

    for (path, expected) in [
        ("/v1/messages?place=nowhere", 400),
        ("/v1/messages?plaice=ready", 400),
        ("/v1/messages?cursor=7a", 400),
        ("/v1/messages?olderThan=long", 400),
        ("/v1/messages/nonsense", 400),
        ("/v1/messages/00000000000000000000000000", 404),
        ("/v1/messages/00000000000000000000000000/content", 404),
    ] {
        let (code, answer) = get(path).await;
        assert_eq!(code, expected, "{path}: {answer}");
        assert!(answer["error"].is_string(), "{path}: {answer}");
    }
    for (action, body, expected) in [
        ("burn", "{}", 404),
        ("hold", r#"{"notify":true}"#, 400),
        ("hold", r#"{"because":"x"}"#, 422),
        ("hold", "", 400),
    ] {
        let (code, answer) = post(&format!("{message}/{action}"), body).await;
        assert_eq!(code, expected, "{action} {body}: {answer}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    for (of, action, result) in [
        (&message, "retry", "unchanged"),
        (&message, "hold", "done"),
        (&task, "hold", "unchanged"),
        (&task, "release", "done"),
        (&task, "hold", "done"),
    ] {
        let (code, answer) =
            post(&format!("{of}/{action}"), r#"{"user":"jo","reason":"why"}"#).await;
        assert_eq!(code, 200, "{answer}");
        assert_eq!(answer["results"][0]["result"], result, "{action}");
    }
    assert_eq!(world.queue.counts().await.unwrap().held, 1);
    let (_, list) = get("/v1/messages?place=held").await;
    assert_eq!(list["tasks"][0]["holdReason"], "why");
    let (code, content) = world.get("management", &format!("{message}/content")).await;
    assert_eq!(code, 200);
    assert!(content.contains("Subject: x"), "{content}");
    assert_eq!(post(&format!("{task}/drop"), "{}").await.0, 200);
    assert_eq!(post(&format!("{task}/drop"), "{}").await.0, 404);

    world.queue.set(State::Unreachable);
    assert_eq!(get("/v1/messages").await.0, 503);
}
