//! One connection: set up, asked and answered strictly in turn.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::address::Address;
use super::durability::{self, Store};
use super::resp::{Command, Reply, Request, take_reply};
use super::script::{ATTACH, Script};
use crate::queue::QueueError;

/// What a connection needs to come about.
pub(super) struct Target {
    pub(super) address: Address,
    /// Present exactly when the address asks for TLS.
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    /// Prefix of every key, with the hash tag.
    pub(super) prefix: String,
    pub(super) owner: String,
    pub(super) connect_timeout: Duration,
}

pub(super) struct Connection {
    stream: Box<dyn Stream>,
    input: BytesMut,
    /// Digests of [`Script::ALL`].
    scripts: Vec<Bytes>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{0}")]
    Unreachable(String),
    /// A server that cannot take mail, whatever its settings.
    #[error("{0}")]
    Unsupported(String),
    /// The queue belongs to somebody else.
    #[error("{0}")]
    Conflict(String),
}

impl From<ConnectError> for QueueError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Unreachable(text) | ConnectError::Unsupported(text) => {
                Self::Unreachable(text)
            }
            ConnectError::Conflict(text) => Self::Conflict(text),
        }
    }
}

/// Why an exchange gave no replies. The connection is of no use afterwards.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// The last octet has not left, so the last command cannot have been executed.
    NotSent(String),
    /// It may have been executed.
    Unanswered(String),
}

impl From<ExchangeError> for QueueError {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::NotSent(text) => Self::Unreachable(text),
            ExchangeError::Unanswered(text) => Self::Ambiguous(text),
        }
    }
}

impl From<ExchangeError> for ConnectError {
    fn from(error: ExchangeError) -> Self {
        let (ExchangeError::NotSent(text) | ExchangeError::Unanswered(text)) = error;
        Self::Unreachable(text)
    }
}

impl Connection {
    /// Together with what the server says of itself.
    pub(super) async fn open(target: &Target) -> Result<(Self, Store), ConnectError> {
        let deadline = Instant::now() + target.connect_timeout;
        let unreachable = |error: &dyn fmt::Display| {
            ConnectError::Unreachable(format!("{}: {error}", target.address))
        };
        let stream = match timeout_at(deadline, connect(target)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(&error)),
            Err(_) => return Err(unreachable(&"connecting took too long")),
        };
        let mut connection = Self {
            stream,
            input: BytesMut::new(),
            scripts: Vec::new(),
        };
        let store = connection
            .set_up(target, deadline)
            .await
            .map_err(|error| match error {
                ConnectError::Unreachable(text) => unreachable(&text),
                other => other,
            })?;
        Ok((connection, store))
    }

    /// Sends all commands, then reads all replies.
    pub(super) async fn exchange(
        &mut self,
        mut request: Request,
        deadline: Instant,
    ) -> Result<Vec<Reply>, ExchangeError> {
        let count = request.commands();
        let outcome = timeout_at(deadline, async {
            self.stream.write_all_buf(&mut request).await?;
            self.stream.flush().await?;
            self.read_replies(count).await
        })
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")));
        outcome.map_err(|error| {
            if request.has_remaining() {
                ExchangeError::NotSent(error.to_string())
            } else {
                ExchangeError::Unanswered(error.to_string())
            }
        })
    }

    pub(super) fn digest_of(&self, script: Script) -> &Bytes {
        &self.scripts[script as usize]
    }

    /// After the server has forgotten them.
    pub(super) async fn load_scripts(&mut self, deadline: Instant) -> Result<(), ExchangeError> {
        let mut request = Request::default();
        for script in Script::ALL {
            let mut command = Command::new("SCRIPT");
            command.arg("LOAD").arg(script.text());
            request.push(command);
        }
        let mut digests = Vec::with_capacity(Script::ALL.len());
        for reply in self.exchange(request, deadline).await? {
            match reply {
                Reply::Bulk(digest) => digests.push(digest),
                // Nothing but a script's text was sent.
                other => return Err(ExchangeError::NotSent(format!("SCRIPT LOAD: {other:?}"))),
            }
        }
        self.scripts = digests;
        Ok(())
    }

    /// False when the server has closed it, or sent what nobody asked for, while it was idle.
    pub(super) async fn is_idle(&mut self) -> bool {
        let mut octet = [0];
        let mut buffer = ReadBuf::new(&mut octet);
        std::future::poll_fn(|context| {
            let read = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
            Poll::Ready(read.is_pending())
        })
        .await
            && self.input.is_empty()
    }

    async fn set_up(&mut self, target: &Target, deadline: Instant) -> Result<Store, ConnectError> {
        self.authenticate(&target.address, deadline).await?;
        let store = durability::ask(self, deadline).await?;
        if let Some(reason) = store.unsupported() {
            return Err(ConnectError::Unsupported(reason));
        }
        self.load_scripts(deadline).await?;
        self.attach(target, deadline).await?;
        Ok(store)
    }

    async fn authenticate(
        &mut self,
        address: &Address,
        deadline: Instant,
    ) -> Result<(), ConnectError> {
        let mut request = Request::default();
        if let Some(password) = &address.password {
            let mut command = Command::new("AUTH");
            if let Some(username) = &address.username {
                command.arg(username);
            }
            command.arg(password);
            request.push(command);
        }
        if address.database != 0 {
            let mut command = Command::new("SELECT");
            command.written(address.database);
            request.push(command);
        }
        for reply in self.exchange(request, deadline).await? {
            if let Reply::Error(text) = reply {
                return Err(ConnectError::Unreachable(text));
            }
        }
        Ok(())
    }

    /// A re-created relay finds its mail; another one does not take it.
    async fn attach(&mut self, target: &Target, deadline: Instant) -> Result<(), ConnectError> {
        let mut command = Command::new("EVAL");
        command.arg(ATTACH.as_str()).arg("1").arg(&target.prefix);
        command.written(SCHEMA).arg(&target.owner);
        let replies = self.exchange(Request::of(command), deadline).await?;
        let fields = match replies.into_iter().next() {
            Some(Reply::Array(fields)) => fields,
            Some(Reply::Error(text)) => return Err(ConnectError::Unreachable(text)),
            other => return Err(ConnectError::Unreachable(format!("EVAL: {other:?}"))),
        };
        let [Reply::Bulk(schema), Reply::Bulk(owner)] = fields.as_slice() else {
            return Err(ConnectError::Conflict(
                "the queue's schema and owner are unreadable".into(),
            ));
        };
        let (schema, owner) = (
            String::from_utf8_lossy(schema),
            String::from_utf8_lossy(owner),
        );
        if owner != target.owner {
            return Err(ConnectError::Conflict(format!(
                "the queue {} belongs to {owner}, not to {}",
                target.prefix, target.owner
            )));
        }
        if schema != SCHEMA.to_string() {
            return Err(ConnectError::Conflict(format!(
                "the queue {} has schema {schema}, this program reads schema {SCHEMA}",
                target.prefix
            )));
        }
        Ok(())
    }

    async fn read_replies(&mut self, count: usize) -> io::Result<Vec<Reply>> {
        let mut replies = Vec::with_capacity(count);
        while replies.len() < count {
            let taken = take_reply(&mut self.input)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            match taken {
                Ok(reply) => replies.push(reply),
                Err(needed) => {
                    self.input
                        .reserve((needed - self.input.len()).max(MIN_READ));
                    if self.stream.read_buf(&mut self.input).await? == 0 {
                        return Err(io::Error::new(
                            io::ErrorKind::UnexpectedEof,
                            "the connection was closed",
                        ));
                    }
                }
            }
        }
        Ok(replies)
    }
}

async fn connect(target: &Target) -> io::Result<Box<dyn Stream>> {
    let address = &target.address;
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    stream.set_nodelay(true)?;
    let Some(config) = &target.tls else {
        return Ok(Box::new(stream));
    };
    let name = ServerName::try_from(address.host.clone())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let stream = TlsConnector::from(Arc::clone(config))
        .connect(name, stream)
        .await?;
    Ok(Box::new(stream))
}

/// Of the keys and values this program writes.
const SCHEMA: u32 = 1;
const MIN_READ: usize = 8 * 1024;
