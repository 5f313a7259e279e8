//! What a file adds to the scheduler: what survives a crash, in which order, and what a full disk
//! does.

mod bodies;
mod caller;
mod disk;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use caller::{Caller, TIMING, deferred, message, open, settlement, until};
use disk::Disk;
use redb::Database;
use tokio_util::sync::CancellationToken;

use super::{EmbeddedQueue, OpenError};
use crate::durability::{Durability, Level};
use crate::id::{Call, Handle, SlotId, TaskId};
use crate::operation::{Aborted, Act, Acted, Action, Notice, Resolved, Rest, Settlement, Taken};
use crate::queue::{Queue, QueueError};
use crate::record::Resolution;
use crate::worker::{self, EnqueueError, Worker};

const NOW: u64 = 1_700_000_000_000;

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
    assert_eq!(
        after.durability().await.unwrap(),
        Durability::Verified(Level::Fsync)
    );
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
async fn what_is_held_is_held_after_a_crash() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    let domains = ["a.example", "b.example", "c.example", "d.example"];
    caller.enqueue(&[message(1, &domains)]).await.unwrap();
    let handles = caller.claim().await;
    let reason = "unreadable \u{e9}".to_owned();
    let held = Rest::Held {
        reason: reason.clone(),
    };
    let settlements = vec![
        settlement(&handles[0], &[1], held),
        settlement(&handles[1], &[], deferred(0)),
    ];
    caller.run(settlements, false).await;
    // One that is still claimed and is to be dropped, and one that is to be held.
    let act = |handle: &Handle, action| Act {
        handle: handle.clone(),
        action,
    };
    let acts = [
        act(&handles[2], Action::Drop { notice: None }),
        act(&handles[3], Action::Hold { reason }),
    ];
    let acted = caller.queue.act(&acts).await.unwrap();
    assert_eq!(acted, [Acted::Pending, Acted::Pending]);

    let mut later = Caller::register(open(&disk.after_crash())).await;
    let counts = later.queue.counts().await.unwrap();
    assert_eq!((counts.ready, counts.held), (1, 2));
    assert_eq!(later.claim().await, [handles[1].clone()]);
    let release = [act(&handles[0], Action::Release)];
    assert_eq!(later.queue.act(&release).await.unwrap(), [Acted::Done]);

    let mut last = Caller::register(open(&disk.after_crash())).await;
    let counts = last.queue.counts().await.unwrap();
    assert_eq!(
        (counts.ready, counts.held),
        (1, 2),
        "that disk is the first one's"
    );
    let acts = [&handles[0], &handles[3]].map(|handle| act(handle, Action::Drop { notice: None }));
    last.queue.act(&acts).await.unwrap();
    let left = last.claim().await;
    last.run(vec![settlement(&left[0], &[0, 1], Rest::None)], false)
        .await;
    assert_eq!(last.queue.remains().await.unwrap().rows, 0);
}

#[tokio::test]
async fn a_drop_and_its_notice_survive_a_crash_together() {
    let disk = Arc::new(Disk::default());
    let mut caller = Caller::register(open(&disk)).await;
    let sent = message(1, &["a.example"]);
    caller.enqueue(std::slice::from_ref(&sent)).await.unwrap();
    let notice = message(2, &["sender.example"]);
    let act = Act {
        handle: Handle::new(TaskId::new(sent.id, 0), sent.header.tasks[0].queue.clone()),
        action: Action::Drop {
            notice: Some(Notice {
                message: notice.clone(),
                resolved: 0,
            }),
        },
    };
    assert_eq!(caller.queue.act(&[act]).await.unwrap(), [Acted::Done]);
    let mut later = Caller::register(open(&disk.after_crash())).await;
    let claimed = later.claim().await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].task.message, notice.id);
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

/// Holds the only task, whose failure is settled with a notification.
async fn about_to_fail(disk: &Arc<Disk>) -> (Caller, Vec<Handle>, Settlement) {
    let mut caller = Caller::register(open(disk)).await;
    caller.enqueue(&[message(1, &["a.example"])]).await.unwrap();
    let handles = caller.claim().await;
    let failed = Settlement {
        failed: vec![0, 1],
        notification: Some(message(2, &["sender.example"])),
        ..settlement(&handles[0], &[], Rest::None)
    };
    (caller, handles, failed)
}

#[tokio::test]
async fn a_notification_takes_the_place_of_its_cause() {
    let disk = Arc::new(Disk::default());
    let (mut caller, handles, failed) = about_to_fail(&disk).await;

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
    let (mut caller, _, failed) = about_to_fail(&disk).await;

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
    assert_eq!(
        caller.queue.durability().await.unwrap(),
        Durability::Verified(Level::Fsync)
    );

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
