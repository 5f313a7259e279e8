//! Writes the custom resource definitions to standard output: a JSON object of file names and YAML texts.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::collections::BTreeMap;

const HEAD: &str = "# Written by `cargo xtask crds` from crates/api.\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files = BTreeMap::new();
    for definition in api::crds() {
        let name = format!(
            "{}.{}.yaml",
            definition.spec.names.plural, definition.spec.group
        );
        // Through a JSON value, because that leaves out what serde only skips there.
        let value = serde_json::to_value(&definition)?;
        let text = serde_saphyr::to_string(&value)?;
        let read: serde_json::Value = serde_saphyr::from_str(&text)?;
        if read != value {
            return Err(format!("{name} would not say what the types say").into());
        }
        files.insert(name, format!("{HEAD}{text}"));
    }
    println!("{}", serde_json::to_string(&files)?);
    Ok(())
}
