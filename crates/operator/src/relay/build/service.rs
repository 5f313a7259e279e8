//! Service: one port for each listener.

use serde_json::{Value, json};

use super::{Input, metadata, selector};
use crate::apply::{Child, ChildKind};

pub(super) fn build(input: &Input<'_>) -> Child {
    let relay = &input.relay.identity;
    let ports: Vec<Value> = input
        .relay
        .listeners
        .iter()
        .map(|listener| {
            json!({
                "name": listener.name,
                "port": listener.port,
                "targetPort": listener.container_port,
                "protocol": "TCP",
            })
        })
        .collect();
    Child {
        kind: ChildKind::Service,
        name: relay.name.clone(),
        object: json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(relay, &relay.name),
            "spec": {
                "type": "ClusterIP",
                "selector": selector(relay),
                "ports": ports,
            },
        }),
    }
}
