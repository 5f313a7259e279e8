//! What the tests of the Redis back end have in common.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use queue::Queue;
use queue::durability::{Durability, Level};
use queue::id::{Call, Handle, MessageId, QueueId, SlotId, TaskId, WorkerId};
use queue::operation::{Beat, Claim, Claimed, Next, NextReply, Rest, Settlement, Taken, Timing};
use queue::record::{Body, Form, Header, NewMessage, Recipient, Task};
use queue::redis::{Locator, Redis, Settings};

use crate::redis_server::RedisServer;

pub(crate) const PREFIX: &str = "mr:{test:0}:";

pub(crate) const TIMING: Timing = Timing {
    lease: Duration::from_secs(30),
    beat: Duration::from_secs(5),
    claim: Duration::from_secs(120),
    begun: Duration::from_secs(1800),
    safety_wake: Duration::from_secs(30),
};

/// More entries than a test makes.
pub(crate) const JOURNAL_KEEPS: u32 = 100_000;

pub(crate) fn settings(url: String) -> Settings {
    let locator = Locator::Url(url);
    let mut settings = Settings::new(locator, "test".into(), "kube/mail/outbound".into(), TIMING);
    settings.journal_keeps = JOURNAL_KEEPS;
    settings
}

pub(crate) fn open(url: String) -> Arc<Redis> {
    Arc::new(Redis::open(&settings(url)).expect("settings that can be used"))
}

/// A registered worker that keeps count of its lanes.
pub(crate) struct Caller {
    pub(crate) queue: Arc<Redis>,
    pub(crate) worker: WorkerId,
    lanes: HashMap<u16, u64>,
}

pub(crate) const DISPATCH: u16 = 1;
pub(crate) const COMMIT: u16 = 2;

impl Caller {
    pub(crate) async fn register(queue: &Arc<Redis>) -> Self {
        let worker = WorkerId::random();
        queue
            .register(worker)
            .await
            .expect("an unknown worker registers");
        Self {
            queue: Arc::clone(queue),
            worker,
            lanes: HashMap::new(),
        }
    }

    pub(crate) fn call(&mut self, lane: u16) -> Call {
        let n = self.lanes.entry(lane).or_default();
        *n += 1;
        Call {
            worker: self.worker,
            lane,
            n: *n,
        }
    }

    pub(crate) fn next(&mut self) -> Next {
        let call = self.call(DISPATCH);
        Next {
            call,
            settlements: Vec::new(),
            releases: Vec::new(),
            claim: None,
        }
    }

    pub(crate) async fn enqueue(&mut self, messages: &[NewMessage]) {
        let call = self.call(COMMIT);
        let taken = self.queue.enqueue(call, messages).await;
        assert_eq!(taken.expect("a commit"), Taken::Ran(()));
    }

    pub(crate) async fn run(&self, next: &Next) -> NextReply {
        match self.queue.next(next).await.expect("a reply") {
            Taken::Ran(reply) => reply,
            other => panic!("next was not run: {other:?}"),
        }
    }

    pub(crate) async fn claim(&mut self) -> NextReply {
        let next = Next {
            claim: Some(claim(50, 50)),
            ..self.next()
        };
        self.run(&next).await
    }

    pub(crate) async fn settle(&mut self, settlements: Vec<Settlement>) -> NextReply {
        let next = Next {
            settlements,
            ..self.next()
        };
        self.run(&next).await
    }

    pub(crate) async fn beat(&self) -> Beat {
        self.queue.beat(self.worker).await.expect("a beat")
    }
}

pub(crate) fn claim(grants: u16, tasks_per_grant: u16) -> Claim {
    Claim {
        grants,
        tasks_per_grant,
        withheld: Vec::new(),
        by_name: Vec::new(),
    }
}

pub(crate) fn tasks(reply: &NextReply) -> Vec<Claimed> {
    reply
        .grants
        .iter()
        .flat_map(|grant| grant.tasks.clone())
        .collect()
}

pub(crate) fn slots(reply: &NextReply) -> Vec<SlotId> {
    reply.grants.iter().map(|grant| grant.slot).collect()
}

pub(crate) fn queue_of(tenant: &str, domain: &str) -> QueueId {
    QueueId {
        tenant: tenant.into(),
        class: String::new(),
        egress: String::new(),
        route: format!("mx:{domain}"),
    }
}

/// One recipient at each domain, each domain a task of its own.
pub(crate) fn message(domains: &[&str]) -> NewMessage {
    message_of("a", domains, &[b"first line\r\n", b"second line\r\n"])
}

pub(crate) fn message_of(tenant: &str, domains: &[&str], content: &[&'static [u8]]) -> NewMessage {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut random = [0; 10];
    random[2..].copy_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let content: Vec<_> = content
        .iter()
        .map(|slice| Bytes::from_static(slice))
        .collect();
    let stored = content.iter().map(|slice| slice.len() as u64).sum();
    let tasks = domains.iter().map(|domain| Task {
        queue: queue_of(tenant, domain),
        recipients: vec![Recipient {
            address: format!("user@{domain}"),
        }],
    });
    NewMessage {
        id: MessageId::new(1_700_000_000_000, random),
        header: Header {
            reverse_path: "sender@example.org".into(),
            tenant: tenant.into(),
            received_unix_ms: 1_700_000_000_000,
            lifetime_ms: 432_000_000,
            trace: None,
            accepted_by: String::new(),
            tasks: tasks.collect(),
            body: Body {
                form: Form::DotStuffed,
                stored,
                size: stored,
                sha256: String::new(),
                eight_bit: false,
                chunks: 0,
            },
        },
        content,
    }
}

pub(crate) fn handles_of(message: &NewMessage) -> Vec<Handle> {
    (0..)
        .zip(&message.header.tasks)
        .map(|(ordinal, task)| Handle {
            task: TaskId {
                message: message.id,
                ordinal,
            },
            queue: task.queue.clone(),
        })
        .collect()
}

/// Delivered to its only recipient.
pub(crate) fn delivered(handle: &Handle) -> Settlement {
    Settlement {
        handle: handle.clone(),
        delivered: vec![0],
        failed: Vec::new(),
        recipients: 1,
        rest: Rest::None,
        notification: None,
        journal: Bytes::new(),
    }
}

/// Every time in the store moves into the past: to the scripts, the clock has moved on.
pub(crate) fn advance(server: &RedisServer, by: Duration) {
    const SHIFT: &str = "
        local by = tonumber(ARGV[1])
        for _, key in ipairs(redis.call('KEYS', '*')) do
          local name = string.match(key, '}:(.*)$')
          local kind = string.match(name, '^[a-z]+')
          if kind == 'wk' or kind == 'wake' or kind == 'q' or kind == 'c' or kind == 'exp' or kind == 'hold' then
            local shift = kind == 'c' and by * 4 or kind == 'exp' and by * 2 or by
            for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
              redis.call('ZINCRBY', key, -shift, member)
            end
          elseif kind == 'wks' then
            for _, member in ipairs(redis.call('HKEYS', key)) do
              redis.call('HINCRBY', key, member, -by)
            end
          elseif kind == 'st' and redis.call('HEXISTS', key, 'audit') == 1 then
            redis.call('HINCRBY', key, 'audit', -by)
          end
        end";
    redis::Script::new(SHIFT)
        .arg(by.as_millis() as u64)
        .invoke::<()>(&mut server.client())
        .expect("the clock moves");
}

/// What does not come about fails the test instead of hanging it.
pub(crate) async fn in_time<F: Future>(awaited: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), awaited)
        .await
        .expect("within 20 s")
}

/// Asks until the level is (not) met.
pub(crate) async fn until_durable(queue: &Redis, met: bool) {
    in_time(async {
        while (queue.durability().await.expect("an answer") == Durability::Verified(Level::Fsync))
            != met
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Names of all keys, without the prefix, in order.
pub(crate) fn keys(server: &RedisServer) -> Vec<String> {
    let mut keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query(&mut server.client())
        .expect("the keys");
    keys.sort();
    keys.into_iter()
        .map(|key| {
            key.strip_prefix(PREFIX)
                .expect("one prefix for all keys")
                .to_owned()
        })
        .collect()
}

pub(crate) fn config_set(server: &RedisServer, name: &str, value: &str) {
    redis::cmd("CONFIG")
        .arg("SET")
        .arg(name)
        .arg(value)
        .exec(&mut server.client())
        .expect("a setting that can be changed");
}
