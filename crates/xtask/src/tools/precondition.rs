//! What the developer commands need and cannot install.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{command, paths};

/// The oldest Go that the pinned modules build with.
const GO: (u32, u32) = (1, 26);

/// Refuses to go on where something is missing, with everything that is in one message.
pub(super) fn check() -> Result<()> {
    let missing = missing();
    if !missing.is_empty() {
        bail!("{}", missing.join("\n"));
    }
    Ok(())
}

/// One sentence for each precondition that is not met, saying what to do.
pub(crate) fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !cfg!(target_os = "linux") {
        missing.push("this is not Linux: use a Debian 12 machine or virtual machine".to_owned());
    }
    if !is_root() {
        missing.push("not root: packages, namespaces and mounts need it; run as root".to_owned());
    }
    let rustc = version(
        Command::new("rustc")
            .arg("--version")
            .current_dir(paths::workspace()),
    );
    let pinned = pinned_rust();
    if !rustc
        .as_deref()
        .is_some_and(|found| found.contains(&pinned))
    {
        missing.push(format!(
            "rustc {pinned} is not there: install rustup, it follows rust-toolchain.toml"
        ));
    }
    let go = version(Command::new("go").args(["env", "GOVERSION"]));
    if go
        .as_deref()
        .and_then(go_version)
        .is_none_or(|found| found < GO)
    {
        missing.push(format!(
            "Go {}.{} or newer is not in PATH: install it from go.dev",
            GO.0, GO.1
        ));
    }
    missing
}

/// Whether this process may make namespaces and mounts.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn version(command: &mut Command) -> Option<String> {
    command::capture(command).ok()
}

/// The channel of `rust-toolchain.toml`, so that it is written once.
fn pinned_rust() -> String {
    let file = include_str!("../../../../rust-toolchain.toml");
    file.lines()
        .find_map(|line| line.strip_prefix("channel = "))
        .unwrap_or_default()
        .trim_matches('"')
        .to_owned()
}

/// `go1.26.8` is (1, 26); `go1.27rc1` is (1, 27).
fn go_version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.trim().strip_prefix("go")?.split_once('.')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit());
    let minor = &rest[..digits.unwrap_or(rest.len())];
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions() {
        let check = |text, expected| assert_eq!(go_version(text), expected, "{text}");
        check("go1.26.8\n", Some((1, 26)));
        check("go1.27rc1", Some((1, 27)));
        check("go2.0", Some((2, 0)));
        check("devel", None);
    }

    #[test]
    fn the_toolchain_file_pins_a_full_version() {
        assert_eq!(pinned_rust().split('.').count(), 3, "{}", pinned_rust());
    }
}
