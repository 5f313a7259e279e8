//! Debian packages.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::is_root;
use crate::command;

/// Packages, each with who needs it.
const PACKAGES: [(&str, &str); 19] = [
    ("binutils", "strip, for images"),
    ("ca-certificates", "Go, which fetches modules over TLS"),
    ("conntrack", "kube-proxy"),
    ("containernetworking-plugins", "pod networks"),
    ("iproute2", "namespaces"),
    ("iptables", "kube-proxy"),
    ("kmod", "the bridge's netfilter module"),
    ("libnet-ssleay-perl", "TLS of swaks"),
    ("mount", "clean-up"),
    ("openssl", "certificates"),
    (
        "postfix",
        "smtp-source, smtp-sink, interoperability, the benchmark",
    ),
    ("procps", "sysctl"),
    ("python3", "smtplib, and its reading of MIME"),
    ("python3-pip", "Valkey, which is in a Python package"),
    ("redis-server", "the queue"),
    ("redis-tools", "redis-cli"),
    ("runc", "containers"),
    ("swaks", "interoperability"),
    ("util-linux", "nsenter, setsid"),
];

/// While this file says so, a package's installation starts no service (invoke-rc.d(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str =
    "#!/bin/sh\n# written by cargo xtask tools for one installation\nexit 101\n";

/// Installs what is missing.
///
/// # Errors
/// When something is missing and this is not root on Debian, or apt fails.
pub(crate) fn install() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    println!("tools: installing {}", missing.join(" "));
    if !command::is_installed("apt-get") {
        bail!(
            "no apt-get here; install what these Debian packages hold: {}",
            missing.join(" ")
        );
    }
    if !is_root() {
        bail!("not root; run: apt-get install {}", missing.join(" "));
    }
    let policy = Policy::put()?;
    apt(&["update"])?;
    let install = ["install", "--yes", "--no-install-recommends"];
    apt(&[&install, missing.as_slice()].concat())?;
    drop(policy);
    Ok(())
}

fn missing() -> Vec<&'static str> {
    PACKAGES
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| !is_installed(name))
        .collect()
}

fn is_installed(package: &str) -> bool {
    let query = ["--show", "--showformat=${db:Status-Status}", package];
    command::capture(Command::new("dpkg-query").args(query)).is_ok_and(|said| said == "installed")
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.arg("--quiet=2")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null());
    command::run(&mut apt)
}

/// The policy file, for as long as this lives.
struct Policy;

impl Policy {
    fn put() -> Result<Option<Self>> {
        let ours = fs::read_to_string(POLICY).map(|text| text == POLICY_TEXT);
        if let Ok(false) = ours {
            // Somebody else's policy: theirs to decide what starts.
            return Ok(None);
        }
        fs::write(POLICY, POLICY_TEXT).with_context(|| format!("cannot write {POLICY}"))?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        Ok(Some(Self))
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if Path::new(POLICY).exists() {
            // A file that stays would keep services from starting for ever, but the package is there.
            if let Err(error) = fs::remove_file(POLICY) {
                eprintln!("tools: remove {POLICY} by hand: {error}");
            }
        }
    }
}
