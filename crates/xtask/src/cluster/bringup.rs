//! `cluster up`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    Cluster, cgroup, control_plane, daemon::Daemon, layout::Node, network, node, pki,
    record::Record, status, teardown,
};
use crate::{
    command,
    image::local,
    paths,
    tools::{self, debian, go},
};

/// Modules of which programs run in or for a cluster.
const NEEDED: [&str; 5] = ["kubernetes", "etcd", "containerd", "coredns", "pause"];

/// Of the machine, set by every kubelet at start (`pkg/kubelet/cm`, `setupKernelTunables`).
const SYSCTLS: [&str; 5] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
];

/// Until nodes are Ready and DNS answers.
const READY: Duration = Duration::from_secs(120);

/// Starts the cluster and waits until pods can run in it.
pub(super) fn up(cluster: &Cluster, nodes: Option<u8>) -> Result<()> {
    if !tools::is_root() {
        bail!("a cluster needs root, for namespaces and mounts");
    }
    let _lock = lock(cluster)?;
    if let Some(record) = status::running(cluster)? {
        if let Some(nodes) = nodes.filter(|nodes| *nodes != record.nodes) {
            bail!(
                "it runs with {} node(s), not {nodes}: cargo xtask cluster down",
                record.nodes
            );
        }
        return status::print(cluster, false);
    }
    debian::install()?;
    NEEDED.into_iter().try_for_each(go::ensure)?;
    teardown::remove(cluster)?;
    cluster.claim()?;
    // What a failed start leaves stays for a look at its logs; the next start or `down` removes it.
    Bringup::new(cluster, nodes.unwrap_or(1)).start()?;
    status::print(cluster, false)
}

/// One command at a time per cluster.
pub(super) fn lock(cluster: &Cluster) -> Result<File> {
    let folder = paths::state()?.join("locks");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let lock = File::create(folder.join(cluster.id()))?;
    lock.lock()?;
    Ok(lock)
}

struct Bringup<'a> {
    cluster: &'a Cluster,
    nodes: Vec<Node>,
    record: Record,
    start: Instant,
}

impl<'a> Bringup<'a> {
    fn new(cluster: &'a Cluster, nodes: u8) -> Self {
        Self {
            cluster,
            nodes: cluster.nodes(nodes),
            record: Record {
                nodes,
                sysctls: sysctls(),
                ..Record::default()
            },
            start: Instant::now(),
        }
    }

    fn start(mut self) -> Result<()> {
        let cluster = self.cluster;
        cluster.write(&self.record)?;
        self.prepare()?;
        self.step("network, control groups and certificates made");

        self.started(control_plane::start(cluster)?)?;
        let mut containerds = Vec::new();
        for node in &self.nodes {
            containerds.push(node::start_containerd(cluster, node)?);
        }
        self.started(containerds.clone())?;
        let images = [local::pause(cluster.dir())?, local::coredns(cluster.dir())?];
        for (node, containerd) in self.nodes.iter().zip(&containerds) {
            node::wait_for_containerd(node, containerd)?;
            for image in &images {
                node.import(image)?;
            }
        }
        self.step("containerd serves");

        control_plane::wait(cluster, &self.record.daemons)?;
        self.step("the API server is ready");

        let controllers = control_plane::start_controllers(cluster)?;
        self.started(controllers)?;
        let mut kubelets = Vec::new();
        for node in &self.nodes {
            kubelets.extend(node::start_kubelet(cluster, node)?);
        }
        self.started(kubelets)?;
        self.wait_for_nodes()?;
        self.step("every node is Ready");

        self.bring_names()?;
        self.record.ready = true;
        cluster.write(&self.record)?;
        self.step("names resolve");
        Ok(())
    }

    fn prepare(&self) -> Result<()> {
        fs::create_dir_all(self.cluster.dir().join("log"))?;
        for node in &self.nodes {
            fs::create_dir_all(&node.dir)?;
            cgroup::make(node)?;
        }
        network::make(&self.nodes)?;
        pki::make(self.cluster, &self.nodes)
    }

    /// Written down at once: a crash from here on finds it.
    fn started(&mut self, daemons: impl IntoIterator<Item = Daemon>) -> Result<()> {
        self.record.daemons.extend(daemons);
        self.cluster.write(&self.record)
    }

    fn wait_for_nodes(&self) -> Result<()> {
        let expected = self.nodes.len();
        command::wait_until("every node is Ready", READY, || {
            self.record.daemons.iter().try_for_each(Daemon::check)?;
            let jsonpath = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}";
            let mut get = self.cluster.kubectl()?;
            let said = command::capture(get.args(["get", "nodes", "-o", jsonpath]))?;
            let ready = said
                .split_whitespace()
                .filter(|status| *status == "True")
                .count();
            Ok((ready == expected).then_some(()))
        })
    }

    fn bring_names(&self) -> Result<()> {
        let manifest = self.cluster.dir().join("coredns.yaml");
        fs::write(&manifest, include_str!("files/coredns.yaml"))?;
        let mut apply = self.cluster.kubectl()?;
        command::capture(apply.args(["apply", "-f"]).arg(&manifest))?;
        let mut wait = self.cluster.kubectl()?;
        wait.args([
            "-n",
            "kube-system",
            "rollout",
            "status",
            "deployment/coredns",
        ])
        .arg(format!("--timeout={}s", READY.as_secs()))
        .stderr(Stdio::inherit());
        command::capture(&mut wait)?;
        Ok(())
    }

    fn step(&self, what: &str) {
        println!(
            "cluster: {what} ({:.1} s)",
            self.start.elapsed().as_secs_f32()
        );
    }
}

fn sysctls() -> BTreeMap<PathBuf, String> {
    SYSCTLS
        .into_iter()
        .map(|name| PathBuf::from("/proc/sys").join(name))
        .filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?)))
        .collect()
}
