//! The operator that leads dies.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::accounts::submit;
use super::fleet::{MINUTE, RELAY_OBJECT, installed, relay_pods};
use super::kubernetes::{
    Pod, SYSTEM, condition, get_in, kubectl, patch, process_of, ready_pods_in, signal,
};
use crate::eventually::{eventually, holds};

const OPERATOR: &str = "app.kubernetes.io/component=operator";

#[test]
fn another_operator_takes_over_and_goes_on() -> Result<()> {
    installed()?;
    let pods = relay_pods(3)?;
    two_operators()?;
    let (before, leader) = eventually("an operator that runs leads", MINUTE, || {
        let lease = lease()?;
        let leader = holder(&lease)?;
        Ok((lease, leader))
    })?;
    // Stopped before it is killed: it says good-bye to nobody, and its name does not come back.
    signal(process_of(&leader, "kurier")?, "STOP")?;
    kubectl(&[
        "delete",
        "pod",
        "--namespace",
        SYSTEM,
        "--force",
        "--grace-period=0",
        &leader.name,
    ])?;
    // Nobody leads, and mail does not need anybody to.
    let reply = submit(&pods[0], 40)?;
    ensure!(reply.starts_with("250"), "without an operator: {reply}");
    patch(RELAY_OBJECT, r#"{"spec": {"replicas": 2}}"#)?;
    let successor = eventually("another one takes the Lease", MINUTE, || {
        let lease = lease()?;
        let successor = holder(&lease)?;
        holds(
            successor.name != leader.name && transitions(&lease) > transitions(&before),
            &lease,
        )?;
        Ok(successor)
    })?;
    println!("{} led, {} leads", leader.name, successor.name);
    // What was asked for meanwhile, and what is asked for from now on.
    for replicas in [2, 3] {
        patch(
            RELAY_OBJECT,
            &format!(r#"{{"spec": {{"replicas": {replicas}}}}}"#),
        )?;
        relay_pods(replicas)?;
        condition(RELAY_OBJECT, "Programmed", "True", MINUTE)?;
        condition(RELAY_OBJECT, "Ready", "True", MINUTE)?;
    }
    two_operators()
}

fn two_operators() -> Result<()> {
    eventually("two operators", MINUTE, || {
        let pods = ready_pods_in(SYSTEM, OPERATOR)?;
        holds(pods.len() == 2, format_args!("{pods:?}"))
    })
}

fn lease() -> Result<Value> {
    Ok(get_in(SYSTEM, &["lease/kurier-operator"])?["spec"].clone())
}

/// The pod that a Lease names.
fn holder(lease: &Value) -> Result<Pod> {
    let name = &lease["holderIdentity"];
    let pods = ready_pods_in(SYSTEM, OPERATOR)?;
    pods.into_iter()
        .find(|pod| *name == pod.name)
        .with_context(|| format!("{name} is no ready pod"))
}

fn transitions(lease: &Value) -> u64 {
    lease["leaseTransitions"].as_u64().unwrap_or_default()
}
