//! Programs built from pinned Go modules.
//!
//! A module is a folder under `crates/xtask/tools` with `go.mod`, `go.sum` and sometimes a `main.go`.
//! Its programs go into `CACHE/tools/NAME-DIGEST`, where the digest covers the module's files and the
//! way it is built: whoever changes a version gets another folder, whoever does not gets the old one.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{command, paths};

/// Arguments of every build: nothing of this machine or of the repository's state gets in.
const BUILD: [&str; 4] = ["build", "-mod=readonly", "-trimpath", "-buildvcs=false"];

/// Every module, those that take longest first.
pub(crate) const MODULES: [Module; 8] = [
    Module {
        name: "kubernetes",
        ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2",
        programs: &[
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
            (
                "kube-controller-manager",
                "k8s.io/kubernetes/cmd/kube-controller-manager",
            ),
            ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
            ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
        ],
        cold: 470,
    },
    Module {
        name: "coredns",
        ldflags: STRIPPED,
        programs: &[("coredns", "github.com/coredns/coredns")],
        cold: 150,
    },
    Module {
        name: "helm",
        ldflags: STRIPPED,
        programs: &[("helm", "helm.sh/helm/v4/cmd/helm")],
        cold: 120,
    },
    Module {
        name: "containerd",
        ldflags: STRIPPED,
        programs: &[
            (
                "containerd",
                "github.com/containerd/containerd/v2/cmd/containerd",
            ),
            (
                "containerd-shim-runc-v2",
                "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            ),
            ("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
        ],
        cold: 100,
    },
    Module {
        name: "etcd",
        ldflags: STRIPPED,
        programs: &[("etcd", "go.etcd.io/etcd/server/v3")],
        cold: 45,
    },
    Module {
        name: "otelcol",
        ldflags: STRIPPED,
        programs: &[("otelcol", ".")],
        cold: 45,
    },
    Module {
        name: "kubeconform",
        ldflags: STRIPPED,
        programs: &[(
            "kubeconform",
            "github.com/yannh/kubeconform/cmd/kubeconform",
        )],
        cold: 10,
    },
    Module {
        name: "pause",
        ldflags: STRIPPED,
        programs: &[("pause", ".")],
        cold: 5,
    },
];

const STRIPPED: &str = "-s -w";

/// A Go module of ours and what is built from it.
pub(crate) struct Module {
    name: &'static str,
    ldflags: &'static str,
    /// Name of the file, package it is built from.
    programs: &'static [(&'static str, &'static str)],
    /// Seconds on two busy cores with nothing cached, for the progress line.
    cold: u32,
}

impl Module {
    /// Builds what is not there yet.
    ///
    /// # Errors
    /// When Go cannot build it.
    pub(crate) fn ensure(&self) -> Result<()> {
        let built = self.folder()?;
        if built.is_dir() {
            return Ok(());
        }
        let all = folder()?;
        fs::create_dir_all(&all).with_context(|| format!("cannot make {}", all.display()))?;
        // Two builds at once would do the same work twice; whoever comes second finds it done.
        let lock = File::create(all.join(format!("{}.lock", self.name)))?;
        lock.lock()?;
        if built.is_dir() {
            return Ok(());
        }
        let partial = built.with_extension("partial");
        fs::create_dir_all(&partial)?;
        println!(
            "tools: building {} (about {} s from nothing)",
            self.name, self.cold
        );
        let start = Instant::now();
        for (program, package) in self.programs {
            self.build(package, &partial.join(program))?;
            println!(
                "tools: {program} ready, {} s into {}",
                start.elapsed().as_secs(),
                self.name
            );
        }
        // Only a whole folder ever gets the final name.
        fs::rename(&partial, &built).with_context(|| format!("cannot make {}", built.display()))
    }

    fn build(&self, package: &str, to: &Path) -> Result<()> {
        let mut go = Command::new("nice");
        go.args(["-n", "10", "go"])
            .args(BUILD)
            .args(["-ldflags", self.ldflags, "-o"])
            .arg(to)
            .arg(package)
            .current_dir(self.source())
            .env("CGO_ENABLED", "0")
            .env("GOWORK", "off")
            .env_remove("GOFLAGS");
        command::run(&mut go)
    }

    fn source(&self) -> PathBuf {
        paths::tool_modules().join(self.name)
    }

    fn folder(&self) -> Result<PathBuf> {
        let mut files = BTreeMap::new();
        let source = self.source();
        for entry in fs::read_dir(&source).with_context(|| source.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_owned();
            files.insert(name, fs::read(&path)?);
        }
        let key = digest(self, &files);
        Ok(folder()?.join(format!("{}-{key}", self.name)))
    }
}

/// Where the modules' folders are.
///
/// # Errors
/// When there is no home to have a cache in.
pub(crate) fn folder() -> Result<PathBuf> {
    Ok(paths::cache()?.join("tools"))
}

/// Builds the module of this name when it has not been.
///
/// # Errors
/// When there is none or Go cannot build it.
pub(crate) fn ensure(name: &str) -> Result<()> {
    MODULES
        .iter()
        .find(|module| module.name == name)
        .with_context(|| format!("{name} is not among the tool modules"))?
        .ensure()
}

/// The path of a built program.
///
/// # Errors
/// When it has not been built.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let module = MODULES
        .iter()
        .find(|module| module.programs.iter().any(|(program, _)| *program == name))
        .with_context(|| format!("{name} is not among the tools"))?;
    let path = module.folder()?.join(name);
    if !path.is_file() {
        bail!("{name} has not been built: cargo xtask tools");
    }
    Ok(path)
}

/// `PATH` with the folders of all built programs before what it has now.
///
/// # Errors
/// When a module's folder cannot be read.
pub(crate) fn path_variable() -> Result<OsString> {
    let mut folders = Vec::new();
    for module in &MODULES {
        folders.push(module.folder()?);
    }
    let now = env::var_os("PATH").unwrap_or_default();
    folders.extend(env::split_paths(&now));
    Ok(env::join_paths(folders)?)
}

/// The folder in Go's module cache that holds the source of one of a module's dependencies.
///
/// # Errors
/// When Go cannot fetch it.
pub(crate) fn source_of(module: &str, dependency: &str) -> Result<PathBuf> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Download {
        dir: PathBuf,
    }
    let mut go = Command::new("go");
    go.args(["mod", "download", "-json", dependency])
        .current_dir(paths::tool_modules().join(module))
        .env("GOWORK", "off")
        .env_remove("GOFLAGS");
    let said = command::capture(&mut go)?;
    let download: Download = serde_json::from_str(&said).context("go mod download -json")?;
    Ok(download.dir)
}

fn digest(module: &Module, files: &BTreeMap<OsString, Vec<u8>>) -> String {
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        // With its length before it, no field can pass for the end of another.
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    BUILD.iter().for_each(|argument| field(argument.as_bytes()));
    field(module.ldflags.as_bytes());
    for (program, package) in module.programs {
        field(program.as_bytes());
        field(package.as_bytes());
    }
    for (name, content) in files {
        field(name.as_encoded_bytes());
        field(content);
    }
    hash.finalize()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(entries: &[(&str, &str)]) -> BTreeMap<OsString, Vec<u8>> {
        entries
            .iter()
            .map(|(name, text)| ((*name).into(), (*text).into()))
            .collect()
    }

    #[test]
    fn the_key_changes_with_every_input_and_with_nothing_else() {
        let module = |ldflags| Module {
            name: "x",
            ldflags,
            programs: &[("p", "example.com/p")],
            cold: 1,
        };
        let one = files(&[("go.mod", "a"), ("go.sum", "b")]);
        let key = digest(&module("-s"), &one);
        assert_eq!(key.len(), 16);
        assert_eq!(key, digest(&module("-s"), &one));
        assert_ne!(key, digest(&module("-w"), &one));
        assert_ne!(
            key,
            digest(&module("-s"), &files(&[("go.mod", "a"), ("go.sum", "c")]))
        );
        assert_ne!(
            key,
            digest(&module("-s"), &files(&[("go.mod", "ab"), ("go.sum", "")]))
        );
    }

    #[test]
    fn every_module_is_pinned() {
        for module in &MODULES {
            let go_mod = fs::read_to_string(module.source().join("go.mod")).unwrap();
            for (_, package) in module
                .programs
                .iter()
                .filter(|(_, package)| *package != ".")
            {
                assert!(
                    go_mod.contains(&format!("{package}\n")),
                    "{package}: not a tool in go.mod"
                );
            }
            assert!(!go_mod.contains("latest"), "{}", module.name);
            assert!(module.folder().unwrap().starts_with(folder().unwrap()));
        }
    }

    #[test]
    fn an_unknown_program_is_an_error() {
        assert!(program("vim").is_err());
    }
}
