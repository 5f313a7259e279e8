//! etcd, the API server, and the controllers.

use std::time::Duration;

use anyhow::Result;

use super::{
    Cluster,
    daemon::Daemon,
    layout::{PODS, SERVICES},
};
use crate::command;

const ETCD: &str = "http://127.0.0.1:2379";
/// A cold start on two busy cores takes some ten seconds.
const READY: Duration = Duration::from_secs(120);

/// etcd and the API server: what everything else talks to.
pub(super) fn start(cluster: &Cluster) -> Result<[Daemon; 2]> {
    let node = cluster.first_node();
    let etcd = Daemon::start(
        cluster,
        &node,
        "etcd",
        [
            // What a test loses in a power cut is a test.
            "--unsafe-no-fsync".to_owned(),
            format!("--data-dir={}", cluster.dir().join("etcd").display()),
            format!("--listen-client-urls={ETCD}"),
            format!("--advertise-client-urls={ETCD}"),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        ],
    )?;
    let api_server = Daemon::start(cluster, &node, "kube-apiserver", api_server(cluster))?;
    Ok([etcd, api_server])
}

fn api_server(cluster: &Cluster) -> Vec<String> {
    let pki = |file: &str| cluster.pki().join(file).display().to_string();
    vec![
        format!("--etcd-servers={ETCD}"),
        format!("--advertise-address={}", cluster.first_node().address()),
        "--secure-port=6443".to_owned(),
        format!("--tls-cert-file={}", pki("apiserver.crt")),
        format!("--tls-private-key-file={}", pki("apiserver.key")),
        format!("--client-ca-file={}", pki("ca.crt")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", pki("sa.pub")),
        format!("--service-account-signing-key-file={}", pki("sa.key")),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--allow-privileged=true".to_owned(),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--kubelet-client-certificate={}", pki("kubelet-client.crt")),
        format!("--kubelet-client-key={}", pki("kubelet-client.key")),
        // The aggregation layer, for APIs that are served by pods.
        format!("--requestheader-client-ca-file={}", pki("ca.crt")),
        "--requestheader-allowed-names=front-proxy".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={}", pki("front-proxy.crt")),
        format!("--proxy-client-key-file={}", pki("front-proxy.key")),
        "--enable-aggregator-routing=true".to_owned(),
    ]
}

/// Waits until the API server says it is ready.
pub(super) fn wait(cluster: &Cluster, daemons: &[Daemon]) -> Result<()> {
    command::wait_until("the API server is ready", READY, || {
        daemons.iter().try_for_each(Daemon::check)?;
        let ready = command::succeeds(cluster.kubectl()?.args(["get", "--raw", "/readyz"]));
        Ok(ready.then_some(()))
    })
}

/// The controller manager and the scheduler, which need a ready API server.
pub(super) fn start_controllers(cluster: &Cluster) -> Result<[Daemon; 2]> {
    let node = cluster.first_node();
    let pki = |file: &str| cluster.pki().join(file).display().to_string();
    let controller_manager = Daemon::start(
        cluster,
        &node,
        "kube-controller-manager",
        [
            format!("--kubeconfig={}", pki("kube-controller-manager.conf")),
            format!("--service-account-private-key-file={}", pki("sa.key")),
            format!("--root-ca-file={}", pki("ca.crt")),
            format!("--cluster-cidr={PODS}"),
            "--allocate-node-cidrs=false".to_owned(),
            "--use-service-account-credentials".to_owned(),
            "--leader-elect=false".to_owned(),
            // At the usual 20 requests a second its start takes five seconds.
            "--kube-api-qps=200".to_owned(),
            "--kube-api-burst=400".to_owned(),
            // Tests of scaling and of lost nodes should not wait for the usual 15 and 50 seconds.
            "--horizontal-pod-autoscaler-sync-period=2s".to_owned(),
            "--node-monitor-grace-period=20s".to_owned(),
        ],
    )?;
    let scheduler = Daemon::start(
        cluster,
        &node,
        "kube-scheduler",
        [
            format!("--kubeconfig={}", pki("kube-scheduler.conf")),
            "--leader-elect=false".to_owned(),
        ],
    )?;
    Ok([controller_manager, scheduler])
}
