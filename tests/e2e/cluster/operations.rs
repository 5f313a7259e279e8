//! Day two: scale, reroute, lose Redis, and what the status says meanwhile.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kurier_test::submit::Connection;
use serde_json::Value;

use super::accounts::{Load, account_at, run_named, submit};
use super::fleet::{MINUTE, RELAY_OBJECT, installed, relay_pods, set_mode};
use super::kubernetes::{MAIL, Pod, condition, get, items, kubectl, metric, patch, redis};
use super::traffic::{all_arrived, completed};
use crate::eventually::{eventually, holds};

#[test]
fn f_replicas_converge_and_status_says_so() -> Result<()> {
    installed()?;
    for replicas in [2, 3] {
        patch(
            RELAY_OBJECT,
            &format!(r#"{{"spec": {{"replicas": {replicas}}}}}"#),
        )?;
        let pods = relay_pods(replicas)?;
        condition(RELAY_OBJECT, "Programmed", "True", MINUTE)?;
        condition(RELAY_OBJECT, "Ready", "True", MINUTE)?;
        eventually("status.replicas follows", MINUTE, || {
            let status = get(&[RELAY_OBJECT])?["status"].clone();
            holds(status["replicas"] == replicas, status)
        })?;
        // Nor is it only said: each of them takes the account's login, and the Service leads to no other.
        for pod in &pods {
            size_limit(pod).with_context(|| pod.name.clone())?;
        }
        let addresses: BTreeSet<_> = pods.into_iter().map(|pod| pod.address).collect();
        eventually("the Service leads to these pods", MINUTE, || {
            let served = endpoints("outbound")?;
            holds(served == addresses, format_args!("{served:?}"))
        })?;
    }
    Ok(())
}

/// Where a Service sends new connections.
fn endpoints(service: &str) -> Result<BTreeSet<String>> {
    let label = format!("kubernetes.io/service-name={service}");
    let slices = get(&["endpointslices", "-l", &label])?;
    let all = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let ready = items(&slices)
        .iter()
        .flat_map(|slice| all(&slice["endpoints"]))
        .filter(|endpoint| endpoint["conditions"]["ready"] == true);
    Ok(ready
        .flat_map(|endpoint| all(&endpoint["addresses"]))
        .filter_map(|address| Some(address.as_str()?.to_owned()))
        .collect())
}

/// What a pod says in its EHLO reply that it takes.
fn size_limit(pod: &Pod) -> Result<Option<u64>> {
    let account = account_at(pod)?;
    let connection = tokio::runtime::Runtime::new()?.block_on(Connection::open(&account))?;
    Ok(connection.size())
}

#[test]
fn g_queued_mail_follows_a_changed_smarthost() -> Result<()> {
    installed()?;
    let pods = relay_pods(3)?;
    let deferrals = || -> Result<f64> {
        let of = |pod| metric(pod, "kurier_deliveries_total", r#"outcome="deferred""#);
        pods.iter().map(of).sum()
    };
    let before = deferrals()?;
    set_mode("receiver-first", r#"{"defer": true}"#)?;
    let run = run_named("moved");
    let done = Load::start(&run, &["--messages", "60"])?.finish(2 * MINUTE)?;
    let accepted = completed(&done, 60)?;
    eventually("the mail is deferred", MINUTE, || {
        let deferred = deferrals()? - before;
        holds(deferred >= 60.0, format_args!("{deferred} deferrals"))
    })?;
    // The counts in status are rewritten once a minute, and when a condition changes.
    let limit = r#"{"spec": {"limits": {"connectionsPerClient": 501}}}"#;
    patch(RELAY_OBJECT, limit)?;
    eventually("status counts the deferred mail", 2 * MINUTE, || {
        let status = get(&[RELAY_OBJECT])?["status"]["queue"].clone();
        holds(
            status["deferred"].as_u64().unwrap_or_default() >= 50,
            status,
        )
    })?;
    let changed = Instant::now();
    patch(
        ROUTE,
        r#"{"spec": {"rules": [{"name": "first",
            "match": {"recipientDomains": ["receiver.example"]},
            "action": {"type": "Smarthost", "smarthost": {"host": "receiver-second", "port": 25}}}]}}"#,
    )?;
    route_programmed(ROUTE, SERVED)?;
    println!(
        "a route change was served by every pod after {:?}",
        changed.elapsed()
    );
    all_arrived("receiver-second", &run, &accepted, MINUTE)?;
    set_mode("receiver-first", "{}")?;
    super::kubernetes::apply_fixture("relay.yaml")?;
    route_programmed(ROUTE, MINUTE)
}

/// Until every pod serves a change.
const SERVED: Duration = Duration::from_secs(10);

const ROUTE: &str = "mailroute/receivers";

/// Every pod serves the current generation of the route.
pub(crate) fn route_programmed(route: &str, limit: Duration) -> Result<()> {
    eventually("the route is programmed", limit, || {
        let route = get(&[route])?;
        let generation = &route["metadata"]["generation"];
        let conditions = route["status"]["parents"][0]["conditions"].as_array();
        let programmed = conditions.is_some_and(|all| {
            all.iter().any(|condition| {
                condition["type"] == "Programmed"
                    && condition["status"] == "True"
                    && condition["observedGeneration"] == *generation
            })
        });
        holds(programmed, &route["status"])
    })
}

#[test]
fn h_a_changed_setting_is_served_by_every_pod_within_ten_seconds() -> Result<()> {
    installed()?;
    let pods = relay_pods(3)?;
    for (limit, octets) in [("512Ki", 512 << 10), ("1Mi", 1 << 20)] {
        let changed = Instant::now();
        patch(
            RELAY_OBJECT,
            &format!(r#"{{"spec": {{"limits": {{"messageSize": "{limit}"}}}}}}"#),
        )?;
        condition(RELAY_OBJECT, "Programmed", "True", SERVED)?;
        // Asked now and not waited for: this is what the status says is so.
        for pod in &pods {
            let size = size_limit(pod)?;
            ensure!(size == Some(octets), "{} says SIZE {size:?}", pod.name);
        }
        let elapsed = changed.elapsed();
        println!("messageSize {limit} was served by every pod after {elapsed:?}");
        ensure!(elapsed <= SERVED, "after {elapsed:?}");
    }
    let same = relay_pods(3)?;
    let names = |pods: &[Pod]| pods.iter().map(|pod| pod.name.clone()).collect::<Vec<_>>();
    ensure!(
        names(&pods) == names(&same),
        "a limit rolled the pods: {pods:?} became {same:?}"
    );
    Ok(())
}

#[test]
fn i_without_redis_status_says_so_and_clients_get_451() -> Result<()> {
    installed()?;
    let pods = relay_pods(3)?;
    let pod = pods.first().context("a pod")?;
    eventually("the queue is empty", MINUTE, || {
        let queue = redis(&["dbsize"])?;
        let reply = submit(pod, 8)?;
        holds(reply.starts_with("250"), format_args!("{queue} {reply}"))
    })?;
    all_settled()?;
    kubectl(&[
        "scale",
        "--namespace",
        MAIL,
        "deployment/redis",
        "--replicas=0",
    ])?;
    let unreachable = condition(RELAY_OBJECT, "QueueReachable", "False", MINUTE)?;
    println!("{}", unreachable["message"]);
    condition(RELAY_OBJECT, "Ready", "False", MINUTE)?;
    for (index, pod) in pods.iter().enumerate() {
        let reply = submit(pod, 9 + u32::try_from(index)?)?;
        ensure!(
            reply.starts_with("451 4.3.0"),
            "{} answered {reply}",
            pod.name
        );
    }
    ensure!(
        relay_pods(3)?.len() == 3,
        "an outage of Redis is no reason to be unready"
    );
    kubectl(&[
        "scale",
        "--namespace",
        MAIL,
        "deployment/redis",
        "--replicas=1",
    ])?;
    condition(RELAY_OBJECT, "QueueReachable", "True", MINUTE)?;
    condition(RELAY_OBJECT, "Ready", "True", MINUTE)?;
    eventually("the relay accepts again", MINUTE, || {
        let reply = submit(pod, 13)?;
        holds(reply.starts_with("250"), reply)
    })
}

/// No message record is left in Redis.
fn all_settled() -> Result<()> {
    eventually("everything is settled", MINUTE, || {
        let keys = redis(&["--scan", "--pattern", "mr:{mail.outbound:0}:m:*"])?;
        holds(keys.trim().is_empty(), keys)
    })
}
