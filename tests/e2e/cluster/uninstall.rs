//! Going away. The name of this file puts it behind all others.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::fleet::{MINUTE, installed};
use super::kubernetes::{MAIL, SYSTEM, get, helm, items, kubectl};
use crate::eventually::{eventually, holds};

/// Every kind of which the operator makes children.
const KINDS: &str = "deployment,replicaset,pod,service,secret,serviceaccount,poddisruptionbudget";
const DEFINITIONS: [&str; 3] = ["crd", "-l", "app.kubernetes.io/name=kurier"];

/// The chart and the definitions are taken away, and nothing else: no resource is deleted by name.
#[test]
fn uninstalling_leaves_nothing_behind() -> Result<()> {
    installed()?;
    let before = children()?;
    ensure!(!before.is_empty(), "the relay has no children");
    helm(&[
        "uninstall",
        "kurier",
        "--namespace",
        SYSTEM,
        "--wait",
        "--timeout",
        "90s",
    ])?;
    ensure!(
        !items(&get(&DEFINITIONS)?).is_empty(),
        "uninstalling took the definitions, and all relays with them"
    );
    let now = children()?;
    let lost: Vec<_> = before.iter().filter(|name| !now.contains(name)).collect();
    ensure!(lost.is_empty(), "mail went with the operator: {lost:?}");
    eventually("the operator leaves nothing", MINUTE, operator_is_gone)?;

    kubectl(&[&["delete", "--timeout=60s"][..], &DEFINITIONS].concat())?;
    eventually("the relay's children are gone", MINUTE, || {
        let left = children()?;
        holds(left.is_empty(), format_args!("{left:?}"))?;
        // By name too, in case a child lost its labels.
        let names = kubectl(&["get", KINDS, "--namespace", MAIL, "-o", "name"])?;
        holds(
            !names.contains("outbound") && !names.contains("checkout"),
            names,
        )
    })?;
    operator_is_gone()
}

/// What bears the label of the operator or of the product, where the mail is.
fn children() -> Result<Vec<String>> {
    let all = get(&[KINDS])?;
    let label = |object: &Value, name: &str| object["metadata"]["labels"][name].clone();
    let ours = items(&all).iter().filter(|object| {
        label(object, "app.kubernetes.io/managed-by") == "kurier-operator"
            || label(object, "app.kubernetes.io/name") == "kurier"
    });
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(ours
        .map(|object| {
            let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
            format!("{}/{}", text(kind), text(name))
        })
        .collect())
}

/// Nothing of the release is left: not in its namespace, and not in the cluster as a whole.
fn operator_is_gone() -> Result<()> {
    let own = [KINDS, "lease,role,rolebinding,configmap"].join(",");
    for scope in [
        &["get", &own, "--namespace", SYSTEM, "-o", "name"][..],
        &["get", "clusterrole,clusterrolebinding", "-o", "name"],
    ] {
        let names = kubectl(scope)?;
        let left: Vec<_> = names
            .lines()
            .filter(|name| name.contains("kurier"))
            .collect();
        holds(left.is_empty(), format_args!("{left:?}"))?;
    }
    Ok(())
}
