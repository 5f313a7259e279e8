//! The Secret an application reads.

use std::collections::BTreeMap;

use api::MailCredential;
use api::names;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use crate::relay::Handover;

pub(super) fn build(credential: &MailCredential, handover: &Handover) -> Secret {
    let name = credential
        .spec
        .authentication
        .iter()
        .find_map(|authentication| authentication.password.as_ref())
        .map(|password| password.secret_name.clone());
    let labels = [
        (names::CREDENTIAL_UID, credential.uid().unwrap_or_default()),
        (names::INSTANCE, credential.spec.relay_ref.name.clone()),
        (names::MANAGED_BY, names::MANAGER.to_owned()),
    ];
    Secret {
        metadata: ObjectMeta {
            name,
            namespace: credential.namespace(),
            labels: Some(
                labels
                    .into_iter()
                    .map(|(key, v)| (key.to_owned(), v))
                    .collect(),
            ),
            owner_references: credential
                .controller_owner_ref(&())
                .map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(data(handover)),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

fn data(handover: &Handover) -> BTreeMap<String, ByteString> {
    let mut data = vec![
        ("SMTP_HOST", handover.host.clone()),
        ("SMTP_PORT", handover.port.to_string()),
        ("SMTP_USERNAME", handover.username.clone()),
        ("SMTP_PASSWORD", handover.password.expose().to_owned()),
        ("SMTP_URL", url(handover)),
    ];
    if let Some(authority) = &handover.authority {
        data.push(("ca.crt", authority.clone()));
    }
    data.into_iter()
        .map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())))
        .collect()
}

/// What counts when two Secrets are compared.
pub(super) fn content(secret: &Secret) -> Vec<(&str, &[u8])> {
    let data = secret.data.iter().flatten();
    data.map(|(key, octets)| (key.as_str(), octets.0.as_slice()))
        .collect()
}

/// `smtp://` is upgraded with STARTTLS, `smtps://` is TLS from the first octet on.
fn url(handover: &Handover) -> String {
    let scheme = if handover.implicit_tls {
        "smtps"
    } else {
        "smtp"
    };
    format!(
        "{scheme}://{}:{}@{}:{}",
        percent_encoded(&handover.username),
        percent_encoded(handover.password.expose()),
        handover.host,
        handover.port
    )
}

/// RFC 3986 §2.1: all but unreserved characters.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            encoded.push(char::from(octet));
        } else {
            encoded.push_str(&format!("%{octet:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use config::Secret as Password;
    use serde_json::json;

    use super::{build, content};
    use crate::relay::Handover;

    #[test]
    fn everything_an_application_needs() {
        let credential = serde_json::from_value(json!({
            "apiVersion": "kurier.dev/v1alpha1", "kind": "MailCredential",
            "metadata": {"name": "checkout", "namespace": "mail", "uid": "c"},
            "spec": {
                "relayRef": {"name": "outbound"},
                "authentication": [{"name": "pw", "type": "Password", "password": {"secretName": "checkout-smtp"}}],
            },
        }))
        .unwrap();
        let handover = Handover {
            host: "outbound.mail.svc".to_owned(),
            port: 587,
            implicit_tls: false,
            username: "checkout.mail".to_owned(),
            password: Password::new("a/b+c"),
            authority: Some("PEM".to_owned()),
            told: None,
        };
        let secret = build(&credential, &handover);
        assert_eq!(secret.metadata.name.as_deref(), Some("checkout-smtp"));
        let owner = &secret.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.uid.as_str()),
            ("MailCredential", "c")
        );
        let text: Vec<_> = content(&secret)
            .into_iter()
            .map(|(key, octets)| format!("{key}={}", String::from_utf8_lossy(octets)))
            .collect();
        assert_eq!(
            text,
            [
                "SMTP_HOST=outbound.mail.svc",
                "SMTP_PASSWORD=a/b+c",
                "SMTP_PORT=587",
                "SMTP_URL=smtp://checkout.mail:a%2Fb%2Bc@outbound.mail.svc:587",
                "SMTP_USERNAME=checkout.mail",
                "ca.crt=PEM",
            ]
        );
    }
}
