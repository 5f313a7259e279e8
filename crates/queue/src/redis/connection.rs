//! One connection: set up, asked and answered strictly in turn.

use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisConnectionInfo, RedisError, Value};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::address::Endpoint;
use super::durability::Store;
use super::locate::{self, Dial, Locator};
use super::reply::{refusal_text, text_of};
use super::script::{ATTACH, COMMANDS, LACKING, Script};
use super::settings::OpenError;
use super::survey;
use super::wire::{Stream, Wire, Written};
use crate::durability::Level;
use crate::queue::QueueError;
use crate::schema::{Reads, Schema, refusal};

/// What a connection needs to come about.
pub(super) struct Target {
    pub(super) locator: Locator,
    /// Roots for TLS instead of the public ones, read for each connection.
    pub(super) ca_file: Option<PathBuf>,
    /// Prefix of every key, with the hash tag.
    pub(super) prefix: String,
    pub(super) owner: String,
    pub(super) level: Level,
    pub(super) reads: Reads,
    /// The schema that shall be in force.
    pub(super) schema: Option<Schema>,
    pub(super) connect_timeout: Duration,
}

pub(super) struct Connection {
    requests: MultiplexedConnection,
    /// Writes the requests and reads the replies; runs only while somebody waits for one.
    /// `None` once the connection is over.
    driver: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    written: Arc<Written>,
    /// What the connector counted when it was made, see [`Connector::epoch`](super::pool::Connector).
    pub(super) epoch: u64,
}

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{0}")]
    Unreachable(String),
    /// A server that cannot take mail, or not from this user, whatever its settings.
    #[error("{0}")]
    Unsupported(String),
    /// The queue belongs to somebody else.
    #[error("{0}")]
    Conflict(String),
    /// A primary that takes no writes, because too few replicas would have them.
    #[error("TooFewReplicas: {0}")]
    TooFewReplicas(String),
}

impl ConnectError {
    /// By a server that refuses what a connection begins with.
    fn refused(text: String) -> Self {
        match text.starts_with("NOREPLICAS") {
            true => Self::TooFewReplicas(format!("bring replicas up: {text}")),
            false => Self::Unreachable(text),
        }
    }

    /// Of a server that is named by its place in the network.
    pub(super) fn at(self, Endpoint { host, port }: &Endpoint) -> Self {
        match self {
            Self::Unreachable(text) => Self::Unreachable(format!("{host}:{port}: {text}")),
            other => other,
        }
    }
}

impl From<OpenError> for ConnectError {
    fn from(error: OpenError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

impl From<ConnectError> for QueueError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Unreachable(text) | ConnectError::Unsupported(text) => {
                Self::Unreachable(text)
            }
            ConnectError::Conflict(text) => Self::Conflict(text),
            error @ ConnectError::TooFewReplicas(_) => Self::NotDurable(error.to_string()),
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
    /// To whoever is the primary now, together with what it says of itself.
    pub(super) async fn open(target: &Target) -> Result<(Self, Store), ConnectError> {
        let deadline = Instant::now() + target.connect_timeout;
        let dial = Dial::new(target)?;
        let (mut connection, endpoint) = locate::primary(&dial, &target.prefix, deadline).await?;
        let store = connection.set_up(target, &dial, deadline).await;
        let store = store.map_err(|error| error.at(&endpoint))?;
        Ok((connection, store))
    }

    /// Sends all commands, then reads all replies.
    pub(super) async fn exchange(
        &mut self,
        request: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Value>, ExchangeError> {
        let before = self.written.octets();
        let exchanged = timeout_at(deadline, self.drive(request)).await;
        let error = match exchanged {
            Ok(Ok(replies)) => return Ok(replies),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        // Nothing is written any more: what has left by now is all that ever does.
        self.driver = None;
        if self.written.octets() - before < octets_at_least(request) {
            Err(ExchangeError::NotSent(error))
        } else {
            Err(ExchangeError::Unanswered(error))
        }
    }

    async fn drive(&mut self, request: &Pipeline) -> Result<Vec<Value>, RedisError> {
        let mut replies = pin!(
            self.requests
                .send_packed_commands(request, 0, request.len())
        );
        let driver = &mut self.driver;
        poll_fn(|context| {
            // Handed over to the driver, driven, and only then looked at.
            if let Poll::Ready(replies) = replies.as_mut().poll(context) {
                return Poll::Ready(replies);
            }
            if let Some(running) = driver
                && running.as_mut().poll(context).is_ready()
            {
                *driver = None;
            }
            replies.as_mut().poll(context)
        })
        .await
    }

    /// After the server has forgotten them.
    pub(super) async fn load_scripts(&mut self, deadline: Instant) -> Result<(), ExchangeError> {
        let mut request = Pipeline::with_capacity(Script::ALL.len());
        for script in Script::ALL {
            request.cmd("SCRIPT").arg("LOAD").arg(script.text());
        }
        for reply in self.exchange(&request, deadline).await? {
            if let Value::ServerError(error) = reply {
                // Nothing but a script's text was sent.
                return Err(ExchangeError::NotSent(refusal_text(&error)));
            }
        }
        Ok(())
    }

    /// False when the server has closed it while it was idle.
    pub(super) async fn is_idle(&mut self) -> bool {
        let Some(driver) = &mut self.driver else {
            return false;
        };
        poll_fn(|context| Poll::Ready(driver.as_mut().poll(context).is_pending())).await
    }

    /// A connection to `endpoint` that nothing has been said on but who speaks.
    pub(super) async fn to(
        endpoint: &Endpoint,
        login: &RedisConnectionInfo,
        tls: Option<&Arc<rustls::ClientConfig>>,
        deadline: Instant,
    ) -> Result<Self, ConnectError> {
        let connecting = async {
            let stream = open(endpoint, tls)
                .await
                .map_err(|error| error.to_string())?;
            let (wire, written) = Wire::around(stream);
            // Every exchange has a deadline of its own.
            let config = AsyncConnectionConfig::new().set_response_timeout(None);
            let (requests, driver) = MultiplexedConnection::new_with_config(login, wire, config)
                .await
                .map_err(|error| error.to_string())?;
            Ok(Self {
                requests,
                driver: Some(Box::pin(driver)),
                written,
                epoch: 0,
            })
        };
        let connected = timeout_at(deadline, connecting).await;
        connected
            .unwrap_or_else(|_| Err("connecting took too long".to_owned()))
            .map_err(|text| ConnectError::Unreachable(text).at(endpoint))
    }

    /// The reply to one command.
    pub(super) async fn ask(
        &mut self,
        command: Cmd,
        deadline: Instant,
    ) -> Result<Value, ExchangeError> {
        let mut request = Pipeline::with_capacity(1);
        request.add_command(command);
        let reply = self.exchange(&request, deadline).await?.pop();
        reply.ok_or_else(|| ExchangeError::Unanswered("no reply to a command".to_owned()))
    }

    async fn set_up(
        &mut self,
        target: &Target,
        dial: &Dial,
        deadline: Instant,
    ) -> Result<Store, ConnectError> {
        let store = survey::store(self, dial, target.level, deadline).await?;
        if store.is_replica() && dial.can_fail_over() {
            return Err(ConnectError::Unreachable(
                "it is named as the primary and is none (yet, or any more)".to_owned(),
            ));
        }
        if let Some(reason) = store.unsupported() {
            return Err(ConnectError::Unsupported(reason));
        }
        self.check_permissions(target, store.confirmation(target.level), deadline)
            .await?;
        self.load_scripts(deadline).await?;
        self.attach(target, deadline).await?;
        Ok(store)
    }

    async fn check_permissions(
        &mut self,
        target: &Target,
        confirmation: Option<&str>,
        deadline: Instant,
    ) -> Result<(), ConnectError> {
        let mut request = Pipeline::new();
        request
            .cmd("EVAL")
            .arg(LACKING.as_str())
            .arg(1)
            .arg(&target.prefix)
            .arg(&*COMMANDS)
            .arg(confirmation);
        let lacking = match self.exchange(&request, deadline).await?.pop() {
            Some(Value::Array(lacking)) => lacking,
            Some(Value::ServerError(error)) => {
                let text = refusal_text(&error);
                return Err(match text.starts_with("NOPERM") {
                    true => ConnectError::Unsupported(format!(
                        "permit EVAL and the keys {}* to this user: {text}",
                        target.prefix
                    )),
                    false => ConnectError::refused(text),
                });
            }
            other => return Err(ConnectError::Unreachable(format!("EVAL: {other:?}"))),
        };
        let lacking: Vec<String> = lacking.iter().filter_map(text_of).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        Err(ConnectError::Unsupported(format!(
            "permit the commands {} to this user: the queue needs all of them",
            lacking.join(", ")
        )))
    }

    /// A re-created relay finds its mail; another one does not take it.
    async fn attach(&mut self, target: &Target, deadline: Instant) -> Result<(), ConnectError> {
        let mut request = Pipeline::new();
        request
            .cmd("EVAL")
            .arg(ATTACH.as_str())
            .arg(1)
            .arg(&target.prefix)
            .arg(&target.owner)
            .arg(target.reads.oldest)
            .arg(target.reads.newest)
            .arg(target.schema.unwrap_or(0));
        let fields = match self.exchange(&request, deadline).await?.pop() {
            Some(Value::Array(fields)) => fields,
            Some(Value::ServerError(error)) => {
                return Err(ConnectError::refused(refusal_text(&error)));
            }
            other => return Err(ConnectError::Unreachable(format!("EVAL: {other:?}"))),
        };
        let field = |index: usize| fields.get(index).and_then(text_of);
        let Some(owner) = field(0) else {
            return Err(ConnectError::Conflict(
                "the queue's owner is unreadable".into(),
            ));
        };
        if owner != target.owner {
            return Err(ConnectError::Conflict(format!(
                "the queue {} belongs to {owner}, not to {}",
                target.prefix, target.owner
            )));
        }
        match field(1).and_then(|schema| schema.parse().ok()) {
            Some(schema) if target.reads.contains(schema) => Ok(()),
            Some(schema) => Err(ConnectError::Conflict(refusal(
                &target.prefix,
                schema,
                target.reads,
            ))),
            None => Err(ConnectError::Conflict(
                "the queue's schema is unreadable".into(),
            )),
        }
    }
}

async fn open(
    endpoint: &Endpoint,
    tls: Option<&Arc<rustls::ClientConfig>>,
) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    stream.set_nodelay(true)?;
    let Some(config) = tls else {
        return Ok(Box::new(stream));
    };
    let name = ServerName::try_from(endpoint.host.clone())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let stream = TlsConnector::from(Arc::clone(config))
        .connect(name, stream)
        .await?;
    Ok(Box::new(stream))
}

/// A lower bound of what a request is when written: its arguments without their framing. Who wrote
/// less has surely not written the last octet; who wrote as much may have.
fn octets_at_least(request: &Pipeline) -> u64 {
    let arguments = request.cmd_iter().flat_map(Cmd::args_iter);
    arguments
        .map(|argument| match argument {
            redis::Arg::Simple(octets) => octets.len() as u64,
            _ => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_at_least_as_long_as_its_arguments() {
        let mut request = Pipeline::new();
        request.cmd("SET").arg("key").arg(vec![7_u8; 100_000]);
        request.cmd("PING");
        let least = octets_at_least(&request);
        assert_eq!(least, 100_010);
        assert!(least <= request.get_packed_pipeline().len() as u64);
    }
}
