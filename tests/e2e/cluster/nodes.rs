//! A relay on two nodes.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};

use super::accounts::{Load, run_named};
use super::fleet::{MINUTE, installed, receiver, relay_pods};
use super::trace;
use super::traffic::{all_arrived, completed};

#[test]
fn mail_crosses_from_node_to_node() -> Result<()> {
    installed()?;
    let pods = relay_pods(3)?;
    let nodes: BTreeSet<_> = pods.iter().map(|pod| pod.node.as_str()).collect();
    ensure!(nodes.len() == 2, "the pods are not spread: {pods:#?}");
    let receiver = receiver("receiver-first")?;
    let elsewhere = nodes.iter().find(|node| **node != receiver.node);
    let elsewhere = elsewhere.context("every relay pod is where the receiver is")?;

    let run = run_named("crossing");
    let load = Load::start_on(Some(elsewhere), &run, &["--messages", "300"])?;
    let done = load.finish(2 * MINUTE)?;
    let accepted = completed(&done, 300)?;
    all_arrived("receiver-first", &run, &accepted, MINUTE)?;
    // It went through pods on both nodes, and from one to the other in between.
    let on = |name: &str| {
        let pod = pods.iter().find(|pod| pod.name == name);
        pod.map_or("gone", |pod| pod.node.as_str())
    };
    let legs = trace::legs(&accepted)?;
    let legs: BTreeSet<_> = legs.iter().map(|(from, to)| (on(from), on(to))).collect();
    for from in &nodes {
        for to in &nodes {
            ensure!(
                legs.contains(&(from, to)),
                "{from} to {to} is not in {legs:?}"
            );
        }
    }
    Ok(())
}
