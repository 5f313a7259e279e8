//! The architecture's rules about the source as a whole: dependencies, checked on what cargo resolves; who
//! writes Redis keys; one version; what the README shows. What no crate may depend on at all is in `deny.toml`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    command,
    paths::{cargo, workspace},
};

/// What a crate may depend on among ours, and what it must never depend on. A ban covers what is reached
/// through other crates; where the name ends with `!`, only a direct dependency is banned, because a
/// borrowed crate brings it.
const RULES: [(&str, &[&str], &[&str]); 9] = [
    (
        "smtp",
        &[],
        &[
            "tokio",
            "tracing",
            "rand",
            "getrandom",
            "jiff",
            "time",
            "chrono",
        ],
    ),
    (
        "message",
        &["smtp"],
        &["tokio", "redis", "hickory-resolver"],
    ),
    ("nexthop", &["smtp"], &["redis", "kube"]),
    ("queue", &["smtp"], &["kube"]),
    ("config", &["smtp"], &["kube", "tokio"]),
    ("telemetry", &[], &["kube", "redis"]),
    (
        "relay",
        &["smtp", "message", "nexthop", "queue", "config", "telemetry"],
        &["kube", "k8s-openapi"],
    ),
    // Its types come with kube's derive, and kube comes with tokio.
    ("api", &["config", "smtp"], &["tokio!", "redis"]),
    (
        "operator",
        &["api", "config", "telemetry", "nexthop", "message", "smtp"],
        &["redis"],
    ),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
    workspace_members: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// None for what the crate itself links; `dev` and `build` are free.
    kind: Option<String>,
}

/// Names of packages, by the name of what depends on them.
struct Graph {
    direct: BTreeMap<String, BTreeSet<String>>,
    ours: BTreeSet<String>,
}

impl Graph {
    fn read() -> Self {
        let mut metadata = cargo();
        metadata.args([
            "metadata",
            "--format-version=1",
            "--filter-platform",
            TARGET,
        ]);
        let text = command::capture(&mut metadata).unwrap();
        let metadata: Metadata = serde_json::from_str(&text).unwrap();
        let names: BTreeMap<_, _> = metadata
            .packages
            .iter()
            .map(|package| (&*package.id, &*package.name))
            .collect();
        let mut direct: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in &metadata.resolve.nodes {
            // Two versions of one package count as one: that is stricter.
            direct
                .entry(names[&*node.id].to_owned())
                .or_default()
                .extend(
                    node.deps
                        .iter()
                        .filter(|it| it.dep_kinds.iter().any(|kind| kind.kind.is_none()))
                        .map(|it| names[&*it.pkg].to_owned()),
                );
        }
        let ours = metadata
            .workspace_members
            .iter()
            .map(|id| names[&**id].to_owned())
            .collect();
        Self { direct, ours }
    }

    fn reached_from(&self, name: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut open = vec![name.to_owned()];
        while let Some(name) = open.pop() {
            for dependency in self.direct.get(&name).into_iter().flatten() {
                if reached.insert(dependency.clone()) {
                    open.push(dependency.clone());
                }
            }
        }
        reached
    }
}

const TARGET: &str = "x86_64-unknown-linux-gnu";

#[test]
fn crates_depend_only_on_what_the_architecture_allows() {
    let graph = Graph::read();
    let mut broken = Vec::new();
    for (name, allowed, never) in RULES {
        assert!(graph.ours.contains(name), "{name} is no crate of ours");
        let direct = &graph.direct[name];
        let reached = graph.reached_from(name);
        let of_ours = reached
            .intersection(&graph.ours)
            .filter(|it| !allowed.contains(&&***it));
        broken.extend(of_ours.map(|it| format!("{name} depends on {it}")));
        for never in never {
            let is_broken = match never.strip_suffix('!') {
                Some(never) => direct.contains(never),
                None => reached.contains(*never),
            };
            if is_broken {
                broken.push(format!("{name} depends on {never}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_binary_reaches_everything_it_is_made_of() {
    // A graph that was read wrongly would have nothing to find fault with.
    let reached = Graph::read().reached_from("kurier");
    for name in ["relay", "operator", "tokio", "kube", "redb", "rustls"] {
        assert!(reached.contains(name), "{name}");
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// The tests look into Redis from outside; the crates speak to it through `queue`.
#[test]
fn only_the_queue_knows_redis_keys_and_scripts() {
    // Written so that this file is not found itself.
    let key = ["mr", ":{"].concat();
    let crates = workspace().join("crates");
    let knows = |file: &Path| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.contains(&key) || file.extension().is_some_and(|it| it == "lua")
    };
    let (queue, others): (Vec<_>, Vec<_>) = files(&crates)
        .into_iter()
        .filter(|file| knows(file))
        .partition(|file| file.starts_with(crates.join("queue")));
    assert!(
        !queue.is_empty(),
        "nobody has Redis keys: the test looks for the wrong thing"
    );
    assert!(others.is_empty(), "{others:?}");
}

/// One image, one version: what the chart installs is what this source says of itself.
#[test]
fn the_chart_and_the_workspace_have_one_version() {
    let read = |name: &str| fs::read_to_string(workspace().join(name)).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let chart = read("charts/kurier/Chart.yaml");
    for line in [
        format!("version: {version}"),
        format!("appVersion: {version}"),
    ] {
        assert!(
            chart.lines().any(|it| it == line),
            "no {line:?} in:\n{chart}"
        );
    }
    let changes = read("CHANGELOG.md");
    let heading = changes
        .lines()
        .find(|line| line.starts_with("## "))
        .unwrap();
    assert!(heading.starts_with(&format!("## {version} ")), "{heading}");
}

#[test]
fn the_readme_shows_what_it_has_applied() {
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    let sample = fs::read_to_string(workspace().join("deploy/relay.yaml")).unwrap();
    let shown: Vec<_> = readme
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(shown.len(), 2, "the relay and an account");
    for block in shown {
        assert!(sample.contains(block), "not in deploy/relay.yaml:\n{block}");
    }
}
