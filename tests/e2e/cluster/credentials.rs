//! Accounts that come and go while the relay runs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kurier_test::corpus::Message;
use kurier_test::submit::Connection;

use super::accounts::{account_of, run_named};
use super::fleet::{installed, relay_pods};
use super::kubernetes::{MAIL, apply, kubectl};
use crate::eventually::eventually;

/// Until every pod serves a change.
const SERVED: Duration = Duration::from_secs(10);

#[test]
fn every_pod_serves_a_new_and_refuses_a_revoked_credential_within_ten_seconds() -> Result<()> {
    installed()?;
    let pods = relay_pods(3)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let name = run_named("guest");
    let (secret, object) = (format!("{name}-smtp"), format!("mailcredential/{name}"));
    let made = Instant::now();
    apply(
        MAIL,
        &format!(
            "apiVersion: kurier.dev/v1alpha1
kind: MailCredential
metadata: {{name: {name}}}
spec:
  relayRef: {{name: outbound}}
  allowedSenders: [\"*@example.com\"]
  authentication:
  - {{name: password, type: Password, password: {{secretName: {secret}}}}}
"
        ),
    )?;
    let mut sessions = Vec::new();
    for pod in &pods {
        let left = SERVED.saturating_sub(made.elapsed());
        // The Secret must not be there before every pod knows the password that it holds.
        let account = eventually("the account's Secret", left, || {
            kubectl(&["get", "--namespace", MAIL, "secret", &secret])?;
            account_of(&secret, pod)
        })?;
        sessions.push((
            account.clone(),
            runtime.block_on(Connection::open(&account))?,
        ));
    }
    println!("a new credential was served after {:?}", made.elapsed());
    ensure!(made.elapsed() <= SERVED, "after {:?}", made.elapsed());

    let revoked = Instant::now();
    kubectl(&["delete", "--namespace", MAIL, "--wait=false", &object])?;
    for (account, session) in &mut sessions {
        let left = SERVED.saturating_sub(revoked.elapsed());
        eventually("the revoked credential is refused", left, || match runtime
            .block_on(Connection::open(account))
        {
            Ok(_) => anyhow::bail!("{} still takes it", account.host),
            Err(error) if format!("{error:#}").contains("535 5.7.8") => Ok(()),
            Err(error) => Err(error),
        })?;
        // Nor is a session worth anything that was opened with it.
        let message = Message::new(&name, 8, None, "");
        let (from, to) = ("load@example.com", "sink@receiver.example");
        let reply = runtime.block_on(session.send(from, to, &message))?;
        ensure!(reply.starts_with("530 5.7.0"), "answered {reply}");
    }
    println!(
        "a revoked credential was refused after {:?}",
        revoked.elapsed()
    );
    ensure!(revoked.elapsed() <= SERVED, "after {:?}", revoked.elapsed());
    Ok(())
}
