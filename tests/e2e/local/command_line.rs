//! What the binary says when it is used wrongly.

use std::process::Command;

use anyhow::{Result, ensure};

use super::process::{Receiver, Relay, RelaySettings, free_port, kurier, output};

fn refused(arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let output = output(Command::new(kurier()?).args(arguments))?;
    ensure!(!output.status.success(), "{arguments:?} was accepted");
    Ok((
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}

#[test]
fn local_mode_listens_on_loopback_only() -> Result<()> {
    let (_, error) = refused(&["relay", "--local", "--listen", "0.0.0.0:2525"])?;
    ensure!(
        error.contains("loopback") && error.contains("0.0.0.0:2525"),
        "{error}"
    );
    Ok(())
}

#[test]
fn config_check_names_file_line_and_field() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("relay.yaml");
    std::fs::write(
        &file,
        "schema: 1\nhostname: mail.example.com\nlimits:\n  recipients: many\n",
    )?;
    let path = file.display().to_string();
    let (code, error) = refused(&["config", "check", &path])?;
    ensure!(code == Some(64), "exit status {code:?}");
    ensure!(
        error.contains(&format!("{path}:4")) && error.contains("recipients"),
        "no file, line and field in: {error}"
    );
    Ok(())
}

#[test]
fn one_process_holds_the_embedded_queue() -> Result<()> {
    let (receiver, data) = (Receiver::start()?, tempfile::tempdir()?);
    let settings = RelaySettings {
        data: data.path(),
        smarthost: receiver.port,
        redis: None,
    };
    let _first = Relay::start(&settings)?;
    let path = data.path().display().to_string();
    let listen = format!("127.0.0.1:{}", free_port()?);
    let admin = format!("127.0.0.1:{}", free_port()?);
    let (_, error) = refused(&[
        "relay", "--local", "--listen", &listen, "--admin", &admin, "--data", &path,
    ])?;
    ensure!(
        error.contains(&path) && error.contains("another process"),
        "{error}"
    );
    Ok(())
}
