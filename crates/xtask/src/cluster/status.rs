//! `cluster status`.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{Cluster, cgroup, daemon::Daemon, record::Record};
use crate::command;

/// The record of a cluster of which every part runs and the API server says it is ready.
pub(super) fn running(cluster: &Cluster) -> Result<Option<Record>> {
    let Some(record) = cluster.record()? else {
        return Ok(None);
    };
    let whole = record.ready
        && record.daemons.iter().all(Daemon::is_alive)
        && command::succeeds(cluster.kubectl()?.args(["get", "--raw", "/readyz"]));
    Ok(whole.then_some(record))
}

/// Says what runs and how to reach it.
///
/// # Errors
/// When not all of it runs.
pub(super) fn print(cluster: &Cluster, for_programs: bool) -> Result<()> {
    let record = cluster.record()?.unwrap_or_default();
    let running = running(cluster)?.is_some();
    if for_programs {
        println!("{:#}", describe(cluster, &record, running));
    } else {
        say(cluster, &record, running);
    }
    if !running {
        let left = cluster.belongings();
        if left.is_empty() {
            bail!(
                "no cluster is running in {}: cargo xtask cluster up",
                cluster.dir().display()
            );
        }
        bail!(
            "the cluster in {} does not run whole; up or down clears it",
            cluster.dir().display()
        );
    }
    Ok(())
}

fn describe(cluster: &Cluster, record: &Record, running: bool) -> Value {
    let nodes: Vec<_> = cluster
        .nodes(record.nodes)
        .iter()
        .map(|node| {
            json!({
                "name": node.name,
                "address": node.address(),
                "podCidr": node.pods(),
                "networkNamespace": node.network_namespace(),
                "containerdSocket": node.containerd_socket(),
                "cgroup": cgroup::root(node),
            })
        })
        .collect();
    let daemons: Vec<_> = record
        .daemons
        .iter()
        .map(|daemon| {
            json!({
                "name": daemon.name,
                "pid": daemon.pid,
                "log": daemon.log,
                "alive": daemon.is_alive(),
            })
        })
        .collect();
    json!({
        "id": cluster.id(),
        "dir": cluster.dir(),
        "kubeconfig": cluster.kubeconfig(),
        "ready": running,
        "nodes": nodes,
        "daemons": daemons,
    })
}

fn say(cluster: &Cluster, record: &Record, running: bool) {
    println!("cluster {} in {}", cluster.id(), cluster.dir().display());
    for daemon in &record.daemons {
        let state = if daemon.is_alive() {
            "runs"
        } else {
            "has ended"
        };
        println!(
            "  {:<28} {state}, pid {}, log {}",
            daemon.name,
            daemon.pid,
            daemon.log.display()
        );
    }
    if running {
        println!("  KUBECONFIG={}", cluster.kubeconfig().display());
        for node in cluster.nodes(record.nodes) {
            println!(
                "  {}: nsenter --net={}",
                node.name,
                node.network_namespace().display()
            );
        }
        println!("  cargo xtask cluster run -- kubectl get pods --all-namespaces");
    }
}
