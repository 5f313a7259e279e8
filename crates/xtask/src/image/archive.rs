//! An OCI image archive: the image layout (image-spec, `image-layout.md`) in a tar, with one layer.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::tar::{Access, Archive};
use crate::command;

/// Nobody in particular: containers of ours own nothing and need nothing of root's.
pub(crate) const USER: u32 = 65532;

const PUBLIC: Access = Access {
    mode: 0o755,
    owner: 0,
};

/// The files of an image, by path without a leading slash.
#[derive(Default)]
pub(crate) struct RootFs {
    files: BTreeMap<String, (u32, Vec<u8>)>,
    folders: BTreeMap<String, Access>,
}

impl RootFs {
    /// Adds a folder that the container's user may write to.
    pub(crate) fn writable(&mut self, path: &str) {
        self.parents(path);
        self.folders.insert(
            path.to_owned(),
            Access {
                mode: 0o1777,
                owner: USER,
            },
        );
    }

    /// Adds a file that all may read.
    pub(crate) fn text(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.add(path, 0o644, content.into());
    }

    /// Adds a program and the shared libraries that `ldd` names for it, at the paths they have here.
    ///
    /// # Errors
    /// When the program or a library cannot be read or found.
    pub(crate) fn program(&mut self, path: &str, from: &Path) -> Result<()> {
        for library in libraries(from)? {
            let place = library.to_string_lossy().trim_start_matches('/').to_owned();
            self.add(&place, 0o755, read(&library)?);
        }
        self.add(path, 0o755, read(from)?);
        Ok(())
    }

    fn add(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        self.parents(path);
        self.files.insert(path.to_owned(), (mode, content));
    }

    fn parents(&mut self, path: &str) {
        for (slash, _) in path.match_indices('/') {
            self.folders
                .entry(path[..slash].to_owned())
                .or_insert(PUBLIC);
        }
    }

    fn layer(&self) -> Vec<u8> {
        let mut archive = Archive::default();
        // A folder sorts before what is in it.
        for (path, access) in &self.folders {
            archive.folder(path, *access);
        }
        for (path, (mode, content)) in &self.files {
            let access = Access {
                mode: *mode,
                owner: 0,
            };
            archive.file(path, access, content);
        }
        archive.finish()
    }
}

/// What a container of the image runs.
pub(crate) struct Image<'a> {
    /// Repository and tag as in a pod's `image`, for instance `local/kurier:dev`.
    pub(crate) name: &'a str,
    pub(crate) entrypoint: &'a [&'a str],
    pub(crate) working_folder: &'a str,
}

impl Image<'_> {
    /// Writes the archive to `to`; a reader never sees half of it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, root: &RootFs, to: &Path) -> Result<()> {
        let folder = to.parent().unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let partial = to.with_extension("partial");
        fs::write(&partial, self.archive(root.layer()))
            .with_context(|| format!("cannot write {}", partial.display()))?;
        fs::rename(&partial, to).with_context(|| format!("cannot write {}", to.display()))
    }

    fn archive(&self, layer: Vec<u8>) -> Vec<u8> {
        let mut blobs = Vec::new();
        // An uncompressed layer's digest is its diff id too.
        let layer = blob(&mut blobs, "application/vnd.oci.image.layer.v1.tar", layer);
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "Env": ["PATH=/usr/bin"],
                "User": USER.to_string(),
                "WorkingDir": self.working_folder,
            },
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        });
        let config = blob(
            &mut blobs,
            "application/vnd.oci.image.config.v1+json",
            config.to_string().into_bytes(),
        );
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [layer],
        });
        let mut manifest = blob(
            &mut blobs,
            "application/vnd.oci.image.manifest.v1+json",
            manifest.to_string().into_bytes(),
        );
        let (_, tag) = self.name.rsplit_once(':').unwrap_or((self.name, "latest"));
        // The first is what containerd names the image on import, the second the specification's.
        manifest["annotations"] = json!({
            "io.containerd.image.name": format!("docker.io/{}", self.name),
            "org.opencontainers.image.ref.name": tag,
        });
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});

        let readable = Access {
            mode: 0o644,
            owner: 0,
        };
        let mut archive = Archive::default();
        archive.file("oci-layout", readable, br#"{"imageLayoutVersion":"1.0.0"}"#);
        archive.file("index.json", readable, index.to_string().as_bytes());
        for (digest, content) in blobs {
            archive.file(&format!("blobs/sha256/{digest}"), readable, &content);
        }
        archive.finish()
    }
}

/// Keeps the blob and returns its descriptor.
fn blob(
    blobs: &mut Vec<(String, Vec<u8>)>,
    media_type: &str,
    content: Vec<u8>,
) -> serde_json::Value {
    let digest: String = Sha256::digest(&content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let descriptor = json!({
        "mediaType": media_type,
        "digest": format!("sha256:{digest}"),
        "size": content.len(),
    });
    blobs.push((digest, content));
    descriptor
}

/// The name Go, and so OCI, has for this architecture.
fn architecture() -> &'static str {
    match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The shared libraries a program is loaded with, the loader among them; none for a static one.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("cannot start ldd")?;
    if !output.status.success() {
        // ldd(1) has no other way to say that a program is static.
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("not a dynamic executable") {
            return Ok(Vec::new());
        }
        bail!("ldd {}: {}", program.display(), command::tail(&said, 5));
    }
    parse_ldd(&String::from_utf8_lossy(&output.stdout))
}

/// Lines are `NAME => PATH (ADDRESS)`, `PATH (ADDRESS)`, and for the kernel's own a name only.
fn parse_ldd(text: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let place = line.split_once(" => ").map_or(line, |(_, place)| place);
        if place.starts_with("not found") {
            bail!("a shared library is missing: {line}");
        }
        if let Some((path, _)) = place.split_once(" (")
            && path.starts_with('/')
        {
            found.push(path.into());
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::str;

    use super::*;

    #[test]
    fn ldd_output() {
        let text = "\tlinux-vdso.so.1 (0x00007f)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 \
                    (0x1)\n\t/lib64/ld-linux-x86-64.so.2 (0x2)\n";
        let found = parse_ldd(text).unwrap();
        assert_eq!(
            found,
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
            .map(PathBuf::from)
        );
        assert!(parse_ldd("\tlibx.so => not found\n").is_err());
        assert!(parse_ldd("\tstatically linked\n").unwrap().is_empty());
    }

    #[test]
    fn folders_come_before_their_files_and_archives_are_reproducible() {
        let mut root = RootFs::default();
        root.text("etc/ssl/certs/ca.crt", "x");
        root.writable("data/spool");
        let folders: Vec<_> = root.folders.keys().map(String::as_str).collect();
        assert_eq!(
            folders,
            ["data", "data/spool", "etc", "etc/ssl", "etc/ssl/certs"]
        );
        assert_eq!(root.layer(), root.layer());
        assert_eq!(root.folders["data/spool"].mode, 0o1777);
    }

    #[test]
    fn every_descriptor_matches_its_blob() {
        let image = Image {
            name: "local/x:1",
            entrypoint: &["/x"],
            working_folder: "/",
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar");
        let mut root = RootFs::default();
        root.text("x", "content");
        image.write(&root, &path).unwrap();
        let extract = |member: &str| {
            let output = Command::new("tar")
                .arg("-xOf")
                .arg(&path)
                .arg(member)
                .output()
                .unwrap();
            assert!(output.status.success(), "{member} is not there");
            output.stdout
        };
        let json = |bytes: &[u8]| -> serde_json::Value { serde_json::from_slice(bytes).unwrap() };
        let blob = |descriptor: &serde_json::Value| {
            let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
            let content = extract(&format!("blobs/{digest}"));
            let hash = Sha256::digest(&content)
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect::<String>();
            assert!(digest.ends_with(&hash));
            assert_eq!(descriptor["size"], content.len());
            content
        };
        let index = json(&extract("index.json"));
        let annotations = &index["manifests"][0]["annotations"];
        assert_eq!(
            annotations["io.containerd.image.name"],
            "docker.io/local/x:1"
        );
        let manifest = json(&blob(&index["manifests"][0]));
        let config = json(&blob(&manifest["config"]));
        assert_eq!(config["config"]["User"], "65532");
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            manifest["layers"][0]["digest"]
        );
        let layer = blob(&manifest["layers"][0]);
        assert!(str::from_utf8(&layer).unwrap().contains("content"));
    }
}
