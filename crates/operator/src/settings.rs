//! What the operator is told on its command line.

use std::net::SocketAddr;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Image of the relay pods; the operator's own, usually.
    pub relay_image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub relay_image_pull_policy: String,
    /// Where the Lease is: the operator's own namespace.
    pub namespace: String,
    /// Who holds the Lease: the pod's name, or any other name nobody else has.
    pub identity: String,
    pub lease_name: String,
    pub lease: LeaseTiming,
    /// The one namespace to look after; all of them when `None`.
    pub watch_namespace: Option<String>,
    /// `/healthz`, `/readyz` and `/metrics`.
    pub listen: SocketAddr,
    /// The cluster's DNS domain, for names on certificates.
    pub cluster_domain: String,
    /// Version and revision of the program, for metrics.
    pub version: &'static str,
    pub revision: &'static str,
}

/// Times of the Lease; `duration > renew > retry`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseTiming {
    /// Others take over when the Lease was not renewed for this long.
    pub duration: Duration,
    /// The holder stops when it could not renew for this long.
    pub renew: Duration,
    /// Between attempts.
    pub retry: Duration,
}

impl Default for LeaseTiming {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}
