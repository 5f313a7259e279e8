//! The queue that a configuration names.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use config::queue::{self as configured, Durability, Replicas, Source};
use config::{RelayConfig, Violation};
use queue::Queue;
use queue::durability::Level;
use queue::embedded::EmbeddedQueue;
use queue::redis::{Locator, OpenError, Redis, Settings};
use queue::schema::READS;

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
    let settings = settings(config, redis);
    if let Err(error) = settings.check() {
        tracing::error!(%error, "the queue cannot be used until this is put right");
    }
    Ok(Arc::new(Redis::open(&settings)?))
}

/// What keeps the queue of `config` from being opened, without opening it. Of content that
/// [`open`] waits for only where `of_content` says so.
pub(crate) fn check(config: &RelayConfig, of_content: bool) -> Option<Violation> {
    let error = match &config.queue.source {
        Source::Embedded(_) => READS.admit(config.queue.schema?).err()?.into(),
        Source::Redis(redis) => match unreadable(redis) {
            Some(unreadable) => return Some(unreadable),
            None => settings(config, redis).check().err()?,
        },
    };
    (of_content || !is_of_content(&error)).then(|| Violation {
        field: field_of(&error).to_owned(),
        message: error.to_string(),
    })
}

fn settings(config: &RelayConfig, redis: &configured::Redis) -> Settings {
    let locator = match (&redis.url, &redis.url_file) {
        (Some(url), _) => Locator::Url(url.expose().to_owned()),
        (None, Some(file)) => Locator::UrlFile(file.clone()),
        (None, None) => Locator::Url(String::new()),
    };
    let (id, owner) = (config.queue.id.clone(), config.queue.owner.clone());
    let timing = relay::timing(&config.timing);
    let mut settings = Settings::new(locator, id, owner, timing);
    settings.ca_file.clone_from(&redis.ca_file);
    settings.level = level(config.queue.durability);
    settings.schema = config.queue.schema;
    settings.journal_keeps = config.queue.journal.entries;
    settings
}

fn level(declared: Durability) -> Level {
    match declared {
        Durability::Memory => Level::Memory,
        Durability::Fsync => Level::Fsync,
        Durability::Replicated(Replicas { acks }) => Level::Replicated { acks },
        Durability::FsyncReplicated(Replicas { acks }) => Level::FsyncReplicated { acks },
    }
}

/// A file that is missing is a wrong name in the document.
fn unreadable(redis: &configured::Redis) -> Option<Violation> {
    let files = [
        ("queue.source.redis.urlFile", &redis.url_file),
        ("queue.source.redis.caFile", &redis.ca_file),
    ];
    files.into_iter().find_map(|(field, path)| {
        let path = path.as_ref()?;
        let error = File::open(path).err()?;
        Some(Violation {
            field: field.to_owned(),
            message: format!("{}: cannot be read: {error}", path.display()),
        })
    })
}

fn field_of(error: &OpenError) -> &'static str {
    match error {
        OpenError::InClear | OpenError::Roots { .. } => "queue.source.redis.caFile",
        OpenError::AddressFile { .. } | OpenError::AddressInFile { .. } => {
            "queue.source.redis.urlFile"
        }
        OpenError::Address(_) => "queue.source.redis.url",
        OpenError::QueueId => "queue.id",
        OpenError::Schema(_) => "queue.schema",
        _ => "queue.source.redis",
    }
}

/// Whether it is what stands in a file that others write and rotate, while the document itself is
/// right. Ending over that would refuse clients who can be told to come again.
fn is_of_content(error: &OpenError) -> bool {
    matches!(
        error,
        OpenError::InClear | OpenError::AddressInFile { .. } | OpenError::Roots { .. }
    )
}

const QUEUE_FILE: &str = "queue.redb";

#[cfg(test)]
mod tests {
    use config::RedisUrl;
    use queue::redis::{Locator, Redis, Settings};

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
            (
                "redis+sentinel://kurier:a%40b@s1,s2:7000,[::1]/outbound/2",
                true,
            ),
            (
                "rediss+sentinel://s1/main?sentinelUsername=u&sentinelPassword=a%2Fb",
                true,
            ),
            ("redis+sentinel://s1", false),
            ("redis+sentinel://s1,/main", false),
            ("redis+sentinel://s1/main/x", false),
            ("redis+sentinel://s1/main?sentinelPassword=a/b", false),
            ("redis+sentinel://s1/main?timeout=1", false),
            ("redis+cluster://:x@n1,n2:7000", true),
            ("rediss+cluster://n1/", true),
            ("redis+cluster://n1/1", false),
            ("redis+cluster://", false),
            ("redis+proxy://n1", false),
        ] {
            assert_eq!(RedisUrl::parse(text).is_ok(), good, "{text}");
            let timing = relay::timing(&config::queue::Timing::default());
            let locator = Locator::Url(text.to_owned());
            let settings = Settings::new(locator, "q".to_owned(), "o".to_owned(), timing);
            assert_eq!(Redis::open(&settings).is_ok(), good, "{text}");
        }
    }
}
