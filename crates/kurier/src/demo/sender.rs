//! The application: submits every message over TCP with STARTTLS, a few connections at a time.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use bytes::BytesMut;
use rustls::pki_types::ServerName;
use smtp::client::{Config, Event, Finished, Output, RecipientOutcome, Session, Tls, Transaction};
use smtp::{Content, ForwardPath, HeloName, ReversePath};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::journey::Journeys;
use super::plan::{Plan, Planned, recipient, sender};
use super::site::{Certificate, Site};

/// Submits the whole plan and notes the queue id of each message.
pub(super) async fn submit_all(
    plan: &Arc<Plan>,
    site: &Site,
    certificate: &Certificate,
    journeys: &Journeys,
) -> Result<()> {
    let mut connections = tokio::task::JoinSet::new();
    for share in 0..CONNECTIONS {
        let (plan, journeys) = (Arc::clone(plan), journeys.clone());
        let (address, tls) = (site.address, TlsConnector::from(certificate.client()?));
        connections.spawn(async move {
            let mut socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            let mut config = Config::new(HeloName::parse("shop.example")?);
            config.tls = Tls::Required;
            let mut session = Session::new(config, Instant::now());
            match drive(&mut session, &mut socket).await? {
                Step::StartTls => {}
                Step::Ready | Step::Finished(_) => bail!("the relay does not offer STARTTLS"),
            }
            let name = ServerName::try_from("localhost")?;
            let mut stream = tls.connect(name, socket).await?;
            session.handle_tls_established(Instant::now());
            drive(&mut session, &mut stream).await?;
            for planned in plan.iter().skip(share).step_by(CONNECTIONS) {
                let queue_id = submit(&mut session, &mut stream, planned).await?;
                journeys.accepted(planned.number, &queue_id);
            }
            session.quit(Instant::now());
            // Everything is accepted; whether the good-bye is heard does not matter.
            let _ = drive(&mut session, &mut stream).await;
            Ok(())
        });
    }
    while let Some(ended) = connections.join_next().await {
        ended?.context("submission failed")?;
    }
    Ok(())
}

/// Gives the queue id of the relay's `250 2.0.0 <queue id> …`.
async fn submit(
    session: &mut Session,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    planned: &Planned,
) -> Result<String> {
    let transaction = Transaction {
        reverse_path: ReversePath::parse(&format!("<{}>", sender(planned.number)))?,
        recipients: vec![ForwardPath::parse(&format!(
            "<{}>",
            recipient(planned.number)
        ))?],
        content: Content::from_raw(&planned.raw)?.into(),
    };
    session.send(Instant::now(), transaction)?;
    let Step::Finished(finished) = drive(session, stream).await? else {
        bail!("message {} got no reply", planned.number);
    };
    match finished.recipients.first() {
        Some(RecipientOutcome::Accepted(reply)) => {
            let text = reply.lines().next().unwrap_or_default();
            let id = text.split_whitespace().next();
            Ok(id.context("a reply without a queue id")?.to_owned())
        }
        other => bail!("message {} was not accepted: {other:?}", planned.number),
    }
}

enum Step {
    Ready,
    StartTls,
    Finished(Finished),
}

/// Moves octets until something is there to act on.
async fn drive(
    session: &mut Session,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Result<Step> {
    let mut input = BytesMut::new();
    loop {
        match session.poll_output() {
            Some(Output::Write(octets)) => stream.write_all(&octets).await?,
            Some(Output::StartTls) => return Ok(Step::StartTls),
            Some(Output::Event(Event::Ready(_))) => return Ok(Step::Ready),
            Some(Output::Event(Event::FinalDot)) => session.release_final_dot(Instant::now()),
            Some(Output::Event(Event::Finished(finished))) => return Ok(Step::Finished(finished)),
            Some(Output::Event(Event::Failed(failure))) => bail!("{failure}"),
            Some(Output::Event(_)) => {}
            Some(Output::Close) => bail!("the relay closed the connection"),
            None => {
                stream.flush().await?;
                if stream.read_buf(&mut input).await? == 0 {
                    session.handle_closed(Instant::now());
                } else {
                    session.handle_input(Instant::now(), &mut input);
                }
            }
        }
    }
}

const CONNECTIONS: usize = 8;
