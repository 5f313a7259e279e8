//! JSON schemas of the Kubernetes kinds, for a check without a cluster.
//!
//! Made from the OpenAPI document in the source of the very API server that the cluster tier runs, so
//! that nothing has to be fetched and nothing can differ.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::{paths, tools::go};

const DOCUMENT: &str = "api/openapi-spec/swagger.json";
const REFERENCE: &str = "#/definitions/";

/// Writes a schema for each kind where `kubeconform` finds it; returns the location to give it.
///
/// # Errors
/// When the API server's source cannot be had or does not hold what is expected.
pub(super) fn write() -> Result<String> {
    let document = go::source_of("kubernetes", "k8s.io/kubernetes")?.join(DOCUMENT);
    let text =
        fs::read(&document).with_context(|| format!("cannot read {}", document.display()))?;
    let document: Value = serde_json::from_slice(&text).context("the OpenAPI document")?;
    let folder = paths::target()?.join("kubernetes-schemas");
    write_to(&folder, &document)?;
    Ok(format!(
        "{}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
        folder.display()
    ))
}

fn write_to(folder: &Path, document: &Value) -> Result<()> {
    fs::create_dir_all(folder)?;
    let definitions = document["definitions"]
        .as_object()
        .context("no definitions")?;
    let strict: BTreeMap<_, _> = definitions
        .iter()
        .map(|(name, schema)| (name.as_str(), strict(name, schema)))
        .collect();
    for (name, schema) in definitions {
        let kinds = schema["x-kubernetes-group-version-kind"].as_array();
        for kind in kinds.into_iter().flatten() {
            if let Some(file) = file_name(kind) {
                let path: PathBuf = folder.join(file);
                fs::write(path, with_definitions(name, &strict).to_string())?;
            }
        }
    }
    Ok(())
}

/// As `kubeconform` looks for it: the kind, the first label of the group, the version; lower case.
fn file_name(kind: &Value) -> Option<String> {
    let part = |name: &str| Some(kind[name].as_str()?.to_lowercase());
    let (group, version, kind) = (part("group")?, part("version")?, part("kind")?);
    Some(match group.split('.').next() {
        Some(first) if !first.is_empty() => format!("{kind}-{first}-{version}.json"),
        _ => format!("{kind}-{version}.json"),
    })
}

/// The schema of one definition together with all that it refers to.
fn with_definitions(name: &str, all: &BTreeMap<&str, Value>) -> Value {
    let mut needed = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(name) = open.pop() {
        if let Some(schema) = all.get(name.as_str())
            && needed.insert(name.clone())
        {
            references(schema, &mut open);
        }
    }
    let definitions: Map<_, _> = needed
        .into_iter()
        .filter_map(|name| Some((name.clone(), all.get(&*name)?.clone())))
        .collect();
    json!({"$ref": format!("{REFERENCE}{name}"), "definitions": definitions})
}

fn references(schema: &Value, into: &mut Vec<String>) {
    match schema {
        Value::Array(items) => items.iter().for_each(|item| references(item, into)),
        Value::Object(fields) => {
            if let Some(name) = fields.get("$ref").and_then(Value::as_str) {
                into.extend(name.strip_prefix(REFERENCE).map(str::to_owned));
            }
            fields.values().for_each(|field| references(field, into));
        }
        _ => {}
    }
}

/// OpenAPI 2 as JSON schema: unknown fields are refused, and the two types that the API server takes as
/// text or number are both.
fn strict(name: &str, schema: &Value) -> Value {
    if name.ends_with(".api.resource.Quantity") {
        return text_or_number();
    }
    match schema {
        Value::Array(items) => items.iter().map(|item| strict("", item)).collect(),
        Value::Object(fields) => {
            if fields
                .get("format")
                .is_some_and(|format| format == "int-or-string")
            {
                return text_or_number();
            }
            let mut fields: Map<_, _> = fields
                .iter()
                .map(|(key, value)| (key.clone(), strict("", value)))
                .collect();
            let closed = fields.contains_key("properties")
                && fields.get("type").is_some_and(|kind| kind == "object")
                && !fields.contains_key("additionalProperties");
            if closed {
                fields.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
            Value::Object(fields)
        }
        other => other.clone(),
    }
}

fn text_or_number() -> Value {
    json!({"oneOf": [{"type": "string"}, {"type": "number"}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names() {
        let check = |group: &str, expected: &str| {
            let kind = json!({"group": group, "version": "v1", "kind": "Role"});
            assert_eq!(file_name(&kind).unwrap(), expected);
        };
        check("", "role-v1.json");
        check("apps", "role-apps-v1.json");
        check("rbac.authorization.k8s.io", "role-rbac-v1.json");
    }

    #[test]
    fn a_schema_brings_what_it_refers_to_and_refuses_unknown_fields() {
        let document = json!({"definitions": {
            "a.Pod": {
                "type": "object",
                "properties": {
                    "port": {"type": "string", "format": "int-or-string"},
                    "spec": {"$ref": "#/definitions/a.Spec"},
                },
                "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Pod"}],
            },
            // It refers to itself, as the schema of schemas does.
            "a.Spec": {"type": "object", "properties": {"next": {"$ref": "#/definitions/a.Spec"}}},
            "a.Other": {"type": "object"},
        }});
        let folder = tempfile::tempdir().unwrap();
        write_to(folder.path(), &document).unwrap();
        let text = fs::read(folder.path().join("pod-v1.json")).unwrap();
        let schema: Value = serde_json::from_slice(&text).unwrap();
        let definitions = schema["definitions"].as_object().unwrap();
        assert_eq!(definitions.keys().collect::<Vec<_>>(), ["a.Pod", "a.Spec"]);
        assert_eq!(definitions["a.Pod"]["additionalProperties"], false);
        assert_eq!(definitions["a.Pod"]["properties"]["port"], text_or_number());
    }
}
