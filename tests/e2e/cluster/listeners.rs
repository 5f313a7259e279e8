//! The other ways in: TLS from the first octet, and networks that relay without an account.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kurier_test::corpus::Message;
use kurier_test::submit::{Account, Connection, Dial};
use serde_json::json;

use super::accounts::{account_at, run_named, secret};
use super::fleet::{MINUTE, installed, relay_pods};
use super::kubernetes::{MAIL, Pod, apply, condition, get};
use super::traffic::arrivals;
use crate::eventually::{eventually, holds};

/// The Secret that the listener `smtps` names in `fixtures/cluster/relay.yaml`.
const CERTIFICATE: &str = "mail-tls";
/// Until every pod serves a change.
const SERVED: Duration = Duration::from_secs(10);
/// This namespace's address among the nodes, which the listener `smtp` allows.
const NODE: &str = "10.0.0.11";
/// Its address among its pods, which it does not.
const BRIDGE: &str = "10.244.1.1";

/// Puts a new certificate, its own authority, into the Secret; gives it.
pub(crate) fn new_certificate() -> Result<String> {
    let names = ["outbound.mail.svc", "mail.example.com"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names)?;
    let manifest = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": CERTIFICATE},
        "stringData": {"tls.crt": made.cert.pem(), "tls.key": made.signing_key.serialize_pem()},
    });
    apply(MAIL, &manifest.to_string())?;
    Ok(made.cert.pem())
}

/// A client that trusts this certificate only.
fn at(pod: &Pod, certificate: &str) -> Result<Account> {
    Ok(Account {
        port: 2465,
        ca: Some(certificate.as_bytes().to_vec()),
        ..account_at(pod)?
    })
}

fn implicit(account: &Account) -> Result<Connection> {
    let dial = Dial {
        implicit_tls: true,
        ..Dial::default()
    };
    tokio::runtime::Runtime::new()?.block_on(Connection::dial(account, dial))
}

/// Sends one message of the run over a new connection; the reply.
fn send(account: &Account, dial: Dial, run: &str, index: u32) -> Result<String> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let mut connection = Connection::dial(account, dial).await?;
        let message = Message::new(run, index, None, "");
        connection
            .send("load@example.com", "sink@receiver.example", &message)
            .await
    })
}

fn all_of(run: &str, count: usize) -> Result<()> {
    eventually("all of it arrives", MINUTE, || {
        let arrived = arrivals("receiver-first", run)?;
        holds(arrived.len() == count, format_args!("{:?}", arrived.keys()))
    })
}

#[test]
fn the_service_has_a_port_for_each_listener() -> Result<()> {
    installed()?;
    let service = get(&["service/outbound"])?;
    let ports: Vec<_> = service["spec"]["ports"]
        .as_array()
        .context("a Service without ports")?
        .iter()
        .map(|port| (port["name"].as_str(), port["port"].as_u64()))
        .collect();
    for expected in [("submission", 587), ("smtps", 465), ("smtp", 25)] {
        let (name, port) = (Some(expected.0), Some(expected.1));
        ensure!(
            ports.contains(&(name, port)),
            "no {expected:?} in {ports:?}"
        );
    }
    Ok(())
}

#[test]
fn tls_may_come_first() -> Result<()> {
    installed()?;
    let pods = relay_pods(3)?;
    let run = run_named("implicit");
    let dial = Dial {
        implicit_tls: true,
        ..Dial::default()
    };
    let certificate = secret(CERTIFICATE)?["tls.crt"].clone();
    for (index, pod) in (8..).zip(&pods) {
        let reply = send(&at(pod, &certificate)?, dial, &run, index)?;
        ensure!(
            reply.starts_with("250 2.0.0 "),
            "{} answered {reply}",
            pod.name
        );
    }
    // Once through the Service, which translates the port.
    let service = get(&["service/outbound"])?;
    let mut account = at(&pods[0], &certificate)?;
    account.host = service["spec"]["clusterIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    account.port = 465;
    let reply = send(&account, dial, &run, 11)?;
    ensure!(
        reply.starts_with("250 2.0.0 "),
        "the Service answered {reply}"
    );
    all_of(&run, 4)
}

#[test]
fn only_allowed_networks_relay_without_an_account() -> Result<()> {
    installed()?;
    let pods = relay_pods(3)?;
    let run = run_named("network");
    let from = |source: &str| -> Result<Dial> {
        Ok(Dial {
            source: Some(source.parse::<IpAddr>()?),
            ..Dial::default()
        })
    };
    for (index, pod) in (8..).zip(&pods) {
        let account = Account {
            host: pod.address.clone(),
            port: 2025,
            server_name: None,
            login: None,
            ca: None,
        };
        let reply = send(&account, from(NODE)?, &run, index)?;
        ensure!(
            reply.starts_with("250 2.0.0 "),
            "{} answered {reply}",
            pod.name
        );
        let reply = send(&account, from(BRIDGE)?, &run, 100 + index)?;
        ensure!(
            reply.starts_with("530 5.7.0"),
            "{} answered {reply}",
            pod.name
        );
    }
    all_of(&run, 3)
}

#[test]
fn z_every_pod_serves_a_new_certificate_within_ten_seconds() -> Result<()> {
    installed()?;
    let pods = relay_pods(3)?;
    let mut before = secret(CERTIFICATE)?["tls.crt"].clone();
    for _ in 0..2 {
        implicit(&at(&pods[0], &before)?).context("before")?;
        let certificate = new_certificate()?;
        let changed = Instant::now();
        for pod in &pods {
            let account = at(pod, &certificate)?;
            let left = SERVED.saturating_sub(changed.elapsed());
            let what = format!("{} serves the new certificate", pod.name);
            eventually(&what, left, || implicit(&account))?;
        }
        let elapsed = changed.elapsed();
        println!("a new certificate was served by every pod after {elapsed:?}");
        ensure!(elapsed <= SERVED, "after {elapsed:?}");
        let old = implicit(&at(&pods[0], &before)?);
        ensure!(old.is_err(), "the old certificate is served still");
        before = certificate;
    }
    condition(super::fleet::RELAY_OBJECT, "TLSReady", "True", MINUTE)?;
    let same = relay_pods(3)?;
    let names = |pods: &[Pod]| pods.iter().map(|pod| pod.name.clone()).collect::<Vec<_>>();
    ensure!(
        names(&pods) == names(&same),
        "a certificate rolled the pods"
    );
    Ok(())
}
