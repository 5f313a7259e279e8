//! A disk in memory that crashes, fills up and stands still.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use redb::StorageBackend;

/// A disk in memory that knows what of it has been synced.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) octets: Mutex<Vec<u8>>,
    pub(super) synced: Mutex<Vec<u8>>,
    pub(super) syncs: AtomicUsize,
    /// What each sync left, from the first [`Disk::hold`] on.
    pub(super) images: Mutex<Vec<Vec<u8>>>,
    pub(super) keep_images: AtomicBool,
    pub(super) full: AtomicBool,
    /// Syncs wait while this is true.
    pub(super) held: Mutex<bool>,
    pub(super) released: Condvar,
}

#[derive(Clone, Debug)]
pub(super) struct Backend(pub(super) Arc<Disk>);

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, std::io::Error> {
        Ok(self.0.octets.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        let offset = offset as usize;
        out.copy_from_slice(&self.0.octets.lock().unwrap()[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), std::io::Error> {
        self.0.refuse_when_full()?;
        self.0.octets.lock().unwrap().resize(length as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        let mut held = self.0.held.lock().unwrap();
        while *held {
            held = self.0.released.wait(held).unwrap();
        }
        self.0.refuse_when_full()?;
        self.0.syncs.fetch_add(1, Ordering::SeqCst);
        let octets = self.0.octets.lock().unwrap().clone();
        if self.0.keep_images.load(Ordering::SeqCst) {
            self.0.images.lock().unwrap().push(octets.clone());
        }
        *self.0.synced.lock().unwrap() = octets;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.0.refuse_when_full()?;
        let offset = offset as usize;
        self.0.octets.lock().unwrap()[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

impl Disk {
    pub(super) fn refuse_when_full(&self) -> Result<(), std::io::Error> {
        if self.full.load(Ordering::SeqCst) {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    /// Until the guard is dropped, also by a test that fails.
    pub(super) fn hold(&self) -> Held<'_> {
        self.keep_images.store(true, Ordering::SeqCst);
        *self.held.lock().unwrap() = true;
        Held(self)
    }

    /// Another disk with what a crash would have left of this one.
    pub(super) fn after_crash(&self) -> Arc<Self> {
        Self::with(self.synced.lock().unwrap().clone())
    }

    pub(super) fn with(octets: Vec<u8>) -> Arc<Self> {
        let synced = Mutex::new(octets.clone());
        Arc::new(Self {
            octets: Mutex::new(octets),
            synced,
            ..Self::default()
        })
    }
}

pub(super) struct Held<'a>(&'a Disk);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.0.held.lock().unwrap() = false;
        self.0.released.notify_all();
    }
}
