//! What has been accepted survives; what cannot be kept is not accepted.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kurier_test::corpus::Message;
use kurier_test::load;
use kurier_test::submit::{Account, Connection};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::process::{Receiver, Redis, Relay, RelaySettings, Signal, http};
use crate::eventually::{eventually, holds};

const LONG: Duration = Duration::from_secs(90);

fn submit(account: &Account, index: u32) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut connection = Connection::open(account).await?;
        let message = Message::new("durability", index, None, "");
        connection
            .send("load@example.com", "sink@receiver.example", &message)
            .await
    })
}

/// Loads the relay and kills it in the middle; after a restart everything accepted arrives.
fn killed_relay_loses_nothing(redis: Option<&Redis>) -> Result<()> {
    let (receiver, data) = (Receiver::start()?, tempfile::tempdir()?);
    let settings = RelaySettings {
        data: data.path(),
        smarthost: receiver.port,
        redis: redis.map(Redis::url),
    };
    http(
        receiver.control,
        "PUT",
        "/mode",
        r#"{"delayMilliseconds": 50}"#,
    )?;
    let mut relay = Relay::start(&settings)?;
    let accepted: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    let log = accepted.clone();
    let runtime = tokio::runtime::Runtime::new()?;
    let run = load::Settings {
        run: "kill".to_owned(),
        messages: 400,
        connections: 8,
        per_connection: 50,
        from: "load@example.com".to_owned(),
        to: "sink@receiver.example".to_owned(),
        traces: false,
        pace_milliseconds: 0,
        retries: 0,
    };
    let load = runtime.spawn(load::run(relay.account(), run, move |attempt| {
        if attempt.accepted() {
            log.lock()
                .expect("no panic holds it")
                .insert(attempt.id.clone(), attempt.sha256.clone());
        }
    }));
    eventually("a part of the load is accepted", LONG, || {
        let count = accepted.lock().expect("no panic holds it").len();
        holds(count >= 100, format_args!("{count} of 100"))
    })?;
    relay.process.kill()?;
    let summary = runtime.block_on(load)??;
    ensure!(
        summary.given_up > 0,
        "the kill came after the load: it proves nothing"
    );
    http(
        receiver.control,
        "PUT",
        "/mode",
        r#"{"delayMilliseconds": 0}"#,
    )?;
    drop(relay);
    let _relay = Relay::start(&settings)?;
    let accepted = accepted.lock().expect("no panic holds it").clone();
    eventually("everything accepted arrives", LONG, || {
        let arrived: BTreeMap<_, _> = receiver
            .arrivals()
            .into_iter()
            .map(|arrival| (arrival.id, arrival.sha256))
            .collect();
        let missing: Vec<_> = accepted
            .iter()
            .filter(|(id, sha256)| arrived.get(*id) != Some(sha256))
            .collect();
        holds(missing.is_empty(), format_args!("missing: {missing:?}"))
    })
}

#[test]
fn a_killed_relay_on_the_embedded_queue_loses_nothing() -> Result<()> {
    killed_relay_loses_nothing(None)
}

#[test]
fn a_killed_relay_on_redis_loses_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    killed_relay_loses_nothing(Some(&Redis::start(folder.path())?))
}

#[test]
fn without_redis_clients_get_451_and_never_a_refused_connection() -> Result<()> {
    let (receiver, data, folder) = (
        Receiver::start()?,
        tempfile::tempdir()?,
        tempfile::tempdir()?,
    );
    let mut redis = Redis::start(folder.path())?;
    let settings = RelaySettings {
        data: data.path(),
        smarthost: receiver.port,
        redis: Some(redis.url()),
    };
    let relay = Relay::start(&settings)?;
    let accepted = eventually("the relay accepts", LONG, || {
        let reply = submit(&relay.account(), 8)?;
        holds(reply.starts_with("250 2.0.0"), &reply)
    });
    accepted?;
    redis.kill()?;
    let reply = submit(&relay.account(), 9)?;
    ensure!(
        reply.starts_with("451 4.3.0"),
        "a false answer during the outage: {reply}"
    );
    // One that starts during the outage listens, too, and is ready.
    let late = Relay::start(&settings)?;
    let reply = submit(&late.account(), 10)?;
    ensure!(
        reply.starts_with("451 4.3.0"),
        "a false answer from a late relay: {reply}"
    );
    http(late.admin, "GET", "/readyz", "")?;
    redis.up()?;
    for (relay, index) in [(&relay, 11), (&late, 12)] {
        eventually("the relay accepts again", LONG, || {
            let reply = submit(&relay.account(), index)?;
            holds(reply.starts_with("250 2.0.0"), &reply)
        })?;
    }
    let arrived = receiver.wait_for(3, LONG)?;
    let ids: std::collections::BTreeSet<_> =
        arrived.into_iter().map(|arrival| arrival.id).collect();
    ensure!(
        !ids.contains("durability-9") && !ids.contains("durability-10"),
        "a refused message arrived: {ids:?}"
    );
    Ok(())
}

#[test]
fn redis_without_fsync_is_not_trusted() -> Result<()> {
    let (receiver, data, folder) = (
        Receiver::start()?,
        tempfile::tempdir()?,
        tempfile::tempdir()?,
    );
    let redis = Redis::start(folder.path())?;
    let relay = Relay::start(&RelaySettings {
        data: data.path(),
        smarthost: receiver.port,
        redis: Some(redis.url()),
    })?;
    eventually("the relay accepts", LONG, || {
        let reply = submit(&relay.account(), 8)?;
        holds(reply.starts_with("250"), &reply)
    })?;
    super::process::succeed(std::process::Command::new("redis-cli").args([
        "-u",
        &redis.url(),
        "config",
        "set",
        "appendfsync",
        "everysec",
    ]))?;
    eventually("the relay stops accepting", Duration::from_secs(15), || {
        let reply = submit(&relay.account(), 9)?;
        holds(reply.starts_with("451 4.3.0"), &reply)
    })
}

/// On Redis: what is not given back there waits for the end of a lease, which no other relay shortens.
#[test]
fn sigterm_gives_back_what_it_cannot_finish() -> Result<()> {
    let (receiver, data, folder) = (
        Receiver::start()?,
        tempfile::tempdir()?,
        tempfile::tempdir()?,
    );
    let redis = Redis::start(folder.path())?;
    let settings = RelaySettings {
        data: data.path(),
        smarthost: receiver.port,
        redis: Some(redis.url()),
    };
    let mode = |mode: &str| http(receiver.control, "PUT", "/mode", mode);
    mode(r#"{"delayMilliseconds": 2000}"#)?;
    let mut relay = Relay::start(&settings)?;
    // All of them are queued before it claims, so that it claims more than it can begin with.
    let claiming = |enabled: &str| http(relay.admin, "PUT", "/v1/claiming", enabled);
    claiming(r#"{"enabled": false}"#)?;
    for index in 0..MESSAGES {
        let index = 16 * u32::try_from(index)? + 8;
        eventually("the relay accepts", LONG, || {
            let reply = submit(&relay.account(), index)?;
            holds(reply.starts_with("250"), reply)
        })?;
    }
    claiming(r#"{"enabled": true}"#)?;
    eventually("it holds claims that it has not begun", LONG, || {
        let claims = relay.metric("kurier_queue_claims")?;
        holds(claims > CONCURRENCY, format_args!("{claims} claims"))
    })?;
    relay.process.signal(Signal::TERM)?;
    let status = relay.process.wait(Duration::from_secs(60))?;
    ensure!(status.success(), "a drain that ended with {status}");
    let finished = receiver.arrivals().len();
    ensure!(
        finished < MESSAGES,
        "the drain delivered everything: it gave nothing back"
    );
    mode("{}")?;
    let started = Instant::now();
    let _successor = Relay::start(&settings)?;
    let arrived = receiver.wait_for(MESSAGES, LONG)?;
    let elapsed = started.elapsed();
    ensure!(
        elapsed < LEASE,
        "the successor waited {elapsed:?}: nothing was given back"
    );
    assert_eq!(arrived.len(), MESSAGES, "a drain neither loses nor doubles");
    Ok(())
}

const MESSAGES: usize = 60;
/// How many deliveries to one destination a local relay has at a time.
const CONCURRENCY: f64 = 20.0;
/// For so long a worker that says nothing keeps its claims.
const LEASE: Duration = Duration::from_secs(30);
