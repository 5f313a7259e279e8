//! A POSIX ustar archive (IEEE Std 1003.1, pax, "ustar Interchange Format"), written in memory.
//!
//! Reproducible: no time, no names of users. Only regular files and folders, which is all an image of
//! ours has.

/// One archive in the making.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
}

/// Who owns an entry and what others may do with it.
#[derive(Clone, Copy)]
pub(super) struct Access {
    pub(super) mode: u32,
    pub(super) owner: u32,
}

const BLOCK: usize = 512;

impl Archive {
    /// Adds a folder. `path` has no leading or trailing slash and at most 100 octets.
    pub(super) fn folder(&mut self, path: &str, access: Access) {
        self.header(&format!("{path}/"), b'5', access, 0);
    }

    /// Adds a regular file. `path` has no leading slash and at most 100 octets.
    pub(super) fn file(&mut self, path: &str, access: Access, content: &[u8]) {
        self.header(path, b'0', access, content.len());
        self.bytes.extend_from_slice(content);
        self.bytes
            .resize(self.bytes.len().next_multiple_of(BLOCK), 0);
    }

    /// The whole archive with its end marker, two blocks of zeros.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }

    fn header(&mut self, path: &str, kind: u8, access: Access, size: usize) {
        assert!(path.len() <= 100, "{path} does not fit a ustar name");
        let mut block = [0; BLOCK];
        block[..path.len()].copy_from_slice(path.as_bytes());
        octal(&mut block[100..108], u64::from(access.mode));
        octal(&mut block[108..116], u64::from(access.owner));
        octal(&mut block[116..124], u64::from(access.owner));
        octal(&mut block[124..136], size as u64);
        octal(&mut block[136..148], 0);
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        // The checksum counts its own field as blanks.
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        octal(&mut block[148..155], sum);
        self.bytes.extend_from_slice(&block);
    }
}

/// Fills the field with the number in octal digits and a closing NUL.
fn octal(field: &mut [u8], number: u64) {
    let digits = field.len() - 1;
    let text = format!("{number:0digits$o}");
    assert!(
        text.len() == digits,
        "{number} does not fit {digits} octal digits"
    );
    field[..digits].copy_from_slice(text.as_bytes());
    field[digits] = 0;
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    const ROOT: Access = Access {
        mode: 0o755,
        owner: 0,
    };

    #[test]
    fn tar_reads_what_was_written() {
        let mut archive = Archive::default();
        archive.folder("usr", ROOT);
        archive.file(
            "usr/hello",
            Access {
                mode: 0o640,
                owner: 65532,
            },
            b"hi\n",
        );
        archive.file("empty", ROOT, b"");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        fs::write(&path, archive.finish()).unwrap();
        let tar = |arguments: &[&str]| {
            let output = Command::new("tar")
                .args(arguments)
                .arg(&path)
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8(output.stdout).unwrap()
        };
        let listing = tar(&["--numeric-owner", "--utc", "-tvf"]);
        let lines: Vec<_> = listing.lines().collect();
        assert_eq!(lines.len(), 3, "{listing}");
        assert!(lines[0].starts_with("drwxr-xr-x 0/0 "), "{listing}");
        assert!(lines[1].starts_with("-rw-r----- 65532/65532 "), "{listing}");
        assert!(lines[1].ends_with(" usr/hello"), "{listing}");
        assert_eq!(tar(&["--to-stdout", "-xf"]), "hi\n");
    }

    #[test]
    fn sizes_are_whole_blocks() {
        let mut archive = Archive::default();
        archive.file("a", ROOT, &[1; BLOCK + 1]);
        assert_eq!(archive.finish().len(), BLOCK * (1 + 2 + 2));
    }
}
