//! The file itself: tables, one transaction for each batch, opening it again after a failure.

use std::fmt;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::OpenError;
use super::job::{Entry, Incoming};
use super::row;
use crate::id::{JournalId, MessageId};
use crate::model::{Change, Restored, Scheduler};
use crate::operation::Journaled;
use crate::queue::RecordError;
use crate::record::{Header, Prefix, Record};
use crate::schema::{READS, Schema};

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const MESSAGES: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("messages");
const TASKS: TableDefinition<'_, (u128, u16), &[u8]> = TableDefinition::new("tasks");
/// Bodies of large messages.
const CHUNKS: TableDefinition<'_, (u128, u32), &[u8]> = TableDefinition::new("chunks");
/// Those of them whose message has not been enqueued.
const STAGED: TableDefinition<'_, u128, ()> = TableDefinition::new("staged");
const JOURNAL: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("journal");

/// Scope -> until (ms; 0 for ever), then the reason.
const SUSPENSIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("suspensions");

/// Pages kept in memory. What is enqueued is mostly delivered from the worker's own cache.
const CACHE: usize = 16 * 1024 * 1024;

pub(super) struct File {
    path: PathBuf,
    open: Box<Opener>,
    /// Absent after a failure, until it could be opened again.
    database: RwLock<Option<Database>>,
    /// Entries of the journal.
    journal_keeps: AtomicU32,
}

pub(super) type Opener = dyn Fn() -> Result<Database, OpenError> + Send + Sync;

impl File {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let owned = path.to_owned();
        Self::open_by(
            path,
            Box::new(move || {
                let database = redb::Builder::new().set_cache_size(CACHE).create(&owned);
                let database = database.map_err(|error| classify(&owned, error))?;
                sync_folder_of(&owned).map_err(|error| store_error(&owned, error))?;
                Ok(database)
            }),
        )
    }

    pub(super) fn open_by(path: &Path, open: Box<Opener>) -> Result<Self, OpenError> {
        let database = open()?;
        prepare(&database).map_err(|error| match error {
            Prepare::Schema(found) => OpenError::Schema {
                path: path.to_owned(),
                found,
            },
            Prepare::Store(source) => OpenError::Store {
                path: path.to_owned(),
                source,
            },
        })?;
        Ok(Self {
            path: path.to_owned(),
            open,
            database: RwLock::new(Some(database)),
            journal_keeps: AtomicU32::new(0),
        })
    }

    /// Tells the scheduler what is there. A record that cannot be read stays where it is: a newer
    /// program may know it.
    pub(super) fn restore(&self, scheduler: &mut Scheduler, now: u64) -> Result<(), OpenError> {
        let (restored, unreadable) = self
            .with(|database| restore(database, scheduler, now))
            .map_err(|source| OpenError::Store {
                path: self.path.clone(),
                source,
            })?;
        if unreadable > 0 {
            tracing::error!(
                unreadable,
                "records in the queue file cannot be read and are left there"
            );
        }
        tracing::info!(restored, "messages found in the queue file");
        Ok(())
    }

    /// All of it or nothing, synced. After an error it is the caller's to try again.
    pub(super) fn write<'a>(
        &self,
        now: u64,
        log: &[Entry],
        messages: impl Iterator<Item = &'a Incoming>,
    ) -> Result<(), Box<redb::Error>> {
        let keeps = self.journal_keeps.load(Ordering::Relaxed);
        self.with(|database| write(database, now, log, messages, keeps))
    }

    pub(super) fn keep_journal(&self, entries: u32) {
        self.journal_keeps.store(entries, Ordering::Relaxed);
    }

    /// Up to `max` entries behind `after`.
    pub(super) fn read_journal(
        &self,
        after: Option<JournalId>,
        max: usize,
    ) -> Result<Vec<Journaled>, Box<redb::Error>> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(JOURNAL)?;
            let after = after.map_or(Bound::Unbounded, |id| Bound::Excluded((id.ms, id.n)));
            let mut entries = Vec::new();
            for row in table.range((after, Bound::Unbounded))?.take(max) {
                let (id, row) = row?;
                let (ms, n) = id.value();
                entries.push(Journaled {
                    id: JournalId { ms, n },
                    outcomes: row::read_journaled(row.value()),
                });
            }
            Ok(entries)
        })
    }

    pub(super) fn headers(
        &self,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Result<Header, RecordError>>>, Box<redb::Error>> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(MESSAGES)?;
            let mut headers = Vec::with_capacity(messages.len());
            for message in messages {
                let row = table.get(key(*message))?;
                headers.push(row.map(|row| {
                    let octets = row.value().get(row::EXPIRY..).unwrap_or_default();
                    Header::decode_whole(octets)
                }));
            }
            Ok(headers)
        })
    }

    pub(super) fn read(
        &self,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Result<Record, RecordError>>>, Box<redb::Error>> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(MESSAGES)?;
            let mut records = Vec::with_capacity(messages.len());
            for message in messages {
                let row = table.get(key(*message))?;
                records.push(row.map(|row| {
                    let octets = row.value().get(row::EXPIRY..).unwrap_or_default();
                    Record::decode(Bytes::copy_from_slice(octets))
                }));
            }
            Ok(records)
        })
    }

    /// Without a sync: the next batch that is written makes it last. `is_wanted` and `note` are called
    /// before and after it, while nothing else is written. False when it is not wanted any more.
    pub(super) fn write_chunk(
        &self,
        message: MessageId,
        number: u32,
        chunk: &[u8],
        is_wanted: impl FnOnce() -> bool,
        note: impl FnOnce() -> bool,
    ) -> Result<bool, Box<redb::Error>> {
        self.with(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(redb::Durability::None)?;
            if !is_wanted() {
                transaction.abort()?;
                return Ok(false);
            }
            transaction.open_table(STAGED)?.insert(key(message), ())?;
            transaction
                .open_table(CHUNKS)?
                .insert((key(message), number), chunk)?;
            transaction.commit()?;
            Ok(note())
        })
    }

    pub(super) fn read_chunk(
        &self,
        message: MessageId,
        number: u32,
    ) -> Result<Option<Bytes>, Box<redb::Error>> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(CHUNKS)?;
            let row = table.get((key(message), number))?;
            Ok(row.map(|row| Bytes::copy_from_slice(row.value())))
        })
    }

    /// Messages that have chunks.
    pub(super) fn bodies(&self) -> Result<Vec<MessageId>, Box<redb::Error>> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(CHUNKS)?;
            let mut bodies = Vec::new();
            let mut from = 0;
            while let Some(row) = table.range((from, 0)..)?.next() {
                let (message, _) = row?.0.value();
                bodies.push(MessageId::from_octets(message.to_be_bytes()));
                from = message + 1;
            }
            Ok(bodies)
        })
    }

    /// Rows of all messages and tasks.
    pub(super) fn rows(&self) -> Result<usize, Box<redb::Error>> {
        self.with(|database| {
            let transaction = database.begin_read()?;
            let messages = transaction.open_table(MESSAGES)?.len()?;
            Ok((messages + transaction.open_table(TASKS)?.len()?) as usize)
        })
    }

    #[cfg(test)]
    pub(super) fn spoil(&self, message: MessageId) {
        self.with(|database| {
            let transaction = database.begin_write()?;
            transaction
                .open_table(MESSAGES)?
                .insert(key(message), &b"spoilt"[..])?;
            Ok(transaction.commit()?)
        })
        .unwrap();
    }

    /// After a failed write the database refuses everything until it is opened again, which also
    /// says for certain what has been written.
    pub(super) fn reopen(&self) -> Result<(), OpenError> {
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *database = None;
        *database = Some((self.open)()?);
        Ok(())
    }

    fn with<T>(
        &self,
        run: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, Box<redb::Error>> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        match &*database {
            Some(database) => run(database).map_err(Box::new),
            None => Err(Box::new(redb::Error::DatabaseClosed)),
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").finish_non_exhaustive()
    }
}

enum Prepare {
    Schema(u64),
    Store(Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for Prepare {
    fn from(error: E) -> Self {
        Self::Store(Box::new(error.into()))
    }
}

fn prepare(database: &Database) -> Result<(), Prepare> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        let found = meta.get("schema")?.map(|schema| schema.value());
        match found {
            None => _ = meta.insert("schema", u64::from(READS.newest))?,
            Some(found) if Schema::try_from(found).is_ok_and(|schema| READS.contains(schema)) => {}
            Some(found) => return Err(Prepare::Schema(found)),
        }
        transaction.open_table(MESSAGES)?;
        transaction.open_table(TASKS)?;
        let mut chunks = transaction.open_table(CHUNKS)?;
        // Nobody is left who could enqueue their messages.
        let mut staged = transaction.open_table(STAGED)?;
        while let Some(message) = staged.pop_first()?.map(|(key, _)| key.value()) {
            drop_chunks(&mut chunks, message)?;
        }
        transaction.open_table(JOURNAL)?;
        transaction.open_table(SUSPENSIONS)?;
    }
    transaction.commit()?;
    Ok(())
}

fn restore(
    database: &Database,
    scheduler: &mut Scheduler,
    now: u64,
) -> Result<(u64, u64), redb::Error> {
    let transaction = database.begin_read()?;
    let messages = transaction.open_table(MESSAGES)?;
    let states = transaction.open_table(TASKS)?;
    if let Some((id, _)) = transaction.open_table(JOURNAL)?.last()? {
        let (ms, n) = id.value();
        scheduler.restore_journal(JournalId { ms, n });
    }
    let (mut restored, mut unreadable) = (0, 0);
    for entry in messages.iter()? {
        let (id, row) = entry?;
        let Some((expires, header)) = read_header(row.value()) else {
            unreadable += 1;
            continue;
        };
        // A task that has no row waits since it was accepted.
        let accepted = header.received_unix_ms.min(now);
        let mut tasks = Vec::new();
        for (ordinal, task) in (0..).zip(header.tasks) {
            let (due, state) = match states.get((id.value(), ordinal))? {
                None => (accepted, None),
                Some(row) if row.value().is_empty() => continue,
                Some(row) => match row::read_state(row.value()) {
                    Some((due, state)) => (due, Some(state)),
                    None => (accepted, None),
                },
            };
            tasks.push(Restored {
                ordinal,
                queue: task.queue,
                due,
                state,
            });
        }
        scheduler.restore(
            MessageId::from_octets(id.value().to_be_bytes()),
            expires,
            tasks,
        );
        restored += 1;
    }
    for entry in transaction.open_table(SUSPENSIONS)?.iter()? {
        let (scope, row) = entry?;
        let scope = scope.value().parse();
        match (scope, row::read_suspension(row.value())) {
            (Ok(scope), Some((until, reason))) => {
                scheduler.restore_suspension(scope, until, reason);
            }
            _ => unreadable += 1,
        }
    }
    Ok((restored, unreadable))
}

fn read_header(row: &[u8]) -> Option<(u64, Header)> {
    let (expires, record) = row.split_first_chunk::<{ row::EXPIRY }>()?;
    match Header::decode_prefix(record) {
        Ok(Prefix::Header(header)) => Some((u64::from_be_bytes(*expires), *header)),
        _ => None,
    }
}

fn write<'a>(
    database: &Database,
    now: u64,
    log: &[Entry],
    messages: impl Iterator<Item = &'a Incoming>,
    journal_keeps: u32,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut records = transaction.open_table(MESSAGES)?;
        let mut states = transaction.open_table(TASKS)?;
        let mut chunks = transaction.open_table(CHUNKS)?;
        // Mostly so, and then each removal is spared a look.
        let no_chunks = chunks.is_empty()?;
        for entry in log {
            match entry {
                Entry::Change(Change::State { task, due, state }) => {
                    let row = row::write_state(*due, state);
                    states.insert((key(task.message), task.ordinal), row.as_slice())?;
                }
                Entry::Change(Change::Ended(task)) => {
                    states.insert((key(task.message), task.ordinal), &[][..])?;
                }
                Entry::Change(Change::Removed(message)) => {
                    let id = key(*message);
                    records.remove(id)?;
                    states.retain_in((id, 0)..=(id, u16::MAX), |_, _| false)?;
                    if !no_chunks {
                        drop_chunks(&mut chunks, id)?;
                    }
                }
                Entry::Change(Change::Unstaged(message)) => {
                    let id = key(*message);
                    transaction.open_table(STAGED)?.remove(id)?;
                    drop_chunks(&mut chunks, id)?;
                }
                Entry::Change(Change::Journaled(entry)) => {
                    if journal_keeps > 0 {
                        let mut journal = transaction.open_table(JOURNAL)?;
                        let row = row::write_journaled(&entry.outcomes);
                        journal.insert((entry.id.ms, entry.id.n), row.as_slice())?;
                        while journal.len()? > u64::from(journal_keeps) {
                            journal.pop_first()?;
                        }
                    }
                }
                Entry::Change(Change::Suspended {
                    scope,
                    until,
                    reason,
                }) => {
                    let row = row::write_suspension(*until, reason);
                    let mut suspensions = transaction.open_table(SUSPENSIONS)?;
                    suspensions.insert(scope.to_string().as_str(), row.as_slice())?;
                }
                Entry::Change(Change::Resumed(scope)) => {
                    let mut suspensions = transaction.open_table(SUSPENSIONS)?;
                    suspensions.remove(scope.to_string().as_str())?;
                }
                Entry::Record(message) => insert(&mut records, now, message)?,
            }
        }
        for message in messages {
            insert(&mut records, now, message)?;
            if message.has_chunks() {
                transaction.open_table(STAGED)?.remove(key(message.id))?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

fn insert(
    records: &mut redb::Table<'_, u128, &[u8]>,
    now: u64,
    message: &Incoming,
) -> Result<(), redb::Error> {
    let expires = now.saturating_add(message.lifetime_ms).to_be_bytes();
    let length = expires.len() + message.prefix.len() + message.content_length();
    let mut row = records.insert_reserve(key(message.id), length)?;
    let mut rest = row.as_mut();
    let content = message.content.iter().map(|slice| &**slice);
    for part in [&expires[..], &message.prefix].into_iter().chain(content) {
        let (place, after) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = after;
    }
    Ok(())
}

fn drop_chunks(
    chunks: &mut redb::Table<'_, (u128, u32), &[u8]>,
    message: u128,
) -> Result<(), redb::StorageError> {
    chunks.retain_in((message, 0)..=(message, u32::MAX), |_, _| false)
}

fn key(message: MessageId) -> u128 {
    u128::from_be_bytes(message.octets())
}

fn classify(path: &Path, error: redb::DatabaseError) -> OpenError {
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(path.to_owned()),
        error => store_error(path, error),
    }
}

pub(super) fn store_error(path: &Path, error: impl Into<redb::Error>) -> OpenError {
    OpenError::Store {
        path: path.to_owned(),
        source: Box::new(error.into()),
    }
}

/// A new file is there after a crash only if its folder has been synced.
fn sync_folder_of(path: &Path) -> Result<(), redb::Error> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    std::fs::File::open(folder.unwrap_or_else(|| Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .map_err(redb::Error::Io)
}
