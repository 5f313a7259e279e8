//! Going away. The name of this file puts it behind all others.

use anyhow::{Result, ensure};

use super::fleet::{MINUTE, installed};
use super::kubernetes::{MAIL, SYSTEM, get, helm, items, kubectl};
use crate::eventually::{eventually, holds};

#[test]
fn uninstalling_leaves_nothing_behind() -> Result<()> {
    installed()?;
    let kinds = "mailroute,mailcredential,mailrelay";
    kubectl(&[
        "delete",
        "--namespace",
        MAIL,
        kinds,
        "--all",
        "--timeout=60s",
    ])?;
    helm(&[
        "uninstall",
        "kurier",
        "--namespace",
        SYSTEM,
        "--wait",
        "--timeout",
        "90s",
    ])?;
    let definitions = get(&["crd", "-l", "app.kubernetes.io/name=kurier"])?;
    ensure!(
        !items(&definitions).is_empty(),
        "uninstalling took the CRDs, and all relays with them"
    );
    kubectl(&[
        "delete",
        "crd",
        "-l",
        "app.kubernetes.io/name=kurier",
        "--timeout=60s",
    ])?;
    eventually("the relay's children are gone", MINUTE, || {
        let kinds = "deployment,replicaset,pod,service,secret,serviceaccount,poddisruptionbudget";
        let left: Vec<String> = items(&get(&[kinds])?)
            .iter()
            .filter(|object| {
                let labels = &object["metadata"]["labels"];
                labels["app.kubernetes.io/managed-by"] == "kurier-operator"
                    || labels["app.kubernetes.io/name"] == "kurier"
            })
            .map(|object| format!("{}/{}", object["kind"], object["metadata"]["name"]))
            .collect();
        holds(left.is_empty(), format_args!("{left:?}"))?;
        // By name too, in case a child lost its labels.
        let names = kubectl(&["get", kinds, "--namespace", MAIL, "-o", "name"])?;
        holds(
            !names.contains("outbound") && !names.contains("checkout"),
            names,
        )
    })?;
    let cluster = kubectl(&["get", "clusterrole,clusterrolebinding", "-o", "name"])?;
    ensure!(
        !cluster.contains("kurier"),
        "left in the cluster: {cluster}"
    );
    Ok(())
}
