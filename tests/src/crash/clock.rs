//! A clock for Redis that goes as any other, and can be put forward and back: the preload shim that the
//! queue's conformance tests have for one that stands still.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

use crate::process::succeed;
use crate::receive::now;

pub(crate) struct Clock {
    folder: tempfile::TempDir,
    /// By how much it is wrong, in milliseconds.
    offset: Arc<AtomicI64>,
    has_ended: Arc<AtomicBool>,
    ticking: Option<JoinHandle<()>>,
}

impl Clock {
    pub(crate) fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let source = folder.path().join("shim.c");
        std::fs::write(&source, SHIM)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-o"]);
        succeed(compiler.arg(folder.path().join(LIBRARY)).arg(&source))?;
        let face = File::create(folder.path().join(FACE))?;
        let offset = Arc::new(AtomicI64::new(0));
        let has_ended = Arc::new(AtomicBool::new(false));
        show(&face, &offset);
        let ticking = std::thread::spawn({
            let (offset, has_ended) = (Arc::clone(&offset), Arc::clone(&has_ended));
            move || {
                while !has_ended.load(Ordering::SeqCst) {
                    show(&face, &offset);
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        Ok(Self {
            folder,
            offset,
            has_ended,
            ticking: Some(ticking),
        })
    }

    /// What a redis-server is started with to go by it.
    pub(crate) fn environment(&self) -> Vec<(&'static str, OsString)> {
        let path = |name| self.folder.path().join(name).into_os_string();
        vec![("LD_PRELOAD", path(LIBRARY)), ("KURIER_CLOCK", path(FACE))]
    }

    pub(crate) fn put_forward(&self, by: Duration) {
        self.offset.fetch_add(milliseconds(by), Ordering::SeqCst);
    }

    pub(crate) fn put_back(&self, by: Duration) {
        self.offset.fetch_sub(milliseconds(by), Ordering::SeqCst);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::SeqCst);
        if let Some(ticking) = self.ticking.take() {
            let _ = ticking.join();
        }
    }
}

fn show(face: &File, offset: &AtomicI64) {
    let shown = now().saturating_add_signed(offset.load(Ordering::SeqCst));
    // A face that cannot be written stands still, and a test that waits for it fails.
    let _ = face.write_all_at(&shown.to_ne_bytes(), 0);
}

fn milliseconds(of: Duration) -> i64 {
    i64::try_from(of.as_millis()).unwrap_or(i64::MAX)
}

const SHIM: &str = include_str!("../../../crates/queue/tests/conformance/clock_shim.c");
const LIBRARY: &str = "shim.so";
const FACE: &str = "face";
