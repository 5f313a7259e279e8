//! What of a configuration cannot be put in force, all of it at once and with its fields: for those
//! who look at one without running it.

use std::path::Path;

use config::{Loaded, Violation};

use crate::active::{hostname, listener_tls, status_tls};
use crate::tls::{Resumption, TlsError};

/// Reads every certificate that `loaded` names.
pub fn check(loaded: &Loaded) -> Vec<Violation> {
    let config = &loaded.config;
    let mut problems = Vec::new();
    let mut add = |field: String, message: String| problems.push(Violation { field, message });
    if let Err(error) = hostname(config) {
        add("hostname".to_owned(), error.to_string());
    }
    let resumption = match Resumption::new() {
        Ok(resumption) => resumption,
        Err(error) => {
            add("listeners".to_owned(), error.to_string());
            return problems;
        }
    };
    for (at, listener) in config.listeners.iter().enumerate() {
        if let Some(tls) = &listener.tls
            && let Err(error) = listener_tls(tls, &resumption)
        {
            let files = [
                ("certificateFile", tls.certificate_file.as_path()),
                ("keyFile", &tls.key_file),
            ];
            let field = format!("listeners[{at}].tls");
            add(field_of(&error, field, &files), error.to_string());
        }
    }
    if let Some(status) = &config.admin.status
        && let Err(error) = status_tls(status)
    {
        let files = [
            ("certificateFile", status.certificate_file.as_path()),
            ("keyFile", &status.key_file),
            ("clientCaFile", &status.client_ca_file),
        ];
        let field = "admin.status".to_owned();
        add(field_of(&error, field, &files), error.to_string());
    }
    problems
}

/// The member of `parent` that names the file at fault, or `parent` where it is not one alone.
fn field_of(error: &TlsError, parent: String, files: &[(&str, &Path)]) -> String {
    let at_fault = |(_, file): &&(&str, &Path)| error.path() == Some(*file);
    match files.iter().find(at_fault) {
        Some((member, _)) => format!("{parent}.{member}"),
        None => parent,
    }
}
