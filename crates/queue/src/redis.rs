//! The queue on one Redis or Valkey >= 7.0, shared by all pods of a relay.
//!
//! Each operation is one script (`lua/`), so one step of the server; only enqueue is a MULTI, because
//! the bodies in it must not pass through Lua. Keys begin with `mr:{<queue>:<shard>}:`, a single hash
//! tag:
//!
//! | key | type | content |
//! |---|---|---|
//! | `m:<mid>` | string | the record: version, header, body |
//! | `b:<mid>` | hash | chunk number -> chunk of a large body; expires until its message is enqueued |
//! | `t:<tid>` | hash | `a` attempts, `rb` begun by an owner that did not settle it, `r<i>` `d`elivered or `f`ailed, `s` notes, `h` why it is held, `x` dropped when its claim ends; from the first deferral, take-over or hold on |
//! | `q:<qid>` | sorted set | tid -> due |
//! | `wake` | sorted set | qid -> when to look at it next; site -> when its rate lets the next task go; `!` and scope -> when a suspension ends |
//! | `ten`, `act:<tenant>` | sorted set | tenants by virtual time; a tenant's eligible queues by last-served sequence |
//! | `blk:<site>`, `bs` | sorted set, set | qids that wait for a slot of the site; sites that have some |
//! | `ct`, `cw:<wid>` | hash | slots in use by site; a worker's slots: slot id -> site |
//! | `c:<wid>` | sorted set | claim set: handle -> deadline * 4 + charged * 2 + begun |
//! | `sus`, `pk:<scope>` | hash, sorted set | scope of a suspension -> until (0: for ever) and reason; qids that it kept back |
//! | `g`, `cs:<wid>` | hash | site with a rate -> theoretical arrival time, ms and parts of it; a worker's claims that were charged to one -> site |
//! | `wk`, `wks`, `ws` | sorted set, hash, set | lease expiry; held without a gap since; who may own anything |
//! | `rc` | hash | open tasks of messages with more than one |
//! | `exp` | sorted set | mid -> when it expires * 2 + found expired |
//! | `rcl` | hash | how often a begun task was taken back |
//! | `hold` | sorted set | handle -> held since |
//! | `lim` | hash | generation, `default` and `site:<site>` concurrency, `rate` and `rate:<site>` (messages, ms, burst), `rates`: there are some of the latter, `weight:<tenant>`, `held` `keep` |
//! | `ln:<wid>` | hash | lane -> last n, and its reply |
//! | `ev` | stream | the journal: outcomes of one call, packed |
//! | `qs`, `st`, `meta` | sorted set, hash, hash | queues that hold tasks, all at score 0, so by their names; `V`, `seq`, `sus` (some `rcl` may be 3 or more), number of suspensions `sn`, when slots were counted last `audit`, where to look for passed times next `g`, and finishes of tenants; schema and owner |
//!
//! Invariants:
//! * Nothing is enqueued on a server that does not meet the declared durability; asked when a
//!   connection is made and with every beat.
//! * [`QueueError::Unreachable`] only when the last octet of a request has not left: then it cannot
//!   have been executed. After that, silence is [`QueueError::Ambiguous`].
//! * A connection that did not answer is closed, never used again.
//! * Every script but enqueue runs on a full server.
//! * No script runs for a user that lacks one of the commands: refused half way, it would leave half
//!   of its step.
//!
//! * What replicas are to confirm is waited for on the connection of the commit, which nobody else
//!   uses meanwhile: on another the answer is about that one's writes.
//! * Another server that takes the primary's place begins another epoch: what was claimed before is
//!   begun anew before it is relied on.
//!
//! What it does not do: spread over shards.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{RedisWrite as _, Value};

use self::connection::ConnectError;
use self::fields::Fields;
use self::pool::{Connector, Pool};
use self::reply::unexpected;
use self::script::Script;
use self::store::push_call;
use crate::durability::Durability;
use crate::id::{Call, Handle, JournalId, MessageId, Scope, WorkerId};
use crate::operation::{
    Aborted, Act, Acted, Beat, Begun, Counts, Expiring, HeldExpiry, Journaled, Limits, List, Next,
    NextReply, Page, Rate, Resolved, Seen, Suspension, Taken, Timing,
};
use crate::queue::{Queue, QueueError, RecordError};
use crate::record::{Header, NewMessage, Record};
use crate::schema::{Schema, refusal};

mod address;
mod admin;
mod body;
mod connection;
mod durability;
mod fields;
mod locate;
mod next;
mod pool;
mod reply;
mod script;
mod settings;
mod store;
mod survey;
mod wire;

pub use self::locate::Locator;
pub use self::settings::{OpenError, Settings};

/// The delivery queue in a Redis. Connections are made when they are needed, so it can be opened
/// while the server is away.
pub struct Redis {
    connector: Arc<Connector>,
    /// Nothing but commits: a confirmation belongs to the connection it came by.
    commits: Pool,
    dispatch: Pool,
    reads: Pool,
    heartbeat: Pool,
    /// Chunks of bodies.
    bulk: Pool,
    timing: Timing,
    response_timeout: Duration,
    journal_keeps: u32,
}

impl Redis {
    /// Does not connect.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub fn open(settings: &Settings) -> Result<Self, OpenError> {
        let connector = Arc::new(Connector::new(settings.target()?));
        let pool = |size| Pool::new(&connector, size, settings.response_timeout);
        Ok(Self {
            commits: pool(4),
            dispatch: pool(4),
            reads: pool(2),
            heartbeat: pool(1),
            bulk: pool(4),
            timing: settings.timing,
            response_timeout: settings.response_timeout,
            journal_keeps: settings.journal_keeps,
            connector: Arc::clone(&connector),
        })
    }
}

#[async_trait]
impl Queue for Redis {
    async fn register(&self, worker: WorkerId) -> Result<(), QueueError> {
        let mut call = self.heartbeat.call(Script::Register);
        call.write_arg_fmt(worker);
        call.write_arg_fmt(self.timing.lease.as_millis());
        match self.heartbeat.run(call).await? {
            Value::Int(1) => Ok(()),
            Value::Int(0) => Err(QueueError::Conflict(format!("worker id {worker} is known"))),
            other => Err(unexpected("register", &other)),
        }
    }

    async fn beat(&self, worker: WorkerId) -> Result<Beat, QueueError> {
        let mut call = self.heartbeat.call(Script::Beat);
        call.write_arg_fmt(worker);
        call.write_arg_fmt(self.timing.lease.as_millis());
        call.write_arg_fmt(self.timing.beat.as_millis());
        let reads = self.connector.target.reads;
        call.write_arg_fmt(reads.newest);
        let mut fields = Fields::of(self.heartbeat.run(call).await?, "beat")?;
        match fields.integer()? {
            0 => return Ok(Beat::Reaped),
            2 => {
                let schema = fields.count()? as Schema;
                let queue = &self.connector.target.prefix;
                return Err(QueueError::Conflict(refusal(queue, schema, reads)));
            }
            _ => {}
        }
        Ok(Beat::Renewed {
            late: fields.integer()? == 1,
            reaped: u32::try_from(fields.count()?).map_err(|_| fields.unexpected("a count"))?,
            more: fields.integer()? == 1,
            next_foreign_expiry: fields.milliseconds()?,
            held: fields.rest()?,
        })
    }

    async fn stage(&self, message: MessageId, number: u32, chunk: Bytes) -> Result<(), QueueError> {
        self.write_chunk(message, number, &chunk).await
    }

    async fn unstage(&self, message: MessageId) -> Result<(), QueueError> {
        self.drop_chunks(message).await
    }

    async fn enqueue(&self, call: Call, messages: &[NewMessage]) -> Result<Taken<()>, QueueError> {
        if messages.is_empty() {
            return Ok(Taken::Ran(()));
        }
        self.commit(call, messages).await
    }

    async fn abort(
        &self,
        call: Call,
        message: MessageId,
        handles: &[Handle],
    ) -> Result<Aborted, QueueError> {
        let mut command = self.dispatch.call(Script::Abort);
        push_call(&mut command, call);
        command.write_arg_fmt(message);
        for handle in handles {
            command.write_arg_fmt(handle);
        }
        match self.dispatch.run(command).await? {
            Value::Int(1) => Ok(Aborted::Gone),
            Value::Int(0) => Ok(Aborted::Held),
            other => Err(unexpected("abort", &other)),
        }
    }

    async fn next(&self, next: &Next) -> Result<Taken<NextReply>, QueueError> {
        let call = next::complete(
            self.dispatch.call(Script::Next),
            next,
            &self.timing,
            self.journal_keeps,
        )?;
        next::reply_of(next.call, self.dispatch.run(call).await?)
    }

    async fn resolve(&self, call: Call) -> Result<Resolved, QueueError> {
        let mut command = self.dispatch.call(Script::Resolve);
        push_call(&mut command, call);
        next::resolution_of(call, self.dispatch.run(command).await?)
    }

    async fn begin(&self, worker: WorkerId, handles: &[Handle]) -> Result<Vec<Begun>, QueueError> {
        if handles.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = self.dispatch.call(Script::Begin);
        call.write_arg_fmt(worker);
        call.write_arg_fmt(self.timing.begun.as_millis());
        for handle in handles {
            call.write_arg_fmt(handle);
        }
        let mut fields = Fields::of(self.dispatch.run(call).await?, "begin")?;
        handles
            .iter()
            .map(|_| match fields.integer()? {
                1 => Ok(Begun::Begun),
                _ => Ok(Begun::NotHeld),
            })
            .collect()
    }

    async fn check(&self, worker: WorkerId, handle: &Handle) -> Result<bool, QueueError> {
        let mut call = self.dispatch.call(Script::Check);
        call.write_arg_fmt(worker);
        call.write_arg_fmt(handle);
        match self.dispatch.run(call).await? {
            Value::Int(held) => Ok(held == 1),
            other => Err(unexpected("check", &other)),
        }
    }

    async fn expiring(&self, max: u16) -> Result<Expiring, QueueError> {
        let mut call = self.dispatch.call(Script::Expiring);
        call.arg(max);
        let mut fields = Fields::of(self.dispatch.run(call).await?, "expiring")?;
        fields.rest()
    }

    async fn read(
        &self,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Result<Record, RecordError>>>, QueueError> {
        self.read_records(messages).await
    }

    async fn read_chunk(
        &self,
        message: MessageId,
        number: u32,
    ) -> Result<Option<Bytes>, QueueError> {
        self.get_chunk(message, number).await
    }

    async fn set_limits(&self, limits: &Limits) -> Result<(), QueueError> {
        let mut call = self.dispatch.call(Script::SetLimits);
        call.arg(limits.generation).arg(limits.concurrency_default);
        for (site, concurrency) in &limits.concurrency {
            call.arg(format!("site:{site}")).arg(concurrency);
        }
        if let Some(rate) = &limits.rate_default {
            call.arg("rate").arg(written(rate));
        }
        for (site, rate) in &limits.rates {
            call.arg(format!("rate:{site}")).arg(written(rate));
        }
        if !limits.rates.is_empty() {
            call.arg("rates").arg(1);
        }
        for (tenant, weight) in &limits.weights {
            call.arg(format!("weight:{tenant}")).arg(weight.max(&1));
        }
        if limits.held == HeldExpiry::Keep {
            call.arg("held").arg("keep");
        }
        match self.dispatch.run(call).await? {
            Value::Int(_) => Ok(()),
            other => Err(unexpected("set_limits", &other)),
        }
    }

    async fn act(&self, acts: &[Act]) -> Result<Vec<Acted>, QueueError> {
        if acts.is_empty() {
            return Ok(Vec::new());
        }
        let call = admin::act(self.dispatch.call(Script::Act), acts)?;
        admin::acted(acts.len(), self.dispatch.run(call).await?)
    }

    async fn suspend(&self, suspension: &Suspension) -> Result<(), QueueError> {
        let mut call = self.dispatch.call(Script::Suspend);
        call.write_arg_fmt(&suspension.scope);
        let lasts = suspension
            .lasts
            .map_or(-1, |lasts| lasts.as_millis() as i64);
        call.arg(lasts).arg(&suspension.reason);
        match self.dispatch.run(call).await? {
            Value::Int(1) => Ok(()),
            other => Err(unexpected("suspend", &other)),
        }
    }

    async fn resume(&self, scope: &Scope) -> Result<bool, QueueError> {
        let mut call = self.dispatch.call(Script::Resume);
        call.write_arg_fmt(scope);
        match self.dispatch.run(call).await? {
            Value::Int(ended) => Ok(ended == 1),
            other => Err(unexpected("resume", &other)),
        }
    }

    async fn suspensions(&self) -> Result<Vec<Suspension>, QueueError> {
        let call = self.dispatch.call(Script::Suspensions);
        let mut fields = Fields::of(self.dispatch.run(call).await?, "suspensions")?;
        let mut suspensions = Vec::new();
        while !fields.is_empty() {
            suspensions.push(Suspension {
                scope: fields.parsed()?,
                lasts: fields.milliseconds()?,
                reason: String::from_utf8_lossy(&fields.octets()?).into_owned(),
            });
        }
        suspensions.sort_unstable_by(|a, b| a.scope.cmp(&b.scope));
        Ok(suspensions)
    }

    async fn list(&self, list: &List) -> Result<Page, QueueError> {
        let call = admin::list(self.reads.call(Script::List), list);
        admin::page(self.reads.run(call).await?)
    }

    async fn look(&self, handles: &[Handle]) -> Result<Vec<Option<Seen>>, QueueError> {
        if handles.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = self.reads.call(Script::Look);
        for handle in handles {
            call.write_arg_fmt(handle);
        }
        admin::looked_at(handles.len(), self.reads.run(call).await?)
    }

    async fn headers(
        &self,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Result<Header, RecordError>>>, QueueError> {
        self.read_headers(messages).await
    }

    async fn hasten(&self, route: &str, max: u16) -> Result<u16, QueueError> {
        let mut call = self.dispatch.call(Script::Hasten);
        call.arg(route).arg(max.min(1000));
        match self.dispatch.run(call).await? {
            Value::Int(count) => {
                u16::try_from(count).map_err(|_| unexpected("hasten", &Value::Int(count)))
            }
            other => Err(unexpected("hasten", &other)),
        }
    }

    async fn journal(
        &self,
        after: Option<JournalId>,
        max: u16,
    ) -> Result<Vec<Journaled>, QueueError> {
        let mut call = self.reads.call(Script::Journal);
        match after {
            Some(after) => call.arg(format!("({after}")),
            None => call.arg("-"),
        };
        call.arg(max);
        let mut fields = Fields::of(self.reads.run(call).await?, "journal")?;
        let mut entries = Vec::new();
        while !fields.is_empty() {
            let id = fields.parsed()?;
            let count = fields.count()?;
            let outcomes = (0..count)
                .map(|_| fields.octets())
                .collect::<Result<_, _>>()?;
            entries.push(Journaled { id, outcomes });
        }
        Ok(entries)
    }

    /// Page by page, so that many queues do not stop everybody else; each page is one step.
    async fn counts(&self) -> Result<Counts, QueueError> {
        let mut counts = Counts::default();
        let mut cursor = 0;
        loop {
            let mut call = self.reads.call(Script::Counts);
            call.arg(cursor);
            let mut fields = Fields::of(self.reads.run(call).await?, "counts")?;
            cursor = fields.count()?;
            counts.ready += fields.count()? as u64;
            counts.deferred += fields.count()? as u64;
            counts.in_flight += fields.count()? as u64;
            counts.held += fields.count()? as u64;
            counts.oldest_ready = counts.oldest_ready.max(fields.milliseconds()?);
            if cursor == 0 {
                return Ok(counts);
            }
        }
    }

    async fn durability(&self) -> Result<Durability, QueueError> {
        let mut taken = match self.heartbeat.try_take().await {
            Ok(taken) => taken,
            Err(ConnectError::Unsupported(remedy)) => {
                return Ok(Durability::Unmet {
                    reason: "NotVerified",
                    remedy,
                });
            }
            Err(ConnectError::TooFewReplicas(remedy)) => {
                return Ok(Durability::Unmet {
                    reason: "TooFewReplicas",
                    remedy,
                });
            }
            Err(error) => return Err(error.into()),
        };
        let deadline = self.heartbeat.deadline();
        let verified = self.connector.verify(&mut taken.connection, deadline).await;
        let durability = verified.inspect_err(|_| taken.suspect())?;
        taken.put_back();
        Ok(durability)
    }

    fn epoch(&self) -> u64 {
        self.connector.epoch()
    }

    fn fill(&self) -> Option<u8> {
        self.connector.verified.fill()
    }
}

fn written(rate: &Rate) -> String {
    let (messages, per, burst) = rate.bounded();
    format!("{messages} {per} {burst}")
}
