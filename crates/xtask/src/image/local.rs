//! The images of ours: what is in each, and what it is called.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::archive::{Image, RootFs};
use crate::{command, tools::go};

/// `local/kurier:dev`, from a built `kurier`.
pub(crate) fn kurier(folder: &Path, program: &Path) -> Result<PathBuf> {
    let mut root = base();
    stripped(&mut root, "usr/bin/kurier", program, folder)?;
    write(folder, "local/kurier:dev", "/usr/bin/kurier", "/", &root)
}

/// `local/kurier-test:dev`, from a built `kurier-test`: load client, receiving server.
pub(crate) fn kurier_test(folder: &Path, program: &Path) -> Result<PathBuf> {
    let mut root = base();
    stripped(&mut root, "usr/bin/kurier-test", program, folder)?;
    write(
        folder,
        "local/kurier-test:dev",
        "/usr/bin/kurier-test",
        "/",
        &root,
    )
}

/// `local/redis:7`, from Debian's package.
pub(crate) fn redis(folder: &Path) -> Result<PathBuf> {
    let mut root = base();
    for program in ["redis-server", "redis-cli"] {
        let path = format!("usr/bin/{program}");
        // Debian's redis-server is a link to a program that looks at the name it is started by.
        let real = fs::canonicalize(Path::new("/").join(&path))
            .with_context(|| format!("{program} is not installed: cargo xtask tools"))?;
        root.program(&path, &real)?;
    }
    root.writable("data");
    write(
        folder,
        "local/redis:7",
        "/usr/bin/redis-server",
        "/data",
        &root,
    )
}

/// `local/otelcol:dev`, a collector that takes OTLP and hands it on as JSON over HTTP.
pub(crate) fn otelcol(folder: &Path) -> Result<PathBuf> {
    tool(folder, "local/otelcol:dev", "otelcol")
}

/// `local/coredns:1`.
pub(crate) fn coredns(folder: &Path) -> Result<PathBuf> {
    tool(folder, "local/coredns:1", "coredns")
}

/// `local/pause:1`, which holds the namespaces of every pod.
pub(crate) fn pause(folder: &Path) -> Result<PathBuf> {
    tool(folder, "local/pause:1", "pause")
}

/// An image of one of the Go programs, which are static.
fn tool(folder: &Path, name: &str, program: &str) -> Result<PathBuf> {
    let mut root = base();
    let path = format!("usr/bin/{program}");
    root.program(&path, &go::program(program)?)?;
    write(folder, name, &format!("/{path}"), "/", &root)
}

/// What every image has.
fn base() -> RootFs {
    let mut root = RootFs::default();
    root.text("etc/passwd", "root:x:0:0::/:/\nkurier:x:65532:65532::/:/\n");
    root.text("etc/group", "root:x:0:\nkurier:x:65532:\n");
    root.writable("tmp");
    root
}

fn stripped(root: &mut RootFs, path: &str, program: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let name = program.file_name().unwrap_or_default();
    let stripped = folder.join(name).with_extension("stripped");
    command::run(Command::new("strip").arg("-o").arg(&stripped).arg(program))?;
    root.program(path, &stripped)?;
    fs::remove_file(&stripped)?;
    Ok(())
}

fn write(
    folder: &Path,
    name: &str,
    program: &str,
    working: &str,
    root: &RootFs,
) -> Result<PathBuf> {
    let image = Image {
        name,
        entrypoint: &[program],
        working_folder: working,
    };
    let file = name.trim_start_matches("local/").replace(':', "-");
    let archive = folder.join(file).with_extension("tar");
    image.write(root, &archive)?;
    Ok(archive)
}
