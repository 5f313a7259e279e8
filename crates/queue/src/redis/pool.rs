//! Connections for one purpose: few, each used by one caller at a time, opened when needed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Cmd, Pipeline, ServerErrorKind, Value};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::connection::{ConnectError, Connection, ExchangeError, Target};
use super::durability::Verified;
use super::locate::Dial;
use super::reply::{refusal, refusal_text};
use super::script::Script;
use super::survey;
use crate::durability::Durability;
use crate::queue::QueueError;

/// Opens connections, for all pools of one back end: who fails holds the others back for a moment,
/// so an absent server costs each call nothing but its refusal.
pub(super) struct Connector {
    pub(super) target: Target,
    pub(super) verified: Verified,
    trouble: Mutex<Option<Trouble>>,
    epoch: AtomicU64,
    /// The start of a server that the last connection led to.
    server: Mutex<String>,
}

struct Trouble {
    error: ConnectError,
    pause: Duration,
    until: Instant,
}

impl Connector {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            verified: Verified::default(),
            trouble: Mutex::new(None),
            epoch: AtomicU64::new(0),
            server: Mutex::default(),
        }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.target.prefix
    }

    /// Grows when another server may have taken the primary's place, or the same one has started
    /// anew: connections of an earlier epoch are not used any more, and what was claimed in one is to
    /// be verified.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// A connection has failed, or its server does not act as a primary: where there is somebody to
    /// ask for the primary, it may be another one already.
    pub(super) fn suspect(&self, epoch: u64) {
        if self.target.locator.can_fail_over() {
            // Once for all connections of that epoch.
            let _ =
                self.epoch
                    .compare_exchange(epoch, epoch + 1, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    fn met(&self, run_id: &str) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if *server != run_id {
            if !server.is_empty() {
                self.epoch.fetch_add(1, Ordering::AcqRel);
            }
            run_id.clone_into(&mut server);
        }
    }

    /// What a confirmed write is worth on the server at `connection`.
    pub(super) async fn verify(
        &self,
        connection: &mut Connection,
        deadline: Instant,
    ) -> Result<Durability, ConnectError> {
        let (dial, level) = (Dial::new(&self.target)?, self.target.level);
        let store = survey::store(connection, &dial, level, deadline).await?;
        Ok(self.verified.judge(&store, level))
    }

    async fn open(&self) -> Result<Connection, ConnectError> {
        if let Some(trouble) = &*self.trouble()
            && Instant::now() < trouble.until
        {
            return Err(trouble.error.clone());
        }
        let opened = Connection::open(&self.target).await;
        let mut trouble = self.trouble();
        match opened {
            Ok((mut connection, store)) => {
                *trouble = None;
                self.verified.judge(&store, self.target.level);
                self.met(store.run_id());
                connection.epoch = self.epoch();
                Ok(connection)
            }
            Err(error) => {
                let pause = match &*trouble {
                    Some(before) => (before.pause * 2).min(LONGEST_PAUSE),
                    None => FIRST_PAUSE,
                };
                *trouble = Some(Trouble {
                    error: error.clone(),
                    pause,
                    until: Instant::now() + pause,
                });
                Err(error)
            }
        }
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Option<Trouble>> {
        // A value is replaced as a whole: one left by a panic elsewhere is as good as any.
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Pool {
    connector: Arc<Connector>,
    permits: Semaphore,
    idle: Mutex<Vec<Connection>>,
    response_timeout: Duration,
}

/// A connection in use. Dropped before [`Taken::put_back`] it is closed: whatever was on its way
/// can never be mistaken for the reply to something else.
pub(super) struct Taken<'a> {
    pub(super) connection: Connection,
    pool: &'a Pool,
    permit: SemaphorePermit<'a>,
}

impl Pool {
    pub(super) fn new(connector: &Arc<Connector>, size: usize, response_timeout: Duration) -> Self {
        Self {
            connector: Arc::clone(connector),
            permits: Semaphore::new(size),
            idle: Mutex::new(Vec::with_capacity(size)),
            response_timeout,
        }
    }

    /// The call of a script, without the arguments after the key.
    pub(super) fn call(&self, script: Script) -> Cmd {
        script.call(self.connector.prefix())
    }

    /// Runs a command: the complete call of a script, or one that reads.
    pub(super) async fn run(&self, command: Cmd) -> Result<Value, QueueError> {
        let mut request = Pipeline::with_capacity(1);
        request.add_command(command);
        let mut taken = self.take().await?;
        let mut replies = taken.exchange(&request).await?;
        if let [Value::ServerError(error)] = replies.as_slice()
            && error.kind() == Some(ServerErrorKind::NoScript)
        {
            // Nothing has run.
            taken.connection.load_scripts(self.deadline()).await?;
            replies = taken.exchange(&request).await?;
        }
        let reply = replies
            .pop()
            .ok_or_else(|| QueueError::Protocol("no reply to a command".into()))?;
        match reply {
            Value::ServerError(error) => {
                let error = refusal(refusal_text(&error));
                taken.put_back_after(&error);
                Err(error)
            }
            reply => {
                taken.put_back();
                Ok(reply)
            }
        }
    }

    /// An idle connection, or a new one.
    pub(super) async fn take(&self) -> Result<Taken<'_>, QueueError> {
        Ok(self.try_take().await?)
    }

    pub(super) async fn try_take(&self) -> Result<Taken<'_>, ConnectError> {
        let Ok(permit) = timeout_at(self.deadline(), self.permits.acquire()).await else {
            return Err(ConnectError::Unreachable(
                "all connections are waiting for replies".into(),
            ));
        };
        let permit = permit.expect("the semaphore is never closed");
        while let Some(mut connection) = self.pop_idle() {
            if connection.is_idle().await {
                return Ok(Taken {
                    connection,
                    pool: self,
                    permit,
                });
            }
        }
        let connection = self.connector.open().await?;
        Ok(Taken {
            connection,
            pool: self,
            permit,
        })
    }

    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.response_timeout
    }

    fn pop_idle(&self) -> Option<Connection> {
        let epoch = self.connector.epoch();
        let mut idle = self.idle();
        idle.retain(|connection| connection.epoch == epoch);
        idle.pop()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken<'_> {
    pub(super) async fn exchange(
        &mut self,
        request: &Pipeline,
    ) -> Result<Vec<Value>, ExchangeError> {
        self.exchange_until(request, self.pool.deadline()).await
    }

    pub(super) async fn exchange_until(
        &mut self,
        request: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Value>, ExchangeError> {
        let exchanged = self.connection.exchange(request, deadline).await;
        if exchanged.is_err() {
            self.suspect();
        }
        exchanged
    }

    /// Asks the next one for the primary anew.
    pub(super) fn suspect(&self) {
        self.pool.connector.suspect(self.connection.epoch);
    }

    /// Not to a server that does not act as a primary does.
    pub(super) fn put_back_after(self, error: &QueueError) {
        match error {
            QueueError::Unreachable(_) | QueueError::NotDurable(_) => self.suspect(),
            _ => self.put_back(),
        }
    }

    pub(super) fn put_back(self) {
        self.pool.idle().push(self.connection);
        drop(self.permit);
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
