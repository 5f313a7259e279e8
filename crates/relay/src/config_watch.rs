//! Putting changed configuration in force, without a restart and without dropping a session.
//!
//! Files are looked at once a second, by what the system knows of them: a Secret is mounted as a
//! link to a directory that is swapped, so inode, size or time of a changed file differ. Only then
//! are they read. A configuration is put in force as a whole or not at all; what cannot be read or
//! used leaves the one in force where it is, and is reported.
//!
//! Sockets, the queue and telemetry are made at the start. A change of those waits for a restart
//! and is reported until then, but everything else of it is in force: a credential that was
//! revoked must not live on because a port changed with it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::ConfigError;
use config::manifest::Digest;
use config::status::Rejection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::active::{Active, CompileError};
use crate::metrics::{ConfigLoad, Metrics};
use crate::tls::Resumption;

/// Reads the configuration again whenever its files change.
pub(crate) struct ConfigWatch {
    pub(crate) file: PathBuf,
    pub(crate) resumption: Resumption,
    /// What the process was started with.
    pub(crate) start: Arc<Active>,
    pub(crate) active: watch::Sender<Arc<Active>>,
    pub(crate) rejection: watch::Sender<Option<Rejection>>,
    pub(crate) metrics: Metrics,
}

impl ConfigWatch {
    pub(crate) async fn run(self, stop: CancellationToken) {
        // Not what was seen at the start: the files may have changed since they were read.
        let mut seen = None;
        let mut incomplete_for = 0;
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => return,
            }
            let now = Some(fingerprints(&self.watched()));
            if now == seen && incomplete_for == 0 {
                continue;
            }
            let first = seen.is_none();
            seen = now;
            match self.reload(first).await {
                Ok(()) => incomplete_for = 0,
                // Files arrive one by one. It is worth a report only when it lasts.
                Err(ReloadError::Config(error @ ConfigError::Incomplete { .. })) => {
                    incomplete_for += 1;
                    if incomplete_for == PATIENCE {
                        self.reject(&error.to_string());
                    }
                }
                Err(error) => {
                    incomplete_for = 0;
                    self.reject(&error.to_string());
                }
            }
        }
    }

    async fn reload(&self, first: bool) -> Result<(), ReloadError> {
        let (file, resumption) = (self.file.clone(), self.resumption.clone());
        let in_force = Arc::clone(&self.active.borrow());
        let (start, before) = (Arc::clone(&self.start), Arc::clone(&in_force));
        let read = move || -> Result<Active, ReloadError> {
            let loaded = config::load(&file)?;
            Ok(Active::compile(loaded, &resumption)?.following(&start, &before))
        };
        let active = tokio::task::spawn_blocking(read).await??;
        let unchanged = first && active.loaded == in_force.loaded;
        let fixed = active.needs_restart;
        if !unchanged {
            let hash = active.loaded.manifest.config_hash.clone();
            self.active.send_replace(Arc::new(active));
            self.metrics.config_loads.inc(ConfigLoad::Switched);
            tracing::info!(config_hash = %hash, "configuration is in force");
        }
        match fixed {
            Some(fixed) => Err(ReloadError::NeedsRestart(fixed)),
            None => {
                self.rejection
                    .send_if_modified(|rejection| rejection.take().is_some());
                Ok(())
            }
        }
    }

    fn reject(&self, message: &str) {
        let rejection = Rejection {
            config_hash: fs::read(&self.file)
                .ok()
                .map(|content| Digest::of(&content)),
            message: message.to_owned(),
        };
        if self.rejection.borrow().as_ref() == Some(&rejection) {
            return;
        }
        self.metrics.config_loads.inc(ConfigLoad::Rejected);
        tracing::error!(error = message, "configuration is rejected");
        self.rejection.send_replace(Some(rejection));
    }

    /// The files of the configuration in force, and those that may come.
    fn watched(&self) -> Vec<PathBuf> {
        let active = self.active.borrow();
        let config = &active.loaded.config;
        let mut files = vec![self.file.clone()];
        if let Some(attachments) = &config.attachments {
            files.push(attachments.manifest.clone());
            files.extend((0..config::SHARDS).map(|shard| {
                let name = config::attachments::shard_name(shard);
                attachments
                    .directory
                    .join(config::attachments::shard_file(&name))
            }));
        }
        let tls = config
            .listeners
            .iter()
            .filter_map(|listener| listener.tls.as_ref());
        files.extend(tls.flat_map(|tls| [tls.certificate_file.clone(), tls.key_file.clone()]));
        if let Some(status) = &config.admin.status {
            let paths = [
                &status.certificate_file,
                &status.key_file,
                &status.client_ca_file,
            ];
            files.extend(paths.into_iter().cloned());
        }
        files
    }
}

#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Unusable(#[from] CompileError),
    #[error("the change of `{0}` needs a restart, everything else is in force")]
    NeedsRestart(&'static str),
    #[error("reading was broken off")]
    BrokenOff(#[from] tokio::task::JoinError),
}

/// What tells one content of a file from another, without reading it.
fn fingerprints(files: &[PathBuf]) -> Vec<Option<(u64, u64, i64, i64)>> {
    files.iter().map(|file| fingerprint(file)).collect()
}

fn fingerprint(file: &Path) -> Option<(u64, u64, i64, i64)> {
    let metadata = fs::metadata(file).ok()?;
    Some((
        metadata.ino(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    ))
}

const INTERVAL: Duration = Duration::from_secs(1);
/// Looks at an incomplete set of files before it is reported.
const PATIENCE: u32 = 30;
