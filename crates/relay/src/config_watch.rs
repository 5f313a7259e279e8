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

use config::attachments::{shard_file, shard_name};
use config::manifest::Digest;
use config::status::Rejection;
use config::{ConfigError, RelayConfig, SHARDS};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::active::{Active, CompileError};
use crate::metrics::{ConfigLoad, Metrics};
use crate::tls::Resumption;

/// Reads the configuration again whenever its files change.
pub(crate) struct ConfigWatch {
    pub(crate) file: PathBuf,
    pub(crate) resumption: Resumption,
    /// The files when the process was started, before it read them.
    pub(crate) seen: Fingerprints,
    /// What the process was started with.
    pub(crate) start: Arc<Active>,
    pub(crate) active: watch::Sender<Arc<Active>>,
    pub(crate) rejection: watch::Sender<Option<Rejection>>,
    pub(crate) metrics: Metrics,
}

impl ConfigWatch {
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut seen = self.seen.clone();
        // Somebody else read the document, and it may have changed before `seen` was seen.
        let mut again_in = Some(1);
        let mut incomplete_for = 0;
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => return,
            }
            again_in = again_in.map(|looks: u32| looks.saturating_sub(1));
            let now = fingerprints(&self.file, &self.active.borrow().loaded.config);
            let changed = now != seen;
            if !changed && again_in != Some(0) {
                continue;
            }
            seen = now;
            let result = self.reload(changed || incomplete_for > 0).await;
            let is_incomplete = matches!(
                result,
                Err(ReloadError::Config(ConfigError::Incomplete { .. }))
            );
            incomplete_for = if is_incomplete { incomplete_for + 1 } else { 0 };
            again_in = match result {
                Ok(()) => None,
                Err(error) => {
                    // Files arrive one by one. It is worth a report only when it lasts.
                    if !is_incomplete || incomplete_for == PATIENCE {
                        self.reject(&error.to_string());
                    }
                    error.again_in()
                }
            };
        }
    }

    async fn reload(&self, changed: bool) -> Result<(), ReloadError> {
        let (file, resumption) = (self.file.clone(), self.resumption.clone());
        let in_force = Arc::clone(&self.active.borrow());
        let (start, before) = (Arc::clone(&self.start), Arc::clone(&in_force));
        let read = move || -> Result<Active, ReloadError> {
            let loaded = config::load(&file)?;
            Ok(Active::compile(loaded, &resumption)?.following(&start, &before))
        };
        let active = tokio::task::spawn_blocking(read).await??;
        let fixed = active.needs_restart;
        // The same document may name files with other certificates in them.
        if changed || active.loaded != in_force.loaded {
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

impl ReloadError {
    /// After how many looks to try again even if nothing is seen to change: what is missed may be
    /// a file that only the new document names.
    fn again_in(&self) -> Option<u32> {
        match self {
            Self::Config(ConfigError::Incomplete { .. }) => Some(1),
            Self::Config(_) | Self::Unusable(_) | Self::BrokenOff(_) => Some(10),
            Self::NeedsRestart(_) => None,
        }
    }
}

/// What is known of the files of a configuration without reading them, of those that may come too.
pub(crate) fn fingerprints(file: &Path, config: &RelayConfig) -> Fingerprints {
    let mut fingerprints = vec![fingerprint(file)];
    if let Some(attachments) = &config.attachments {
        fingerprints.push(fingerprint(&attachments.manifest));
        fingerprints.extend(
            (0..SHARDS).map(|shard| {
                fingerprint(&attachments.directory.join(shard_file(&shard_name(shard))))
            }),
        );
    }
    for tls in config
        .listeners
        .iter()
        .filter_map(|listener| listener.tls.as_ref())
    {
        fingerprints.extend([&tls.certificate_file, &tls.key_file].map(|file| fingerprint(file)));
    }
    if let Some(status) = &config.admin.status {
        let files = [
            &status.certificate_file,
            &status.key_file,
            &status.client_ca_file,
        ];
        fingerprints.extend(files.map(|file| fingerprint(file)));
    }
    fingerprints
}

/// Inode, size, and time of the last change of each file that is there.
type Fingerprints = Vec<Option<(u64, u64, i64, i64)>>;

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
