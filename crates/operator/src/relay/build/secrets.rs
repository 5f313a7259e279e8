//! Secrets with certificates.

use super::{Input, authority_secret, listener_secret, secret, status_secret};
use crate::apply::Child;

pub(super) fn build(input: &Input<'_>) -> Vec<Child> {
    let relay = &input.relay.identity;
    let status = &input.material.status;
    let mut children = vec![secret(
        relay,
        status_secret(relay),
        "Opaque",
        &[
            ("ca.crt", &status.authority.certificate),
            ("ca.key", &status.authority.key),
            ("tls.crt", &status.server.certificate),
            ("tls.key", &status.server.key),
            ("client.crt", &status.client.certificate),
            ("client.key", &status.client.key),
        ],
    )];
    if let Some(listeners) = &input.material.listeners {
        children.push(secret(
            relay,
            authority_secret(relay),
            "kubernetes.io/tls",
            &[
                ("tls.crt", &listeners.authority.certificate),
                ("tls.key", &listeners.authority.key),
            ],
        ));
        children.push(secret(
            relay,
            listener_secret(relay),
            "kubernetes.io/tls",
            &[
                ("ca.crt", &listeners.authority.certificate),
                ("tls.crt", &listeners.server.certificate),
                ("tls.key", &listeners.server.key),
            ],
        ));
    }
    children
}
