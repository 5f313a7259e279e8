//! `relay.yaml`: one relay.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::admin::{Admin, Drain, Telemetry};
use crate::attachments::AttachmentFiles;
use crate::credential::Credential;
use crate::delivery::Delivery;
use crate::hostname::Hostname;
use crate::listener::{Limits, Listener, TlsMode};
use crate::manifest::Digest;
use crate::pattern::DomainPattern;
use crate::queue::{Durability, Queue, Source, Timing};
use crate::route::Route;

/// The one document format this program reads and writes. A change that an older relay would
/// misread raises it; the operator then writes a new Secret beside the old one.
pub const SCHEMA: u32 = 1;

/// A relay's configuration.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RelayConfig {
    /// Must be [`SCHEMA`].
    pub schema: u32,
    /// Which `MailRelay` this is; absent outside of a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// The name in greetings, `Received` and `Reporting-MTA`.
    pub hostname: Hostname,
    pub listeners: Vec<Listener>,
    /// Whose mail it is that came in without a credential, from `allowedNetworks`.
    #[serde(default = "default_tenant")]
    pub default_tenant: String,
    /// What each tenant may do. A tenant without an entry may send as any domain.
    #[serde(default)]
    pub tenants: Vec<Tenant>,
    pub queue: Queue,
    #[serde(default)]
    pub delivery: Delivery,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub telemetry: Telemetry,
    #[serde(default)]
    pub admin: Admin,
    #[serde(default)]
    pub timing: Timing,
    #[serde(default)]
    pub drain: Drain,
    /// Where attachments come as files of their own. Without it `credentials` and `routes` stand here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachments: Option<AttachmentFiles>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Credential>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
}

impl RelayConfig {
    /// What a relay takes up only when it starts: sockets, the queue's store, timing, telemetry.
    /// Everything else is put in force while it runs.
    pub fn fixed_at_start(&self) -> FixedAtStart<'_> {
        FixedAtStart {
            listeners: self
                .listeners
                .iter()
                .map(|l| {
                    (
                        l.name.as_str(),
                        (l.address, l.tls.as_ref().map(|tls| tls.mode)),
                    )
                })
                .collect(),
            admin: (
                self.admin.health,
                self.admin.management,
                self.admin.status.as_ref().map(|status| status.address),
            ),
            queue: (
                &self.queue.id,
                &self.queue.owner,
                &self.queue.source,
                self.queue.durability,
            ),
            timing: self.timing,
            telemetry: &self.telemetry,
        }
    }
}

/// The part of a configuration that a running relay cannot follow. The operator rolls the pods when
/// its digest changes; a relay names the field that keeps it from following.
#[derive(PartialEq, Debug)]
pub struct FixedAtStart<'a> {
    listeners: BTreeMap<&'a str, (SocketAddr, Option<TlsMode>)>,
    admin: (Option<SocketAddr>, Option<SocketAddr>, Option<SocketAddr>),
    queue: (&'a str, &'a str, &'a Source, Durability),
    timing: Timing,
    telemetry: &'a Telemetry,
}

impl FixedAtStart<'_> {
    pub fn digest(&self) -> Digest {
        let fixed = (
            &self.listeners,
            self.admin,
            self.queue,
            self.timing,
            self.telemetry,
        );
        Digest::of(
            serde_json::to_string(&fixed)
                .expect("a configuration is JSON")
                .as_bytes(),
        )
    }

    /// The first field that is not as in `before`.
    pub fn changed_from(&self, before: &Self) -> Option<&'static str> {
        let fields = [
            ("listeners", self.listeners != before.listeners),
            ("admin", self.admin != before.admin),
            ("queue", self.queue != before.queue),
            ("timing", self.timing != before.timing),
            ("telemetry", self.telemetry != before.telemetry),
        ];
        fields
            .into_iter()
            .find_map(|(field, changed)| changed.then_some(field))
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Identity {
    pub uid: String,
    pub namespace: String,
    pub name: String,
}

/// A grant to everybody of one tenant (a namespace, in a cluster).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tenant {
    pub name: String,
    /// Domains of the reverse-path; empty is any.
    #[serde(default)]
    pub sender_domains: Vec<DomainPattern>,
    /// Its share of delivery beside the others', from 1 to 1000.
    #[serde(default = "one")]
    pub weight: u32,
}

impl Tenant {
    /// Whether mail of this tenant may have a reverse-path in `domain`.
    pub fn may_send_as(&self, domain: &str) -> bool {
        self.sender_domains.is_empty() || self.sender_domains.iter().any(|p| p.matches(domain))
    }
}

fn one() -> u32 {
    1
}

fn default_tenant() -> String {
    "default".to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::parse;

    #[test]
    fn only_what_needs_a_restart_is_fixed_at_start() {
        let full = include_str!("../tests/full.yaml");
        let fixed = |from: &str, to: &str| {
            assert!(full.contains(from), "{from}");
            parse(&full.replacen(from, to, 1), Path::new("relay.yaml"))
                .unwrap()
                .fixed_at_start()
                .digest()
        };
        let before = fixed("schema", "schema");
        for (from, to) in [
            ("messageSize: 25Mi", "messageSize: 1Mi"),
            ("lifetime: 120h", "lifetime: 12h"),
            ("required: true", "required: false"),
            ("tls: Opportunistic", "tls: Require"),
            ("hostname: mail", "hostname: mx"),
        ] {
            assert_eq!(fixed(from, to), before, "{to}");
        }
        for (from, to) in [
            ("2587", "2588"),
            ("mode: StartTLS", "mode: Implicit"),
            ("id: mail.outbound", "id: mail.other"),
            ("samplingPercent: 100", "samplingPercent: 50"),
            ("lease: 30s", "lease: 20s"),
        ] {
            assert_ne!(fixed(from, to), before, "{to}");
        }
    }
}
