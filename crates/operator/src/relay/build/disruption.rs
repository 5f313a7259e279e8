//! PodDisruptionBudget: one pod at a time, and a broken one never blocks a node's drain.

use serde_json::json;

use super::{Input, metadata, selector};
use crate::apply::{Child, ChildKind};

pub(super) fn build(input: &Input<'_>) -> Child {
    let relay = &input.relay.identity;
    Child {
        kind: ChildKind::PodDisruptionBudget,
        name: relay.name.clone(),
        object: json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": metadata(relay, &relay.name),
            "spec": {
                "maxUnavailable": 1,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": selector(relay)},
            },
        }),
    }
}
