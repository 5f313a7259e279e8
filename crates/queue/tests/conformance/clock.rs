//! A clock that stands still until it is moved; a redis-server can be made to go by it.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use queue::model::WallClock;
use tempfile::TempDir;

#[derive(Clone)]
pub(crate) struct Clock(Arc<Inner>);

struct Inner {
    now: AtomicU64,
    face: Option<Face>,
}

/// Where a server reads the time.
struct Face {
    file: File,
    directory: TempDir,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self::with(None)
    }

    /// One that a redis-server started with [`Self::environment`] goes by.
    pub(crate) fn shown() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join(SHIM), shim()).expect("a file");
        let file = File::create(directory.path().join(FACE)).expect("a file");
        Self::with(Some(Face { file, directory }))
    }

    fn with(face: Option<Face>) -> Self {
        let now = AtomicU64::new(0);
        let clock = Self(Arc::new(Inner { now, face }));
        clock.set(START);
        clock
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.now.load(Ordering::SeqCst)
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.set(self.now() + by.as_millis() as u64);
    }

    pub(crate) fn set(&self, now: u64) {
        self.0.now.store(now, Ordering::SeqCst);
        if let Some(face) = &self.0.face {
            face.file
                .write_all_at(&now.to_ne_bytes(), 0)
                .expect("a file that can be written");
        }
    }

    pub(crate) fn wall(&self) -> WallClock {
        let clock = self.clone();
        WallClock::new(move || clock.now())
    }

    pub(crate) fn environment(&self) -> [(&'static str, OsString); 2] {
        let face = self.0.face.as_ref().expect("a clock that is shown");
        let path = |name| face.directory.path().join(name).into_os_string();
        [("LD_PRELOAD", path(SHIM)), ("KURIER_CLOCK", path(FACE))]
    }
}

/// The compiled library, made once.
fn shim() -> &'static [u8] {
    static OCTETS: OnceLock<Vec<u8>> = OnceLock::new();
    OCTETS.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let source = directory.path().join("clock_shim.c");
        let library = directory.path().join(SHIM);
        std::fs::write(&source, include_str!("clock_shim.c")).expect("a file");
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .args([&library, &source])
            .status()
            .expect("a C compiler is installed");
        assert!(status.success(), "{status}");
        std::fs::read(library).expect("what was compiled")
    })
}

const SHIM: &str = "clock_shim.so";
const FACE: &str = "clock";
/// What messages of the tests say when they were accepted.
const START: u64 = 1_700_000_000_000;
