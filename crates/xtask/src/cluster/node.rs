//! containerd, kube-proxy and the kubelet of one node.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};

use super::{
    Cluster, cgroup,
    daemon::Daemon,
    layout::{DNS_SERVICE, Node, PODS},
};
use crate::{command, tools::go};

/// containerd serves after one or two seconds.
const SERVING: Duration = Duration::from_secs(60);

/// Writes the node's configuration and starts its containerd.
pub(super) fn start_containerd(cluster: &Cluster, node: &Node) -> Result<Daemon> {
    configure(cluster, node)?;
    let configuration = node.dir.join("containerd.toml").display().to_string();
    Daemon::start(cluster, node, "containerd", ["--config", &configuration])
}

/// Waits until containerd serves.
pub(super) fn wait_for_containerd(node: &Node, containerd: &Daemon) -> Result<()> {
    command::wait_until("containerd serves", SERVING, || {
        containerd.check()?;
        Ok(command::succeeds(node.ctr()?.arg("version")).then_some(()))
    })
}

/// kube-proxy and the kubelet, which need a ready API server and containerd.
pub(super) fn start_kubelet(cluster: &Cluster, node: &Node) -> Result<[Daemon; 2]> {
    let pki = |file: &str| cluster.pki().join(file).display().to_string();
    let proxy = Daemon::start(
        cluster,
        node,
        "kube-proxy",
        [
            format!("--kubeconfig={}", pki("kube-proxy.conf")),
            format!("--hostname-override={}", node.name),
            format!("--cluster-cidr={PODS}"),
            "--proxy-mode=iptables".to_owned(),
            // The table of connections is the machine's, and stays as it is.
            "--conntrack-max-per-core=0".to_owned(),
        ],
    )?;
    let kubelet = Daemon::start(
        cluster,
        node,
        "kubelet",
        [
            format!("--kubeconfig={}", pki(&format!("{}.conf", node.name))),
            format!("--config={}", node.dir.join("kubelet.yaml").display()),
            format!("--root-dir={}", node.dir.join("kubelet").display()),
            format!("--hostname-override={}", node.name),
            format!("--node-ip={}", node.address()),
            format!("--node-labels=topology.kubernetes.io/zone=z{}", node.index),
        ],
    )?;
    Ok([proxy, kubelet])
}

fn configure(cluster: &Cluster, node: &Node) -> Result<()> {
    let cni = node.dir.join("cni");
    fs::create_dir_all(&cni).with_context(|| cni.display().to_string())?;
    let values = [
        ("@DIR@", node.dir.display().to_string()),
        ("@PKI@", cluster.pki().display().to_string()),
        ("@NODE@", node.name.clone()),
        ("@NAME@", node.unique_name.clone()),
        ("@PODS@", node.pods()),
        ("@DNS@", DNS_SERVICE.to_owned()),
        ("@CGROUP@", cgroup::root(node)),
    ];
    for (file, template) in [
        ("containerd.toml", include_str!("files/containerd.toml")),
        ("kubelet.yaml", include_str!("files/kubelet.yaml")),
        ("cni/10-pods.conflist", include_str!("files/cni.json")),
        // Nothing outside is reachable, so no name server is.
        ("resolv.conf", ""),
    ] {
        let path = node.dir.join(file);
        fs::write(&path, filled(template, &values))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn filled(template: &str, values: &[(&str, String)]) -> String {
    values
        .iter()
        .fold(template.to_owned(), |text, (key, value)| {
            text.replace(key, value)
        })
}

impl Node {
    /// Imports an image archive where the kubelet looks for images.
    pub(super) fn import(&self, archive: &Path) -> Result<()> {
        command::capture(self.ctr()?.args(["images", "import"]).arg(archive))?;
        Ok(())
    }

    fn ctr(&self) -> Result<std::process::Command> {
        let mut ctr = std::process::Command::new(go::program("ctr")?);
        ctr.arg("--address")
            .arg(self.containerd_socket())
            .args(["--namespace", "k8s.io"]);
        Ok(ctr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_is_filled() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster::at(Some(folder.path().into())).unwrap();
        let node = cluster.first_node();
        configure(&cluster, &node).unwrap();
        for file in ["containerd.toml", "kubelet.yaml", "cni/10-pods.conflist"] {
            let text = fs::read_to_string(node.dir.join(file)).unwrap();
            assert!(!text.contains('@'), "{file}: {text}");
        }
        let cni = fs::read(node.dir.join("cni/10-pods.conflist")).unwrap();
        let cni: serde_json::Value = serde_json::from_slice(&cni).unwrap();
        assert_eq!(
            cni["plugins"][0]["ipam"]["ranges"][0][0]["subnet"],
            "10.244.1.0/24"
        );
    }
}
