//! The receiving server: takes mail over TCP with STARTTLS, fails what the plan says, and keeps a
//! log of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::BytesMut;
use smtp::server::{Config, ConnectionSecurity, Event, Message, Output, Session, StartTls};
use smtp::{Domain, EnhancedStatus, ForwardPath, Reply, ReplyCode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::plan::{Due, NUMBER_FIELD, Plan, digest, number_of};
use super::site::Certificate;

/// A notice that came back to a sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) number: u32,
    pub(super) recipient: String,
    pub(super) action: String,
    pub(super) status: String,
}

#[derive(Default)]
struct Log {
    /// SHA-256 of each copy's body, by number.
    copies: BTreeMap<u32, Vec<String>>,
    notices: Vec<Notice>,
    /// What has been put off once.
    deferred: BTreeSet<u32>,
}

pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    plan: Arc<Plan>,
    swallow: Option<u32>,
    session: Arc<Config>,
    tls: TlsAcceptor,
    log: Mutex<Log>,
}

impl Receiver {
    pub(super) async fn start(
        plan: Arc<Plan>,
        swallow: Option<u32>,
        certificate: &Certificate,
    ) -> Result<Self> {
        let mut session = Config::new(Domain::parse("mx.mail.example")?);
        session.starttls = StartTls::Offered;
        let shared = Arc::new(Shared {
            plan,
            swallow,
            session: Arc::new(session),
            tls: TlsAcceptor::from(certificate.server()?),
            log: Mutex::default(),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let shared = Arc::clone(&accepting);
                tokio::spawn(async move {
                    // The relay may end an idle connection as it likes.
                    let _ = shared.serve(socket).await;
                });
            }
        });
        Ok(Self { address, shared })
    }

    pub(super) fn copies(&self, number: u32) -> Vec<String> {
        self.shared
            .log()
            .copies
            .get(&number)
            .cloned()
            .unwrap_or_default()
    }

    pub(super) fn notices(&self) -> Vec<Notice> {
        self.shared.log().notices.clone()
    }
}

impl Shared {
    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, mut socket: TcpStream) -> Result<()> {
        socket.set_nodelay(true)?;
        let config = Arc::clone(&self.session);
        let mut session = Session::new(config, Instant::now(), ConnectionSecurity::Clear);
        if self.converse(&mut session, &mut socket).await? {
            let mut stream = self.tls.accept(socket).await?;
            session.handle_tls_established(Instant::now());
            self.converse(&mut session, &mut stream).await?;
        }
        Ok(())
    }

    /// Until the end of the connection, or (`true`) until TLS is to begin.
    async fn converse(
        &self,
        session: &mut Session,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> Result<bool> {
        let mut input = BytesMut::new();
        loop {
            match session.poll_output() {
                Some(Output::Write(octets)) => stream.write_all(&octets).await?,
                Some(Output::Event(event)) => {
                    self.answer(session, event)?;
                    session.handle_input(Instant::now(), &mut input);
                }
                Some(Output::StartTls) => return Ok(true),
                Some(Output::Close) => return Ok(false),
                None => {
                    stream.flush().await?;
                    if stream.read_buf(&mut input).await? == 0 {
                        session.handle_closed(Instant::now());
                        return Ok(false);
                    }
                    session.handle_input(Instant::now(), &mut input);
                }
            }
        }
    }

    fn answer(&self, session: &mut Session, event: Event) -> Result<()> {
        let now = Instant::now();
        match event {
            Event::Recipient { forward_path, .. } => match self.refusal(&forward_path)? {
                Some(reply) => session.answer(now, &reply),
                None => session.accept(now),
            },
            Event::Message(message) => {
                self.take(&message);
                session.accept(now);
            }
            Event::Abandoned(_) => {}
            _ => session.accept(now),
        }
        Ok(())
    }

    /// What the plan wants a recipient to be answered, if not 250.
    fn refusal(&self, forward_path: &ForwardPath) -> Result<Option<Reply>> {
        let Some(mailbox) = forward_path.mailbox() else {
            return Ok(None);
        };
        let local_part = mailbox.local_part().as_str();
        if !local_part.starts_with("customer-") {
            return Ok(None);
        }
        let Some(planned) = number_of(local_part).and_then(|number| self.plan.message(number))
        else {
            return reply(550, EnhancedStatus::permanent(1, 1), "no such customer").map(Some);
        };
        match planned.due {
            Due::Delivered => Ok(None),
            Due::DeferredThenDelivered => {
                let first = self.log().deferred.insert(planned.number);
                let status = EnhancedStatus::transient(2, 0);
                first
                    .then(|| reply(450, status, "greylisted, try again"))
                    .transpose()
            }
            Due::Bounced => {
                reply(550, EnhancedStatus::permanent(1, 1), "no such customer").map(Some)
            }
            Due::Expired => {
                reply(452, EnhancedStatus::transient(2, 2), "mailbox is full").map(Some)
            }
        }
    }

    fn take(&self, message: &Message) {
        let raw = message.content.to_raw();
        if message.reverse_path.is_null() {
            self.log().notices.extend(notice(&raw));
            return;
        }
        let Some(number) = field(&raw, NUMBER_FIELD).and_then(|value| value.parse().ok()) else {
            return;
        };
        if self.swallow != Some(number) {
            let body = raw.windows(4).position(|window| window == b"\r\n\r\n");
            let body = body.and_then(|at| raw.get(at + 4..)).unwrap_or_default();
            self.log()
                .copies
                .entry(number)
                .or_default()
                .push(digest(body));
        }
    }
}

fn reply(code: u16, status: EnhancedStatus, text: &'static str) -> Result<Reply> {
    let code = ReplyCode::new(code).context("a reply code from 200 to 599")?;
    Ok(Reply::new(code, Some(status), text))
}

/// The first such field of any header section or delivery-status part in the message.
fn field<'a>(raw: &'a [u8], name: &str) -> Option<&'a str> {
    raw.split(|octet| *octet == b'\n').find_map(|line| {
        let (found, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Reads a delivery status notification (RFC 3464) about one recipient.
fn notice(raw: &[u8]) -> Option<Notice> {
    let report = field(raw, "Final-Recipient")?;
    Some(Notice {
        // The original, or its header section, is the last part of the report.
        number: field(raw, NUMBER_FIELD)?.parse().ok()?,
        recipient: report.split_once(';')?.1.trim().to_owned(),
        action: field(raw, "Action")?.to_owned(),
        status: field(raw, "Status")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Notice, notice};

    #[test]
    fn reads_a_notice() {
        let raw = b"From: <>\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n\
            Reporting-MTA: dns; relay\r\n\r\nFinal-Recipient: rfc822; customer-5@mail.example\r\n\
            Action: failed\r\nStatus: 5.1.1\r\n\r\n--b\r\n\r\nX-Demo-Message: 5\r\n";
        let expected = Notice {
            number: 5,
            recipient: "customer-5@mail.example".to_owned(),
            action: "failed".to_owned(),
            status: "5.1.1".to_owned(),
        };
        assert_eq!(notice(raw), Some(expected));
        assert_eq!(notice(b"Subject: no report\r\n\r\n"), None);
    }
}
