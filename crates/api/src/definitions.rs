//! The definitions as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::{MailCredential, MailRelay, MailRoute, rules};

/// All custom resource definitions.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        finished(MailCredential::crd(), rules::attachment_root()),
        finished(MailRelay::crd(), rules::relay_root()),
        finished(MailRoute::crd(), rules::attachment_root()),
    ]
}

/// Adds what the derived schema cannot say: rules over the object's name, and bounds on the lists
/// in schemas that are Kubernetes' own.
fn finished(
    mut definition: CustomResourceDefinition,
    root_rules: Value,
) -> CustomResourceDefinition {
    for version in &mut definition.spec.versions {
        let Some(root) = version
            .schema
            .as_mut()
            .and_then(|s| s.open_api_v3_schema.as_mut())
        else {
            continue;
        };
        // Through a value, because there a schema is uniform to walk.
        let mut value = serde_json::to_value(&*root).expect("a schema is JSON");
        value["x-kubernetes-validations"] = root_rules.clone();
        bound_lists(&mut value);
        *root = serde_json::from_value::<JSONSchemaProps>(value).expect("it was a schema before");
    }
    definition
}

fn bound_lists(value: &mut Value) {
    match value {
        Value::Object(schema) => {
            if schema.get("type") == Some(&json!("array")) {
                schema
                    .entry("x-kubernetes-list-type")
                    .or_insert_with(|| json!("atomic"));
                schema.entry("maxItems").or_insert_with(|| json!(64));
            }
            schema.values_mut().for_each(bound_lists);
        }
        Value::Array(items) => items.iter_mut().for_each(bound_lists),
        _ => {}
    }
}

#[cfg(test)]
#[path = "definitions_tests.rs"]
mod tests;
