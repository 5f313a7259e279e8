//! The life of messages on a real server, and what is left of them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use queue::operation::{Begun, Limits, Next, Rest, Settlement, Taken, Then};
use queue::record::Resolution;
use queue::{Queue, QueueError};

use crate::redis_fixture::{
    COMMIT, Caller, PREFIX, advance, claim, config_set, delivered, handles_of, keys, message,
    message_of, open, settings, slots, tasks,
};
use crate::redis_server::RedisServer;

#[tokio::test]
async fn a_message_is_enqueued_claimed_read_and_settled_and_leaves_nothing() {
    let server = RedisServer::start();
    let queue = open(server.url());
    let mut worker = Caller::register(&queue).await;
    let sent = message_of(
        "a",
        &["example.net", "example.com"],
        &[b"..stuffed\r\n", b"", b"\xff\0"],
    );
    worker.enqueue(std::slice::from_ref(&sent)).await;

    let reply = worker.claim().await;
    let claimed = tasks(&reply);
    assert_eq!(claimed.len(), 2);
    assert_eq!(reply.then, Then::Empty);
    let handles: Vec<_> = claimed.iter().map(|task| task.handle.clone()).collect();
    assert_eq!(
        queue.begin(worker.worker, &handles).await.unwrap(),
        [Begun::Begun; 2]
    );
    assert!(queue.check(worker.worker, &handles[0]).await.unwrap());

    let record = queue
        .read(&[sent.id])
        .await
        .unwrap()
        .pop()
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(record.header, sent.header);
    let octets = |slices: &[Bytes]| slices.concat();
    assert_eq!(octets(&record.content), octets(&sent.content));

    let next = Next {
        settlements: handles.iter().map(delivered).collect(),
        releases: slots(&reply),
        ..worker.next()
    };
    assert!(worker.run(&next).await.stale.is_empty());
    assert_eq!(worker.claim().await.then, Then::Empty);
    assert!(queue.read(&[sent.id]).await.unwrap()[0].is_none());

    // The worker goes for good; another one clears up behind it.
    let survivor = Caller::register(&queue).await;
    for _ in 0..20 {
        advance(&server, Duration::from_secs(5));
        survivor.beat().await;
    }
    let left = keys(&server);
    let allowed = ["meta", "st", "wk", "wks", "ws"];
    assert!(
        left.iter().all(|key| allowed.contains(&key.as_str())),
        "{left:?}"
    );
    assert_eq!(
        queue.counts().await.unwrap(),
        queue::operation::Counts::default()
    );
}

#[tokio::test]
async fn state_of_a_task_comes_back_with_the_next_claim() {
    let server = RedisServer::start();
    let queue = open(server.url());
    let mut worker = Caller::register(&queue).await;
    let sent = message(&["example.net"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let reply = worker.claim().await;
    let settlement = Settlement {
        delivered: vec![2],
        failed: vec![0],
        recipients: 4,
        rest: Rest::Deferred {
            due_in: Duration::from_secs(60),
            notes: Bytes::from_static(b"\0 450 4.2.1 \xff"),
        },
        ..delivered(&handles_of(&sent)[0])
    };
    let next = Next {
        settlements: vec![settlement],
        releases: slots(&reply),
        ..worker.next()
    };
    worker.run(&next).await;

    let Then::Sleep(sleep) = worker.claim().await.then else {
        panic!("nothing to wait for")
    };
    assert!(
        sleep > Duration::from_secs(50) && sleep <= Duration::from_secs(60),
        "{sleep:?}"
    );
    let counts = queue.counts().await.unwrap();
    assert_eq!((counts.ready, counts.deferred, counts.in_flight), (0, 1, 0));

    advance(&server, Duration::from_secs(60));
    worker.beat().await;
    let claimed = tasks(&worker.claim().await).pop().expect("it is due");
    assert_eq!(claimed.state.attempts, 1);
    assert!(!claimed.state.reclaimed_begun);
    let resolved = [(0, Resolution::Failed), (2, Resolution::Delivered)];
    assert_eq!(claimed.state.resolved, resolved);
    assert_eq!(&claimed.state.notes[..], b"\0 450 4.2.1 \xff");
}

#[tokio::test]
async fn a_body_of_a_mebibyte_comes_back_whole() {
    let server = RedisServer::start();
    let queue = open(server.url());
    let mut worker = Caller::register(&queue).await;
    let mut sent = message(&["example.net"]);
    let body: BytesMut = (0..1 << 20).map(|index| (index * 7 % 251) as u8).collect();
    let body = body.freeze();
    sent.header.body.stored = body.len() as u64;
    sent.content = body
        .chunks(8192)
        .map(|chunk| body.slice_ref(chunk))
        .collect();
    let batch: Vec<_> = (0..4)
        .map(|_| queue::record::NewMessage {
            id: message(&[]).id,
            ..sent.clone()
        })
        .collect();
    worker.enqueue(&batch).await;
    let ids: Vec<_> = batch.iter().map(|message| message.id).collect();
    for record in queue.read(&ids).await.unwrap() {
        assert!(record.unwrap().unwrap().content.concat() == body);
    }
}

/// The design's fault 10.
#[tokio::test]
async fn fault_10_a_resubmitted_enqueue_doubles_nothing_and_loses_nothing() {
    let server = RedisServer::start();
    let queue = open(server.url());
    let mut worker = Caller::register(&queue).await;
    let sent = [message(&["example.net"]), message(&["example.net"])];
    let call = worker.call(COMMIT);
    assert_eq!(queue.enqueue(call, &sent).await.unwrap(), Taken::Ran(()));

    // While one is claimed and the other waits.
    let next = Next {
        claim: Some(claim(1, 1)),
        ..worker.next()
    };
    let reply = worker.run(&next).await;
    assert_eq!(tasks(&reply).len(), 1);
    assert_eq!(queue.enqueue(call, &sent).await.unwrap(), Taken::Refused);
    let counts = queue.counts().await.unwrap();
    assert_eq!((counts.ready, counts.in_flight), (1, 1));
    for record in queue.read(&[sent[0].id, sent[1].id]).await.unwrap() {
        assert!(
            record.is_some(),
            "the refused one took an accepted record with it"
        );
    }

    // And after both were delivered.
    let more = worker.claim().await;
    let handles = [tasks(&reply), tasks(&more)].concat();
    worker
        .settle(handles.iter().map(|task| delivered(&task.handle)).collect())
        .await;
    assert_eq!(queue.enqueue(call, &sent).await.unwrap(), Taken::Refused);
    assert_eq!(queue.counts().await.unwrap().ready, 0);
    assert!(queue.read(&[sent[0].id]).await.unwrap()[0].is_none());
    assert!(!keys(&server).iter().any(|key| key.starts_with("m:")));
}

/// The design's fault 11: nobody was reached for 26.5 of 30 s, and one comes back before the other.
#[tokio::test]
async fn fault_11_after_an_outage_a_living_worker_is_not_reaped() {
    let server = RedisServer::start();
    let queue = open(server.url());
    let (mut early, mut late) = (
        Caller::register(&queue).await,
        Caller::register(&queue).await,
    );
    for _ in 0..8 {
        advance(&server, Duration::from_secs(5));
        early.beat().await;
        late.beat().await;
    }
    late.enqueue(&[message(&["example.net"])]).await;
    let claimed = tasks(&late.claim().await).pop().unwrap();
    advance(&server, Duration::from_secs(4));
    early.beat().await;
    advance(&server, Duration::from_millis(26_500));
    // `late` has not beaten for 30.5 s, for no fault of its own.
    let queue::operation::Beat::Renewed { reaped, .. } = early.beat().await else {
        panic!()
    };
    assert_eq!(reaped, 0);
    let queue::operation::Beat::Renewed { late: was_late, .. } = late.beat().await else {
        panic!()
    };
    assert!(was_late);
    assert!(queue.check(late.worker, &claimed.handle).await.unwrap());
    assert!(tasks(&early.claim().await).is_empty());
}

/// The design's fault 17: with one step a beat it took ten beats, which are 50 s.
#[tokio::test]
async fn fault_17_a_thousand_claims_are_taken_back_in_one_go() {
    let server = RedisServer::start();
    let queue = open(server.url());
    let (mut victim, mut survivor) = (
        Caller::register(&queue).await,
        Caller::register(&queue).await,
    );
    queue
        .set_limits(&Limits {
            generation: 1,
            concurrency_default: 100,
            concurrency: Vec::new(),
            ..Limits::default()
        })
        .await
        .unwrap();
    let domains: Vec<_> = (0..20).map(|index| format!("d{index}.example")).collect();
    for _ in 0..50 {
        let batch: Vec<_> = domains.iter().map(|domain| message(&[domain])).collect();
        victim.enqueue(&batch).await;
    }
    let mut claimed = Vec::new();
    while claimed.len() < 1000 {
        let reply = victim.claim().await;
        assert!(!reply.grants.is_empty(), "{} claimed", claimed.len());
        claimed.extend(tasks(&reply));
    }
    for _ in 0..7 {
        advance(&server, Duration::from_secs(5));
        survivor.beat().await;
    }
    // By then the victim's lease is over, the gate of the survivor open, and the first step made.
    let mut steps = 1;
    while let queue::operation::Beat::Renewed {
        more: true, reaped, ..
    } = survivor.beat().await
    {
        assert!(reaped <= 500);
        steps += 1;
        assert!(steps < 10);
    }
    let counts = queue.counts().await.unwrap();
    assert_eq!((counts.ready, counts.in_flight), (1000, 0));
    let left = keys(&server);
    for gone in ["ct", "c:", "cw:", "ln:", "rcl"] {
        assert!(
            !left.iter().any(|key| key.starts_with(gone)),
            "{gone} in {left:?}"
        );
    }
    let reply = survivor.claim().await;
    assert!(tasks(&reply).iter().all(|task| !task.state.reclaimed_begun));
}

/// A damaged store: it is no reason to tell the sender that the mail has expired.
#[tokio::test]
async fn mail_whose_expiry_was_lost_gets_time_anew() {
    let server = RedisServer::start();
    let queue = open(server.url());
    let mut worker = Caller::register(&queue).await;
    let sent = message(&["example.net", "example.org"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let expiry = format!("{PREFIX}exp");
    redis::cmd("DEL")
        .arg(&expiry)
        .exec(&mut server.client())
        .unwrap();
    let claimed = tasks(&worker.claim().await);
    assert_eq!(claimed.len(), 2);
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
    for task in &claimed {
        assert!(task.expires_in > days(4), "{task:?}");
    }
    advance(&server, days(5));
    let expired = queue.expiring(8).await.unwrap();
    assert_eq!(expired, [sent.id], "it does not stay for ever");
    worker.beat().await;
    worker
        .settle(claimed.iter().map(|task| delivered(&task.handle)).collect())
        .await;
    assert!(!keys(&server).contains(&"exp".to_owned()));
}

#[tokio::test]
async fn a_slot_released_again_frees_none_that_another_holds() {
    let server = RedisServer::start();
    let queue = open(server.url());
    let (mut one, mut two) = (
        Caller::register(&queue).await,
        Caller::register(&queue).await,
    );
    let limits = Limits {
        generation: 1,
        concurrency_default: 2,
        concurrency: Vec::new(),
        ..Limits::default()
    };
    queue.set_limits(&limits).await.unwrap();
    let sent: Vec<_> = (0..4).map(|_| message(&["example.net"])).collect();
    one.enqueue(&sent).await;
    let single = |worker: &mut Caller| Next {
        claim: Some(claim(1, 1)),
        ..worker.next()
    };
    let next = single(&mut one);
    let first = slots(&one.run(&next).await);
    let next = single(&mut two);
    assert_eq!(two.run(&next).await.grants.len(), 1);
    for _ in 0..3 {
        let releases = [first.clone(), first.clone()].concat();
        let next = Next {
            releases,
            ..one.next()
        };
        one.run(&next).await;
    }
    let used: u32 = redis::cmd("HGET")
        .arg(format!("{PREFIX}ct"))
        .arg("mx:example.net")
        .query(&mut server.client())
        .unwrap();
    assert_eq!(used, 1);
    assert_eq!(one.claim().await.grants.len(), 1);
}

#[tokio::test]
async fn an_idle_poll_writes_nothing() {
    let server = RedisServer::start();
    let queue = open(server.url());
    let mut worker = Caller::register(&queue).await;
    let size = || {
        std::fs::read_dir(server.directory().join("appendonlydir"))
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum::<u64>()
    };
    let before = size();
    for _ in 0..10 {
        assert_eq!(worker.claim().await.then, Then::Empty);
    }
    assert_eq!(size(), before);
    worker.enqueue(&[message(&["example.net"])]).await;
    assert!(size() > before);
}

#[tokio::test]
async fn a_queue_of_another_owner_is_refused() {
    let server = RedisServer::start();
    let queue = open(server.url());
    Caller::register(&queue).await;

    let mut others = settings(server.url());
    others.owner = "kube/mail/other".into();
    let others = queue::redis::Redis::open(&others).unwrap();
    let error = others.counts().await.unwrap_err();
    assert!(matches!(&error, QueueError::Conflict(text) if text.contains("kube/mail/outbound")));
}

#[tokio::test]
async fn a_password_is_sent_and_a_wrong_one_reported() {
    let server = RedisServer::start();
    config_set(&server, "requirepass", "s3cret/&");
    let at = |credentials: &str| format!("redis://{credentials}127.0.0.1:{}", server.port());
    open(at(":s3cret%2F&@")).counts().await.unwrap();
    for credentials in [":wrong@", ""] {
        let error = open(at(credentials)).counts().await.unwrap_err();
        let QueueError::Unreachable(text) = &error else {
            panic!("{error:?}")
        };
        assert!(
            text.contains("authentication failed") || text.contains("NOAUTH"),
            "{text}"
        );
        assert!(!text.contains("wrong@"), "{text}");
    }
}

#[tokio::test]
async fn the_journal_stays_near_its_bound() {
    let server = RedisServer::start();
    let mut settings = settings(server.url());
    settings.journal_keeps = 100;
    let queue = std::sync::Arc::new(queue::redis::Redis::open(&settings).unwrap());
    let mut worker = Caller::register(&queue).await;
    let sent: Vec<_> = (0..500).map(|_| message(&["example.net"])).collect();
    worker.enqueue(&sent).await;
    while !worker.claim().await.grants.is_empty() {}
    for handle in sent.iter().flat_map(handles_of) {
        let settlement = Settlement {
            journal: Bytes::from_static(b"delivered"),
            ..delivered(&handle)
        };
        worker.settle(vec![settlement]).await;
    }
    // The server removes whole nodes of a hundred.
    let kept = queue.journal(None, 1000).await.unwrap().len();
    assert!((100..=200).contains(&kept), "{kept}");
}

/// A damaged store: too many slots in use would stop a site, too few would let its limit be exceeded.
#[tokio::test]
async fn slots_that_were_counted_wrong_are_counted_anew() {
    let server = RedisServer::start();
    let queue = open(server.url());
    let mut worker = Caller::register(&queue).await;
    let limits = Limits {
        generation: 1,
        concurrency_default: 2,
        ..Limits::default()
    };
    queue.set_limits(&limits).await.unwrap();
    let set = |count: u32| {
        redis::cmd("HSET")
            .arg(format!("{PREFIX}ct"))
            .arg("mx:example.net")
            .arg(count)
            .exec(&mut server.client())
            .unwrap();
    };
    worker.beat().await;
    for (wrong, free) in [(2, 2), (0, 0)] {
        set(wrong);
        worker.enqueue(&[message(&["example.net"])]).await;
        worker.enqueue(&[message(&["example.net"])]).await;
        if wrong == 2 {
            assert!(worker.claim().await.grants.is_empty());
        }
        for _ in 0..13 {
            advance(&server, Duration::from_secs(5));
            worker.beat().await;
        }
        let granted = worker.claim().await.grants.len();
        assert_eq!(granted, free, "after {wrong} were counted");
    }
}
