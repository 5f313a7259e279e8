//! The nodes' network namespaces: a bridge in the first, a cable from every other into it.

use std::process::Command;

use anyhow::Result;

use super::layout::Node;
use crate::command;

const BRIDGE: &str = "node0";
const CABLE: &str = "eth0";

/// Makes the namespaces and connects them. Every node reaches every other and its pods; nothing reaches
/// the machine's own network.
pub(super) fn make(nodes: &[Node]) -> Result<()> {
    let Some(first) = nodes.first() else {
        return Ok(());
    };
    for node in nodes {
        command::run(Command::new("ip").args(["netns", "add", &node.unique_name]))?;
        ip(node, "link set lo up")?;
        if node.index == first.index {
            // A bridge, because not every kernel has the dummy device.
            ip(node, &format!("link add {BRIDGE} type bridge"))?;
            address(node, BRIDGE)?;
            // Nothing answers there, but kube-proxy and CNI want a default route.
            ip(node, &format!("route add default dev {BRIDGE}"))?;
        } else {
            let other = &first.unique_name;
            ip(
                node,
                &format!(
                    "link add {CABLE} type veth peer name {} netns {other}",
                    node.name
                ),
            )?;
            ip(first, &format!("link set {} master {BRIDGE} up", node.name))?;
            address(node, CABLE)?;
            ip(node, &format!("route add default via {}", first.address()))?;
        }
        // Pods are routed between their bridge and the node's, and services are applied to what passes
        // between two pods on one bridge. The latter setting is only there with its module.
        sysctl(node, "net.ipv4.ip_forward=1")?;
        command::succeeds(node.enter().args([
            "sysctl",
            "-qw",
            "net.bridge.bridge-nf-call-iptables=1",
        ]));
    }
    for node in nodes {
        for other in nodes.iter().filter(|other| other.index != node.index) {
            ip(
                node,
                &format!("route add {} via {}", other.pods(), other.address()),
            )?;
        }
    }
    Ok(())
}

fn address(node: &Node, device: &str) -> Result<()> {
    ip(
        node,
        &format!("address add {}/24 dev {device}", node.address()),
    )?;
    ip(node, &format!("link set {device} up"))
}

fn ip(node: &Node, arguments: &str) -> Result<()> {
    command::run(node.enter().arg("ip").args(arguments.split(' ')))
}

fn sysctl(node: &Node, setting: &str) -> Result<()> {
    command::run(node.enter().args(["sysctl", "-qw", setting]))
}
