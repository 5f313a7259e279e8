//! Mail by the mail exchangers of a domain, looked up in the cluster's name server.

use anyhow::{Result, ensure};

use super::accounts::{Load, run_named};
use super::fleet::{MINUTE, installed, relay_pods};
use super::kubernetes::{MAIL, apply, kubectl, rolled_out};
use super::operations::route_programmed;
use super::traffic::{all_arrived, completed};

const ROUTE: &str = "apiVersion: kurier.dev/v1alpha1
kind: MailRoute
metadata: {name: exchanged}
spec:
  parentRefs: [{name: outbound}]
  rules:
  - name: by-mx
    match: {recipientDomains: [\"exchanged.example\"]}
    action: {type: MX}
";

#[test]
fn mail_goes_to_the_exchanger_that_has_an_address() -> Result<()> {
    installed()?;
    relay_pods(3)?;
    let names = "tests/fixtures/cluster/exchangers.yaml";
    kubectl(&["apply", "--filename", names])?;
    // The name server reads its file when it starts.
    let system = ["--namespace", "kube-system"];
    kubectl(&[&["rollout", "restart", "deployment/coredns"][..], &system].concat())?;
    rolled_out("kube-system", "coredns")?;
    apply(MAIL, ROUTE)?;
    route_programmed("mailroute/exchanged", MINUTE)?;

    let run = run_named("exchanged");
    let to = "sink@exchanged.example";
    let done = Load::start(&run, &["--messages", "30", "--to", to])?.finish(MINUTE)?;
    let accepted = completed(&done, 30)?;
    // No route names this receiver: only the MX records lead there.
    let arrived = all_arrived("receiver-second", &run, &accepted, MINUTE)?;
    for copy in arrived.values().flatten() {
        ensure!(copy.forward_paths == [to], "{copy:?}");
    }
    kubectl(&["delete", "--namespace", MAIL, "mailroute/exchanged"])?;
    Ok(())
}
