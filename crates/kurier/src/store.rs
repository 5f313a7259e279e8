//! The queue that a configuration names.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use bytes::Bytes;
use config::queue::{self as configured, Source};
use config::{RedisUrl, RedisUrlError, RelayConfig, Violation};
use queue::durability::Durability;
use queue::embedded::EmbeddedQueue;
use queue::id::{Call, Handle, JournalId, MessageId, Scope, WorkerId};
use queue::operation::{
    Aborted, Act, Acted, Beat, Begun, Counts, Expiring, Journaled, Limits, Next, NextReply,
    Resolved, Suspension, Taken,
};
use queue::record::{NewMessage, Record};
use queue::redis::{OpenError, Redis, Settings};
use queue::schema::READS;
use queue::{Queue, QueueError, RecordError};

/// Opens the queue. A Redis that is away is no error, and neither is an address or an authority
/// that whoever keeps them in their files got wrong: until they put it right the queue is as one
/// that cannot be reached.
///
/// # Errors
/// When the embedded queue's file, or what the document says of Redis, cannot be used.
pub(crate) fn open(config: &RelayConfig) -> Result<Arc<dyn Queue>> {
    let redis = match &config.queue.source {
        Source::Embedded(embedded) => {
            if let Some(schema) = config.queue.schema {
                READS.admit(schema)?;
            }
            std::fs::create_dir_all(&embedded.path)
                .with_context(|| format!("{} cannot be made", embedded.path.display()))?;
            let file = embedded.path.join(QUEUE_FILE);
            let queue = EmbeddedQueue::open(&file, &relay::timing(&config.timing))?;
            queue.keep_journal(config.queue.journal.entries);
            return Ok(Arc::new(queue));
        }
        Source::Redis(redis) => redis,
    };
    match open_redis(config, redis) {
        Ok(queue) => Ok(Arc::new(queue)),
        Err(error) if error.is_of_content() => {
            tracing::error!(%error, "the queue cannot be used until this is put right");
            Ok(Arc::new(Waiting {
                config: config.clone(),
                redis: redis.clone(),
                opened: OnceLock::new(),
            }))
        }
        Err(error) => Err(error.into()),
    }
}

/// What keeps the queue of `config` from being opened, without opening it. Of content that
/// [`open`] waits for only where `of_content` says so.
pub(crate) fn check(config: &RelayConfig, of_content: bool) -> Option<Violation> {
    let error = match &config.queue.source {
        Source::Embedded(_) => StoreError::Open(READS.admit(config.queue.schema?).err()?.into()),
        Source::Redis(redis) => open_redis(config, redis).err()?,
    };
    (of_content || !error.is_of_content()).then(|| Violation {
        field: error.field().to_owned(),
        message: error.to_string(),
    })
}

/// Does not connect.
fn open_redis(config: &RelayConfig, redis: &configured::Redis) -> Result<Redis, StoreError> {
    let url = match (&redis.url, &redis.url_file) {
        (Some(url), _) => url.expose().to_owned(),
        (None, Some(file)) => read(file).map_err(|source| StoreError::Unreadable {
            field: "queue.source.redis.urlFile",
            path: file.clone(),
            source,
        })?,
        (None, None) => String::new(),
    };
    let form = RedisUrl::parse(&url).map_err(|source| match &redis.url_file {
        Some(path) => StoreError::UrlInFile {
            path: path.clone(),
            source,
        },
        None => StoreError::Url(source),
    })?;
    if let Some(path) = &redis.ca_file {
        File::open(path).map_err(|source| StoreError::Unreadable {
            field: "queue.source.redis.caFile",
            path: path.clone(),
            source,
        })?;
        if !form.tls {
            return Err(StoreError::InClear);
        }
    }
    let (id, owner) = (config.queue.id.clone(), config.queue.owner.clone());
    let timing = relay::timing(&config.timing);
    let mut settings = Settings::new(url.trim().to_owned(), id, owner, timing);
    settings.ca_file.clone_from(&redis.ca_file);
    settings.schema = config.queue.schema;
    settings.journal_keeps = config.queue.journal.entries;
    Ok(Redis::open(&settings)?)
}

/// No address is longer than the bound.
fn read(file: &Path) -> io::Result<String> {
    let mut octets = Vec::new();
    File::open(file)?.take(64 << 10).read_to_end(&mut octets)?;
    // What is no text is no address either.
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

/// Why a Redis cannot be used, whether it is there or not. Never quotes its address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StoreError {
    #[error(
        "the address begins with redis://, so nobody would be asked for a certificate of caFile: \
         write rediss://"
    )]
    InClear,
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{}: cannot be read: {source}", .path.display())]
    Unreadable {
        field: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    Url(RedisUrlError),
    #[error("{}: {source}", .path.display())]
    UrlInFile {
        path: PathBuf,
        source: RedisUrlError,
    },
}

impl StoreError {
    fn field(&self) -> &'static str {
        match self {
            Self::InClear | Self::Open(OpenError::Roots { .. }) => "queue.source.redis.caFile",
            Self::Open(OpenError::QueueId) => "queue.id",
            Self::Open(OpenError::Schema(_)) => "queue.schema",
            Self::Open(_) => "queue.source.redis",
            Self::Unreadable { field, .. } => field,
            Self::Url(_) => "queue.source.redis.url",
            Self::UrlInFile { .. } => "queue.source.redis.urlFile",
        }
    }

    /// Whether it is what stands in a file that others write and rotate, while the document itself
    /// is right. Ending over that would refuse clients who can be told to come again.
    fn is_of_content(&self) -> bool {
        match self {
            Self::InClear | Self::UrlInFile { .. } | Self::Open(OpenError::Roots { .. }) => true,
            Self::Open(_) | Self::Unreadable { .. } | Self::Url(_) => false,
        }
    }
}

/// A Redis whose files are wrong: each call looks whether they have been put right.
struct Waiting {
    config: RelayConfig,
    redis: configured::Redis,
    opened: OnceLock<Redis>,
}

impl Waiting {
    fn queue(&self) -> Result<&Redis, QueueError> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let opened = open_redis(&self.config, &self.redis)
            .map_err(|error| QueueError::Unreachable(error.to_string()))?;
        Ok(self.opened.get_or_init(|| opened))
    }
}

#[async_trait]
impl Queue for Waiting {
    async fn register(&self, worker: WorkerId) -> Result<(), QueueError> {
        self.queue()?.register(worker).await
    }

    async fn beat(&self, worker: WorkerId) -> Result<Beat, QueueError> {
        self.queue()?.beat(worker).await
    }

    async fn stage(&self, message: MessageId, number: u32, chunk: Bytes) -> Result<(), QueueError> {
        self.queue()?.stage(message, number, chunk).await
    }

    async fn unstage(&self, message: MessageId) -> Result<(), QueueError> {
        self.queue()?.unstage(message).await
    }

    async fn enqueue(&self, call: Call, messages: &[NewMessage]) -> Result<Taken<()>, QueueError> {
        self.queue()?.enqueue(call, messages).await
    }

    async fn abort(
        &self,
        call: Call,
        message: MessageId,
        handles: &[Handle],
    ) -> Result<Aborted, QueueError> {
        self.queue()?.abort(call, message, handles).await
    }

    async fn next(&self, next: &Next) -> Result<Taken<NextReply>, QueueError> {
        self.queue()?.next(next).await
    }

    async fn resolve(&self, call: Call) -> Result<Resolved, QueueError> {
        self.queue()?.resolve(call).await
    }

    async fn begin(&self, worker: WorkerId, handles: &[Handle]) -> Result<Vec<Begun>, QueueError> {
        self.queue()?.begin(worker, handles).await
    }

    async fn check(&self, worker: WorkerId, handle: &Handle) -> Result<bool, QueueError> {
        self.queue()?.check(worker, handle).await
    }

    async fn expiring(&self, max: u16) -> Result<Expiring, QueueError> {
        self.queue()?.expiring(max).await
    }

    async fn read(
        &self,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Result<Record, RecordError>>>, QueueError> {
        self.queue()?.read(messages).await
    }

    async fn read_chunk(
        &self,
        message: MessageId,
        number: u32,
    ) -> Result<Option<Bytes>, QueueError> {
        self.queue()?.read_chunk(message, number).await
    }

    async fn set_limits(&self, limits: &Limits) -> Result<(), QueueError> {
        self.queue()?.set_limits(limits).await
    }

    async fn act(&self, acts: &[Act]) -> Result<Vec<Acted>, QueueError> {
        self.queue()?.act(acts).await
    }

    async fn suspend(&self, suspension: &Suspension) -> Result<(), QueueError> {
        self.queue()?.suspend(suspension).await
    }

    async fn resume(&self, scope: &Scope) -> Result<bool, QueueError> {
        self.queue()?.resume(scope).await
    }

    async fn suspensions(&self) -> Result<Vec<Suspension>, QueueError> {
        self.queue()?.suspensions().await
    }

    async fn hasten(&self, route: &str, max: u16) -> Result<u16, QueueError> {
        self.queue()?.hasten(route, max).await
    }

    async fn journal(
        &self,
        after: Option<JournalId>,
        max: u16,
    ) -> Result<Vec<Journaled>, QueueError> {
        self.queue()?.journal(after, max).await
    }

    async fn counts(&self) -> Result<Counts, QueueError> {
        self.queue()?.counts().await
    }

    async fn durability(&self) -> Result<Durability, QueueError> {
        self.queue()?.durability().await
    }

    fn fill(&self) -> Option<u8> {
        self.opened.get()?.fill()
    }
}

const QUEUE_FILE: &str = "queue.redb";

#[cfg(test)]
mod tests {
    use config::RedisUrl;
    use queue::redis::{Redis, Settings};

    /// Whoever judges an address without a driver judges as the driver does.
    #[test]
    fn what_has_the_form_of_an_address_can_be_opened() {
        for (text, good) in [
            ("redis://localhost", true),
            ("redis://kurier:a%40b@127.0.0.1:7000/3", true),
            ("rediss://:p%2Fw@[::1]:6380/", true),
            ("redis://", false),
            ("redis://:p/w@host", false),
            ("redis://host:70000", false),
            ("redis://host/x", false),
            ("redis://0.0.0.0", false),
            ("rediss://host/#insecure", false),
            ("http://host", false),
        ] {
            assert_eq!(RedisUrl::parse(text).is_ok(), good, "{text}");
            let timing = relay::timing(&config::queue::Timing::default());
            let settings = Settings::new(text.to_owned(), "q".to_owned(), "o".to_owned(), timing);
            assert_eq!(Redis::open(&settings).is_ok(), good, "{text}");
        }
    }
}
