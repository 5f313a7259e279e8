//! ServiceAccount: a name for the pods, without a token. Relays never talk to the API server.

use serde_json::json;

use super::{Input, metadata};
use crate::apply::{Child, ChildKind};

pub(super) fn build(input: &Input<'_>) -> Child {
    let relay = &input.relay.identity;
    Child {
        kind: ChildKind::ServiceAccount,
        name: relay.name.clone(),
        object: json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": metadata(relay, &relay.name),
            "automountServiceAccountToken": false,
        }),
    }
}
