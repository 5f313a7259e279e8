//! Reading documents from files, with the place of every mistake.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::attachments::{Attachments, SHARDS, shard_file, shard_name};
use crate::credential::Credential;
use crate::locate::locate;
use crate::manifest::{Digest, Manifest};
use crate::relay::RelayConfig;
use crate::route::Route;
use crate::validate::{self, Violation};

/// A complete configuration: the relay and everything that is attached to it.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    pub config: RelayConfig,
    /// Of the document and of all shards.
    pub credentials: Vec<Credential>,
    pub routes: Vec<Route>,
    /// The digests in force; what [`Status`](crate::Status) reports.
    pub manifest: Manifest,
}

/// Reads `relay.yaml` and, where it has `attachments`, the manifest and every shard it names.
///
/// # Errors
/// [`ConfigError::Incomplete`] while the files do not match the manifest: they arrive one by one,
/// so keep what is in force and read again. Every other error needs a person.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let text = read(path)?;
    let config = parse(&text, path)?;
    let config_hash = Digest::of(text.as_bytes());
    let Some(files) = &config.attachments else {
        return Ok(Loaded {
            credentials: config.credentials.clone(),
            routes: config.routes.clone(),
            manifest: Manifest {
                config_hash,
                shards: Default::default(),
            },
            config,
        });
    };
    let manifest = read_manifest(&files.manifest)?;
    if manifest.config_hash != config_hash {
        return Err(ConfigError::Incomplete {
            file: path.to_owned(),
        });
    }
    let mut credentials = Vec::new();
    let mut routes = Vec::new();
    for (name, digest) in &manifest.shards {
        let file = files.directory.join(shard_file(name));
        let text = match read(&file) {
            Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(ConfigError::Incomplete { file });
            }
            other => other?,
        };
        if Digest::of(text.as_bytes()) != *digest {
            return Err(ConfigError::Incomplete { file });
        }
        let shard: Attachments = decode(&text, &file, validate::shard)?;
        credentials.extend(shard.credentials);
        routes.extend(shard.routes);
    }
    Ok(Loaded {
        config,
        credentials,
        routes,
        manifest,
    })
}

/// Reads the text of a `relay.yaml`; `file` is only for errors.
///
/// # Errors
/// [`ConfigError::Invalid`] with every mistake that could be told apart.
pub fn parse(text: &str, file: &Path) -> Result<RelayConfig, ConfigError> {
    decode(text, file, validate::relay)
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("{}: {source}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{}: is longer than {MAX_OCTETS} octets", file.display())]
    TooLong { file: PathBuf },
    #[error("{}", one_per_line(.0))]
    Invalid(Vec<Diagnostic>),
    #[error("{}: is not the one the manifest names, or not there yet", file.display())]
    Incomplete { file: PathBuf },
}

impl ConfigError {
    /// Of what nobody but its user finds wrong with the document in `file`, which could be read.
    pub fn unusable(file: &Path, problems: Vec<Violation>) -> Self {
        let text = read(file).unwrap_or_default();
        Self::Invalid(placed(&text, file, problems))
    }
}

/// One mistake and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    pub file: PathBuf,
    pub line: u64,
    pub column: u64,
    /// Path of the field, as `listeners[0].address`; empty for the document as a whole.
    pub field: String,
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

fn one_per_line(diagnostics: &[Diagnostic]) -> String {
    diagnostics
        .iter()
        .map(Diagnostic::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// No Secret of a cluster is larger.
const MAX_OCTETS: u64 = 1 << 20;

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read {
        file: path.to_owned(),
        source,
    };
    let mut text = String::new();
    File::open(path)
        .map_err(failed)?
        .take(MAX_OCTETS + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MAX_OCTETS {
        return Err(ConfigError::TooLong {
            file: path.to_owned(),
        });
    }
    Ok(text)
}

fn read_manifest(path: &Path) -> Result<Manifest, ConfigError> {
    let no_violations = |manifest: &Manifest| {
        let known: Vec<_> = (0..SHARDS).map(shard_name).collect();
        manifest
            .shards
            .keys()
            .filter(|name| !known.contains(name))
            .map(|name| Violation {
                field: format!("shards.{name}"),
                message: format!("is not a shard: they are 00 to {}", SHARDS - 1),
            })
            .collect()
    };
    decode(&read(path)?, path, no_violations)
}

fn decode<T: DeserializeOwned>(
    text: &str,
    file: &Path,
    check: impl FnOnce(&T) -> Vec<Violation>,
) -> Result<T, ConfigError> {
    let mut field = String::new();
    // The path is kept aside: the reader wraps the error with its place and drops the rest.
    let value = serde_saphyr::with_deserializer_from_str(text, |document| {
        serde_path_to_error::deserialize(document).map_err(|error| {
            field = error.path().to_string();
            error.into_inner()
        })
    });
    let value: T = match value {
        Ok(value) => value,
        Err(error) => {
            let place = error.location().map(|at| (at.line(), at.column()));
            let field = if field == "." { String::new() } else { field };
            let (line, column) = place.unwrap_or_else(|| locate(text, &field));
            return Err(ConfigError::Invalid(vec![Diagnostic {
                file: file.to_owned(),
                line,
                column,
                field,
                message: message(&error),
            }]));
        }
    };
    let violations = check(&value);
    if violations.is_empty() {
        return Ok(value);
    }
    Err(ConfigError::Invalid(placed(text, file, violations)))
}

fn placed(text: &str, file: &Path, violations: Vec<Violation>) -> Vec<Diagnostic> {
    let place = |violation: Violation| {
        let (line, column) = locate(text, &violation.field);
        Diagnostic {
            file: file.to_owned(),
            line,
            column,
            field: violation.field,
            message: violation.message,
        }
    };
    violations.into_iter().map(place).collect()
}

/// The reader's own words on one line, without the excerpt (it may show a secret) and the place
/// (it stands in front).
fn message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let first = text.lines().next().unwrap_or_default();
    first
        .split(" at line ")
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
