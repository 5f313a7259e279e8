//! A worker without the machinery of one, and what it sends.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redb::Database;

use super::NOW;
use super::disk::{Backend, Disk};
use crate::embedded::EmbeddedQueue;
use crate::embedded::file::{File, store_error};
use crate::id::{Call, Handle, MessageId, WorkerId};
use crate::model::WallClock;
use crate::operation::{Claim, Next, NextReply, Rest, Settlement, Taken, Timing};
use crate::queue::{Queue, QueueError};
use crate::record::{Body, Form, Header, NewMessage, Recipient, Task};

pub(super) fn open(disk: &Arc<Disk>) -> EmbeddedQueue {
    let backend = Backend(disk.clone());
    let open = move || {
        Database::builder()
            .create_with_backend(backend.clone())
            .map_err(|error| store_error(Path::new("disk"), error))
    };
    let file = File::open_by(Path::new("disk"), Box::new(open)).unwrap();
    EmbeddedQueue::start(file, &TIMING, WallClock::new(|| NOW)).unwrap()
}

pub(super) const TIMING: Timing = Timing {
    lease: Duration::from_secs(30),
    beat: Duration::from_secs(5),
    claim: Duration::from_secs(120),
    begun: Duration::from_secs(1800),
    safety_wake: Duration::from_secs(30),
};

pub(super) fn message(number: u8, domains: &[&str]) -> NewMessage {
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
                chunks: 0,
            },
        },
        content: vec![content.slice(..5), content.slice(5..)],
    }
}

pub(super) struct Caller {
    pub(super) queue: Arc<EmbeddedQueue>,
    pub(super) worker: WorkerId,
    pub(super) n: u64,
}

impl Caller {
    pub(super) async fn register(queue: EmbeddedQueue) -> Self {
        let worker = WorkerId::random();
        queue.register(worker).await.unwrap();
        Self {
            queue: Arc::new(queue),
            worker,
            n: 0,
        }
    }

    pub(super) fn call(&mut self) -> Call {
        self.n += 1;
        Call {
            worker: self.worker,
            lane: 0,
            n: self.n,
        }
    }

    pub(super) fn next(&mut self, settlements: Vec<Settlement>, claim: bool) -> Next {
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

    pub(super) async fn enqueue(
        &mut self,
        messages: &[NewMessage],
    ) -> Result<Taken<()>, QueueError> {
        let call = self.call();
        self.queue.enqueue(call, messages).await
    }

    pub(super) async fn run(&mut self, settlements: Vec<Settlement>, claim: bool) -> NextReply {
        let next = self.next(settlements, claim);
        match self.queue.next(&next).await.unwrap() {
            Taken::Ran(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn claim(&mut self) -> Vec<Handle> {
        let reply = self.run(vec![], true).await;
        reply
            .grants
            .into_iter()
            .flat_map(|grant| grant.tasks)
            .map(|task| task.handle)
            .collect()
    }
}

pub(super) fn settlement(handle: &Handle, delivered: &[u16], rest: Rest) -> Settlement {
    Settlement {
        handle: handle.clone(),
        delivered: delivered.to_vec(),
        failed: vec![],
        recipients: 2,
        rest,
        notification: None,
        journal: Bytes::new(),
    }
}

pub(super) fn deferred(seconds: u64) -> Rest {
    Rest::Deferred {
        due_in: Duration::from_secs(seconds),
        notes: Bytes::from_static(b"notes"),
    }
}

pub(super) async fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..20_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    panic!("it does not come to pass");
}
