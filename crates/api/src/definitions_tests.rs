use serde_json::{Value, json};

use super::crds;
use crate::relay::MailRelaySpec;

fn schemas() -> Vec<(String, Value)> {
    crds()
        .into_iter()
        .map(|crd| {
            let version = &crd.spec.versions[0];
            let schema = version
                .schema
                .as_ref()
                .unwrap()
                .open_api_v3_schema
                .as_ref()
                .unwrap();
            (
                crd.spec.names.kind.clone(),
                serde_json::to_value(schema).unwrap(),
            )
        })
        .collect()
}

/// Calls `visit` with the path and each schema below `schema`.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            walk(&format!("{path}.{name}"), property, visit);
        }
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            walk(&format!("{path}[]"), &schema[key], visit);
        }
    }
}

fn is_borrowed(path: &str) -> bool {
    path.starts_with("MailRelay.spec.pods.")
        || path.contains(".conditions")
        || path.contains(".status.")
}

#[test]
fn every_list_is_bounded_and_typed() {
    let mut lists = 0;
    for (kind, schema) in schemas() {
        walk(&kind, &schema, &mut |path, schema| {
            if schema["type"] == json!("array") {
                lists += 1;
                assert!(schema["maxItems"].is_u64(), "{path}");
                assert!(schema["x-kubernetes-list-type"].is_string(), "{path}");
            }
        });
    }
    assert!(lists > 15, "{lists}");
}

#[test]
fn every_string_is_bounded_and_on_one_line() {
    let mut strings = 0;
    for (kind, schema) in schemas() {
        walk(&kind, &schema["properties"]["spec"], &mut |path, schema| {
            let path = path.replacen(&kind, &format!("{kind}.spec"), 1);
            if schema["type"] != json!("string") || is_borrowed(&path) {
                return;
            }
            strings += 1;
            if schema["enum"].is_array() {
                return;
            }
            let pattern = schema["pattern"]
                .as_str()
                .unwrap_or_else(|| panic!("{path} has no pattern"));
            assert!(pattern.starts_with('^') && pattern.ends_with('$'), "{path}");
            // A negated class or a dot could let CR, LF or NUL in.
            assert!(
                !pattern.contains("[^") && !pattern.contains(r"\s"),
                "{path}"
            );
            assert!(
                !pattern
                    .replace(r"\.", "")
                    .replace("[-._", "[")
                    .replace("[A-Za-z0-9._", "[")
                    .replace("[0-9A-Fa-f:.]", "")
                    .contains('.'),
                "{path} {pattern}"
            );
            assert!(schema["maxLength"].is_u64(), "{path}");
        });
    }
    assert!(strings > 25, "{strings}");
}

#[test]
fn no_floats_and_no_formats_the_api_server_does_not_know() {
    for (kind, schema) in schemas() {
        walk(&kind, &schema, &mut |path, schema| {
            assert_ne!(schema["type"], json!("number"), "{path}");
            if let Some(format) = schema["format"].as_str() {
                assert!(
                    ["int32", "int64", "date-time"].contains(&format),
                    "{path}: {format}"
                );
            }
        });
    }
}

#[test]
fn every_union_has_a_rule() {
    for (kind, schema) in schemas() {
        walk(&kind, &schema["properties"]["spec"], &mut |path, schema| {
            let properties = &schema["properties"];
            let members = properties["type"]["enum"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let is_member = |m: &Value| {
                let name = m.as_str().unwrap();
                let member = format!("{}{}", name[..1].to_lowercase(), &name[1..]);
                properties[&member].is_object()
            };
            for member in members.iter().filter(|m| is_member(m)) {
                let rules = schema["x-kubernetes-validations"].to_string();
                assert!(
                    rules.contains(&format!("self.type == '{}'", member.as_str().unwrap())),
                    "{path} {member}"
                );
            }
        });
    }
}

#[test]
fn conditions_are_maps_and_subresources_are_there() {
    for crd in crds() {
        let kind = crd.spec.names.kind.clone();
        let version = serde_json::to_value(&crd.spec.versions[0]).unwrap();
        assert!(version["subresources"]["status"].is_object(), "{kind}");
        assert_eq!(crd.spec.names.categories.unwrap(), ["mail"]);
        let status = &version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"];
        let conditions = if kind == "MailRoute" {
            &status["parents"]["items"]["properties"]["conditions"]
        } else {
            &status["conditions"]
        };
        assert_eq!(conditions["x-kubernetes-list-type"], "map", "{kind}");
        assert_eq!(
            conditions["x-kubernetes-list-map-keys"],
            json!(["type"]),
            "{kind}"
        );
        if kind == "MailRelay" {
            assert_eq!(
                version["subresources"]["scale"],
                json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                       "labelSelectorPath": ".status.selector"})
            );
        }
    }
}

#[test]
fn defaults_stand_in_the_schema_also_under_absent_parents() {
    let (_, schema) = schemas()
        .into_iter()
        .find(|(kind, _)| kind == "MailRelay")
        .unwrap();
    let spec = &schema["properties"]["spec"]["properties"];
    assert_eq!(
        spec["listeners"]["default"],
        json!([{"name": "submission", "port": 587, "role": "Submission",
                "tls": {"mode": "StartTLS", "type": "SelfIssued"},
                "auth": {"required": true, "mechanisms": ["PLAIN", "LOGIN"]}}])
    );
    assert_eq!(
        spec["limits"]["default"],
        json!({"messageSize": "25Mi", "recipients": 1000, "connections": 1000, "connectionsPerClient": 50})
    );
    assert_eq!(spec["limits"]["properties"]["recipients"]["default"], 1000);
    assert_eq!(
        spec["delivery"]["properties"]["tls"]["default"],
        "Opportunistic"
    );
    assert_eq!(
        spec["queue"]["properties"]["retry"]["default"],
        json!({"initial": "5m", "max": "4h"})
    );
    assert_eq!(
        spec["telemetry"]["default"],
        json!({"samplingPercent": 100})
    );
    assert!(
        spec["replicas"]["default"].is_null(),
        "autoscaling would fight it"
    );
}

#[test]
fn absent_options_are_not_written_as_null() {
    let spec: MailRelaySpec = serde_json::from_value(json!({
        "hostname": "mail.example.com",
        "queue": {"redis": {"urlSecretRef": {"name": "redis"}}},
    }))
    .unwrap();
    let written = serde_json::to_value(&spec).unwrap().to_string();
    assert!(!written.contains("null"), "{written}");
}
