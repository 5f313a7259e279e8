//! What a file adds to the scheduler: what survives a crash, in which order, and what a full disk
//! does.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use redb::{Database, StorageBackend};
use tokio_util::sync::CancellationToken;

use super::file::File;
use super::{EmbeddedQueue, OpenError};
use crate::durability::Durability;
use crate::id::{Call, Handle, MessageId, SlotId, TaskId, WorkerId};
use crate::model::WallClock;
use crate::operation::{
    Aborted, Claim, Next, NextReply, Resolved, Rest, Settlement, Taken, Timing,
};
use crate::queue::{Queue, QueueError};
use crate::record::{Body, Form, Header, NewMessage, Recipient, Resolution, Task};
use crate::worker::{self, EnqueueError, Worker};

const NOW: u64 = 1_700_000_000_000;

/// A disk in memory that knows what of it has been synced.
#[derive(Debug, Default)]
struct Disk {
    octets: Mutex<Vec<u8>>,
    synced: Mutex<Vec<u8>>,
    syncs: AtomicUsize,
    /// What each sync left, from the first [`Disk::hold`] on.
    images: Mutex<Vec<Vec<u8>>>,
    keep_images: AtomicBool,
    full: AtomicBool,
    /// Syncs wait while this is true.
    held: Mutex<bool>,
    released: Condvar,
}

#[derive(Clone, Debug)]
struct Backend(Arc<Disk>);

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, std::io::Error> {
        Ok(self.0.octets.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        let offset = offset as usize;
        out.copy_from_slice(&self.0.octets.lock().unwrap()[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), std::io::Error> {
        self.0.refuse_when_full()?;
        self.0.octets.lock().unwrap().resize(length as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        let mut held = self.0.held.lock().unwrap();
        while *held {
            held = self.0.released.wait(held).unwrap();
        }
        self.0.refuse_when_full()?;
        self.0.syncs.fetch_add(1, Ordering::SeqCst);
        let octets = self.0.octets.lock().unwrap().clone();
        if self.0.keep_images.load(Ordering::SeqCst) {
            self.0.images.lock().unwrap().push(octets.clone());
        }
        *self.0.synced.lock().unwrap() = octets;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.0.refuse_when_full()?;
        let offset = offset as usize;
        self.0.octets.lock().unwrap()[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

impl Disk {
    fn refuse_when_full(&self) -> Result<(), std::io::Error> {
        if self.full.load(Ordering::SeqCst) {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    /// Until the guard is dropped, also by a test that fails.
    fn hold(&self) -> Held<'_> {
        self.keep_images.store(true, Ordering::SeqCst);
        *self.held.lock().unwrap() = true;
        Held(self)
    }

    /// Another disk with what a crash would have left of this one.
    fn after_crash(&self) -> Arc<Self> {
        Self::with(self.synced.lock().unwrap().clone())
    }

    fn with(octets: Vec<u8>) -> Arc<Self> {
        let synced = Mutex::new(octets.clone());
        Arc::new(Self {
            octets: Mutex::new(octets),
            synced,
            ..Self::default()
        })
    }
}

struct Held<'a>(&'a Disk);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.0.held.lock().unwrap() = false;
        self.0.released.notify_all();
    }
}

fn open(disk: &Arc<Disk>) -> EmbeddedQueue {
    let backend = Backend(disk.clone());
    let open = move || {
        Database::builder()
            .create_with_backend(backend.clone())
            .map_err(|error| super::file::store_error(Path::new("disk"), error))
    };
    let file = File::open_by(Path::new("disk"), Box::new(open)).unwrap();
    EmbeddedQueue::start(file, &TIMING, WallClock::new(|| NOW)).unwrap()
}

const TIMING: Timing = Timing {
    lease: Duration::from_secs(30),
    beat: Duration::from_secs(5),
    claim: Duration::from_secs(120),
    begun: Duration::from_secs(1800),
    safety_wake: Duration::from_secs(30),
};

fn message(number: u8, domains: &[&str]) -> NewMessage {
    let content = Bytes::from_static(b"Subject: x\r\n\r\nbody\r\n");
    let task = |domain: &&str| Task {
        queue: format!("t|||mx:{domain}").parse().unwrap(),
        recipients: vec![
            Recipient {
                address: format!("a@{domain}"),
            },
            Recipient {
                address: format!("b@{domain}"),
            },
        ],
    };
    NewMessage {
        id: MessageId::new(NOW, [number; 10]),
        header: Header {
            reverse_path: "sender@example.org".into(),
            tenant: "t".into(),
            received_unix_ms: NOW,
            lifetime_ms: 100_000,
            trace: None,
            accepted_by: String::new(),
            tasks: domains.iter().map(task).collect(),
            body: Body {
                form: Form::DotStuffed,
                stored: content.len() as u64,
                size: content.len() as u64,
                sha256: String::new(),
                eight_bit: false,
            },
        },
        content: vec![content.slice(..5), content.slice(5..)],
    }
}

struct Caller {
    queue: Arc<EmbeddedQueue>,
    worker: WorkerId,
    n: u64,
}

impl Caller {
    async fn register(queue: EmbeddedQueue) -> Self {
        let worker = WorkerId::random();
        queue.register(worker).await.unwrap();
        Self {
            queue: Arc::new(queue),
            worker,
            n: 0,
        }
    }

    fn call(&mut self) -> Call {
        self.n += 1;
        Call {
            worker: self.worker,
            lane: 0,
            n: self.n,
        }
    }

    fn next(&mut self, settlements: Vec<Settlement>, claim: bool) -> Next {
        let claim = claim.then(|| Claim {
            grants: 10,
            tasks_per_grant: 10,
            withheld: vec![],
            by_name: vec![],
        });
        Next {
            call: self.call(),
            settlements,
            releases: vec![],
            claim,
        }
    }

    async fn enqueue(&mut self, messages: &[NewMessage]) -> Result<Taken<()>, QueueError> {
        let call = self.call();
        self.queue.enqueue(call, messages).await
    }

    async fn run(&mut self, settlements: Vec<Settlement>, claim: bool) -> NextReply {
        let next = self.next(settlements, claim);
        match self.queue.next(&next).await.unwrap() {
            Taken::Ran(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    async fn claim(&mut self) -> Vec<Handle> {
        let reply = self.run(vec![], true).await;
        reply
            .grants
            .into_iter()
            .flat_map(|grant| grant.tasks)
            .map(|task| task.handle)
            .collect()
    }
}

fn settlement(handle: &Handle, delivered: &[u16], rest: Rest) -> Settlement {
    Settlement {
        handle: handle.clone(),
        delivered: delivered.to_vec(),
        failed: vec![],
        recipients: 2,
        rest,
        notification: None,
    }
}

fn deferred(seconds: u64) -> Rest {
    Rest::Deferred {
        due_in: Duration::from_secs(seconds),
        notes: Bytes::from_static(b"notes"),
    }
}

#[tokio::test]
async fn what_was_confirmed_survives_a_crash() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    let sent = message(1, &["a.example", "b.example"]);
    assert_eq!(
        caller.enqueue(std::slice::from_ref(&sent)).await.unwrap(),
        Taken::Ran(())
    );

    let after = open(&disk.after_crash());
    assert_eq!(after.counts().await.unwrap().ready, 2);
    let record = after
        .read(&[sent.id])
        .await
        .unwrap()
        .remove(0)
        .unwrap()
        .unwrap();
    assert_eq!(record.header, sent.header);
    assert_eq!(record.content.concat(), sent.content.concat());
    assert_eq!(after.durability().await.unwrap(), Durability::Fsync);
}

#[tokio::test]
async fn claims_go_back_after_a_crash() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    caller.enqueue(&[message(1, &["a.example"])]).await.unwrap();
    let claimed = caller.claim().await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(caller.queue.counts().await.unwrap().in_flight, 1);

    let mut later = Caller::register(open(&disk.after_crash())).await;
    assert_eq!(later.claim().await, claimed);
}

#[tokio::test]
async fn a_deferral_and_its_marks_survive_a_crash() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    caller
        .enqueue(&[message(1, &["a.example", "b.example"])])
        .await
        .unwrap();
    let handles = caller.claim().await;
    let settlements = vec![
        settlement(&handles[0], &[1], deferred(0)),
        settlement(&handles[1], &[], deferred(60)),
    ];
    caller.run(settlements, false).await;

    let mut later = Caller::register(open(&disk.after_crash())).await;
    let counts = later.queue.counts().await.unwrap();
    assert_eq!((counts.ready, counts.deferred), (1, 1));
    let reply = later.run(vec![], true).await;
    let state = &reply.grants[0].tasks[0].state;
    assert_eq!(state.attempts, 1);
    assert_eq!(state.resolved, [(1, Resolution::Delivered)]);
    assert_eq!(state.notes, "notes");
    assert_eq!(
        reply.grants[0].tasks[0].expires_in,
        Duration::from_millis(100_000)
    );
}

#[tokio::test]
async fn an_ended_task_stays_ended_and_the_last_one_takes_everything_along() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    caller
        .enqueue(&[message(1, &["a.example", "b.example"])])
        .await
        .unwrap();
    let handles = caller.claim().await;
    caller
        .run(vec![settlement(&handles[0], &[0, 1], Rest::None)], false)
        .await;
    caller.queue.remains().await.unwrap();

    let disk = disk.after_crash();
    let mut caller = Caller::register(open(&disk)).await;
    assert_eq!(caller.claim().await, handles[1..]);
    caller
        .run(vec![settlement(&handles[1], &[0, 1], Rest::None)], false)
        .await;
    assert_eq!(caller.queue.remains().await.unwrap().rows, 0);
    assert_eq!(
        open(&disk.after_crash()).remains().await.unwrap(),
        crate::model::Remains::default()
    );
}

#[tokio::test]
async fn a_closed_queue_has_written_everything() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    caller.enqueue(&[message(1, &["a.example"])]).await.unwrap();
    let handles = caller.claim().await;
    caller
        .run(vec![settlement(&handles[0], &[0, 1], Rest::None)], false)
        .await;
    drop(caller);
    assert_eq!(open(&disk.after_crash()).counts().await.unwrap().ready, 0);
}

#[tokio::test]
async fn a_notification_takes_the_place_of_its_cause() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    caller.enqueue(&[message(1, &["a.example"])]).await.unwrap();
    let handles = caller.claim().await;
    let failed = Settlement {
        failed: vec![0, 1],
        notification: Some(message(2, &["sender.example"])),
        ..settlement(&handles[0], &[], Rest::None)
    };

    // Neither is to be seen before the sync, and a crash finds the cause.
    let held = disk.hold();
    let next = caller.next(vec![failed], true);
    let queue = caller.queue.clone();
    let reply = tokio::spawn(async move { queue.next(&next).await });
    until(|| caller.queue.committer.is_writing()).await;
    assert_eq!(caller.queue.counts().await.unwrap().ready, 0);
    assert!(!reply.is_finished());
    assert_eq!(
        Caller::register(open(&disk.after_crash()))
            .await
            .claim()
            .await,
        handles
    );

    // After it, the claim of the same call has it.
    drop(held);
    let Taken::Ran(reply) = reply.await.unwrap().unwrap() else {
        panic!("it ran")
    };
    let notification = TaskId::new(message(2, &[]).id, 0);
    assert_eq!(reply.grants[0].tasks[0].handle.task, notification);
    assert_eq!(
        reply.grants[0].slot,
        SlotId {
            lane: 0,
            n: caller.n,
            index: 0
        }
    );
    let mut later = Caller::register(open(&disk.after_crash())).await;
    assert_eq!(later.claim().await[0].task, notification);
}

#[tokio::test]
async fn no_sync_parts_a_notification_from_its_cause() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    caller.enqueue(&[message(1, &["a.example"])]).await.unwrap();
    let handles = caller.claim().await;
    let failed = Settlement {
        failed: vec![0, 1],
        notification: Some(message(2, &["sender.example"])),
        ..settlement(&handles[0], &[], Rest::None)
    };

    // An abort before and one behind it cut what waits into batches.
    let held = disk.hold();
    let call = caller.call();
    let spawn_abort = |caller: &Caller| {
        let queue = caller.queue.clone();
        tokio::spawn(async move { queue.abort(call, message(9, &[]).id, &[]).await })
    };
    let enqueue = tokio::spawn({
        let (queue, call) = (caller.queue.clone(), caller.call());
        async move { queue.enqueue(call, &[message(3, &["b.example"])]).await }
    });
    until(|| caller.queue.committer.is_writing()).await;
    let mut aborts = vec![spawn_abort(&caller), spawn_abort(&caller)];
    until(|| caller.queue.committer.waiting() == 2).await;
    let next = caller.next(vec![failed], false);
    let queue = caller.queue.clone();
    let next = tokio::spawn(async move { queue.next(&next).await });
    until(|| caller.queue.committer.waiting() == 3).await;
    aborts.push(spawn_abort(&caller));
    drop(held);
    enqueue.await.unwrap().unwrap();
    next.await.unwrap().unwrap();
    for abort in aborts {
        assert_eq!(abort.await.unwrap().unwrap(), Aborted::Gone);
    }

    let images = disk.images.lock().unwrap().clone();
    assert!(images.len() >= 2);
    for image in images {
        let after = open(&Disk::with(image));
        let records = after
            .read(&[message(1, &[]).id, message(2, &[]).id])
            .await
            .unwrap();
        assert_eq!(
            records.iter().flatten().count(),
            1,
            "one of the two is there"
        );
    }
}

#[tokio::test]
async fn a_full_disk_does_not_hinder_the_end() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    caller.enqueue(&[message(1, &["a.example"])]).await.unwrap();
    let handles = caller.claim().await;
    disk.full.store(true, Ordering::SeqCst);
    caller
        .run(vec![settlement(&handles[0], &[0, 1], Rest::None)], false)
        .await;
    drop(caller);
    // As after a crash: done again.
    disk.full.store(false, Ordering::SeqCst);
    assert_eq!(open(&disk.after_crash()).counts().await.unwrap().ready, 1);
}

#[tokio::test]
async fn nobody_waits_for_a_thread_that_has_ended() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    caller.enqueue(&[message(1, &["a.example"])]).await.unwrap();
    let handles = caller.claim().await;
    caller.queue.committer.end_thread();
    let error = caller
        .enqueue(&[message(2, &["a.example"])])
        .await
        .unwrap_err();
    assert!(matches!(error, QueueError::Unreachable(_)), "{error:?}");
    let next = caller.next(vec![settlement(&handles[0], &[], deferred(0))], false);
    let error = caller.queue.next(&next).await.unwrap_err();
    assert!(matches!(error, QueueError::Unreachable(_)), "{error:?}");
    let durability = caller.queue.durability().await.unwrap();
    assert!(
        matches!(durability, Durability::Unmet { .. }),
        "{durability:?}"
    );
}

#[tokio::test]
async fn a_call_that_was_given_up_still_happens_as_a_whole() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    caller.enqueue(&[message(1, &["a.example"])]).await.unwrap();
    let handles = caller.claim().await;
    let held = disk.hold();
    let next = caller.next(vec![settlement(&handles[0], &[], deferred(0))], true);
    {
        let mut reply = std::pin::pin!(caller.queue.next(&next));
        until(|| {
            let waker = std::task::Waker::noop();
            assert!(
                reply
                    .as_mut()
                    .poll(&mut std::task::Context::from_waker(waker))
                    .is_pending()
            );
            caller.queue.committer.is_writing()
        })
        .await;
    }
    drop(held);
    let Resolved::Ran(reply) = caller.queue.resolve(next.call).await.unwrap() else {
        panic!("it ran")
    };
    assert_eq!(reply.grants[0].tasks[0].handle, handles[0]);
    assert_eq!(caller.queue.next(&next).await.unwrap(), Taken::Refused);
}

#[tokio::test]
async fn an_abort_finds_the_enqueue_that_is_being_written() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    let held = disk.hold();
    let sent = message(1, &["a.example"]);
    let call = caller.call();
    let enqueue = tokio::spawn({
        let (queue, sent) = (caller.queue.clone(), sent.clone());
        async move { queue.enqueue(call, &[sent]).await }
    });
    until(|| caller.queue.committer.is_writing()).await;
    enqueue.abort();
    let abort = tokio::spawn({
        let (queue, task) = (caller.queue.clone(), TaskId::new(sent.id, 0));
        let handle = Handle::new(task, sent.header.tasks[0].queue.clone());
        async move { queue.abort(call, task.message, &[handle]).await }
    });
    drop(held);
    assert_eq!(abort.await.unwrap().unwrap(), Aborted::Gone);
    assert_eq!(caller.queue.remains().await.unwrap().rows, 0);
    assert!(caller.claim().await.is_empty());
}

#[tokio::test]
async fn whoever_waits_is_committed_together() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    let held = disk.hold();
    let mut enqueues = Vec::new();
    for number in 0..64 {
        let (queue, call) = (
            caller.queue.clone(),
            Call {
                lane: number.into(),
                ..caller.call()
            },
        );
        enqueues.push(tokio::spawn(async move {
            queue
                .enqueue(call, &[message(number, &["a.example"])])
                .await
        }));
        // The first one is a batch of its own.
        until(|| caller.queue.committer.is_writing()).await;
    }
    until(|| caller.queue.committer.waiting() == 63).await;
    assert_eq!(
        caller.queue.counts().await.unwrap().ready,
        0,
        "nobody sees what is not synced"
    );
    let before = disk.syncs.load(Ordering::SeqCst);
    drop(held);
    for enqueue in enqueues {
        assert_eq!(enqueue.await.unwrap().unwrap(), Taken::Ran(()));
    }
    assert!(disk.syncs.load(Ordering::SeqCst) - before <= 2);
    assert_eq!(open(&disk.after_crash()).counts().await.unwrap().ready, 64);
}

#[tokio::test]
async fn a_full_disk_refuses_mail_and_forgets_nothing() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    caller
        .enqueue(&[message(1, &["a.example"]), message(2, &["a.example"])])
        .await
        .unwrap();
    let handles = caller.claim().await;

    disk.full.store(true, Ordering::SeqCst);
    let refused = caller.enqueue(&[message(3, &["a.example"])]).await;
    assert!(matches!(refused, Err(QueueError::Full(_))), "{refused:?}");
    let durability = caller.queue.durability().await.unwrap();
    assert!(
        matches!(
            durability,
            Durability::Unmet {
                reason: "WriteFailed",
                ..
            }
        ),
        "{durability:?}"
    );
    // What needs no room in the file goes on.
    caller
        .run(vec![settlement(&handles[0], &[0, 1], Rest::None)], false)
        .await;

    disk.full.store(false, Ordering::SeqCst);
    caller
        .run(vec![settlement(&handles[1], &[0], deferred(0))], false)
        .await;
    assert_eq!(
        caller.enqueue(&[message(4, &["a.example"])]).await.unwrap(),
        Taken::Ran(())
    );
    assert_eq!(caller.queue.durability().await.unwrap(), Durability::Fsync);

    let mut later = Caller::register(open(&disk.after_crash())).await;
    let reply = later.run(vec![], true).await;
    let tasks: Vec<_> = reply.grants.iter().flat_map(|grant| &grant.tasks).collect();
    let numbers: Vec<u8> = tasks
        .iter()
        .map(|task| task.handle.task.message.octets()[15])
        .collect();
    assert_eq!(numbers, [2, 4], "1 was delivered, 3 was refused");
    assert_eq!(tasks[0].state.attempts, 1);
}

/// The next message is taken, whichever committer takes it.
#[tokio::test]
async fn a_worker_takes_mail_again_once_there_is_room() {
    let disk = Arc::new(Disk::default());
    let settings = worker::Settings {
        committers: 1,
        ..worker::Settings::new(TIMING)
    };
    let worker = Worker::start(Arc::new(open(&disk)), settings, CancellationToken::new());
    worker.enqueue(message(1, &["a.example"])).await.unwrap();
    disk.full.store(true, Ordering::SeqCst);
    for number in [2, 3] {
        let refused = worker.enqueue(message(number, &["a.example"])).await;
        assert!(
            matches!(refused, Err(EnqueueError::Full(_))),
            "message {number}: {refused:?}"
        );
    }
    disk.full.store(false, Ordering::SeqCst);
    worker.enqueue(message(4, &["a.example"])).await.unwrap();
    assert_eq!(worker.counts().await.unwrap().ready, 2);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_left_alone() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    caller
        .enqueue(&[message(1, &["a.example"]), message(2, &["a.example"])])
        .await
        .unwrap();
    let unreadable = message(1, &[]).id;
    caller.queue.committer.reader().spoil(unreadable);

    let mut later = Caller::register(open(&disk.after_crash())).await;
    let handles = later.claim().await;
    assert_eq!(
        handles
            .iter()
            .map(|handle| handle.task.message)
            .collect::<Vec<_>>(),
        [message(2, &[]).id]
    );
    assert!(
        later
            .queue
            .read(&[unreadable])
            .await
            .unwrap()
            .remove(0)
            .unwrap()
            .is_err()
    );
    later
        .run(vec![settlement(&handles[0], &[0, 1], Rest::None)], false)
        .await;
    assert_eq!(later.queue.remains().await.unwrap().rows, 1);
}

#[test]
fn one_process_has_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.redb");
    let first = EmbeddedQueue::open(&path, &TIMING).unwrap();
    let error = EmbeddedQueue::open(&path, &TIMING).unwrap_err();
    assert!(matches!(error, OpenError::InUse(_)), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("queue.redb is in use by another process")
    );
    drop(first);
    EmbeddedQueue::open(&path, &TIMING).unwrap();
}

#[test]
fn what_is_not_a_queue_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.redb");
    std::fs::write(&path, vec![b'x'; 10_000]).unwrap();
    let error = EmbeddedQueue::open(&path, &TIMING).unwrap_err();
    assert!(matches!(error, OpenError::Store { .. }), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 10_000]);
}

#[test]
fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.redb");
    {
        let database = Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction
            .open_table(super::file::META)
            .unwrap()
            .insert("schema", 2)
            .unwrap();
        transaction.commit().unwrap();
    }
    let error = EmbeddedQueue::open(&path, &TIMING).unwrap_err();
    assert!(
        matches!(error, OpenError::Schema { found: 2, .. }),
        "{error:?}"
    );
}

async fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..20_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    panic!("it does not come to pass");
}
