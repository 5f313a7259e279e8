//! A registered worker as the protocol sees it: it keeps count of its lanes and nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use queue::Queue;
use queue::id::{Call, Handle, MessageId, SlotId, WorkerId};
use queue::operation::{
    Aborted, Act, Acted, Action, Beat, Begun, Next, NextReply, Resolved, Rest, Settlement, Taken,
};
use queue::record::NewMessage;

use crate::redis_fixture::{COMMIT, DISPATCH, claim, delivered};

pub(crate) struct Caller {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) worker: WorkerId,
    lanes: HashMap<u16, u64>,
}

impl Caller {
    pub(crate) async fn register(queue: Arc<dyn Queue>) -> Self {
        let worker = WorkerId::random();
        queue.register(worker).await.expect("an unknown worker");
        Self {
            queue,
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
        Next {
            call: self.call(DISPATCH),
            settlements: Vec::new(),
            releases: Vec::new(),
            claim: None,
        }
    }

    pub(crate) fn next_claim(&mut self, grants: u16, tasks_per_grant: u16) -> Next {
        Next {
            claim: Some(claim(grants, tasks_per_grant)),
            ..self.next()
        }
    }

    pub(crate) async fn take(&self, next: &Next) -> Taken<NextReply> {
        self.queue.next(next).await.expect("a reply")
    }

    pub(crate) async fn run(&self, next: &Next) -> NextReply {
        match self.take(next).await {
            Taken::Ran(reply) => reply,
            other => panic!("next was not run: {other:?}"),
        }
    }

    pub(crate) async fn claim(&mut self, grants: u16, tasks_per_grant: u16) -> NextReply {
        let next = self.next_claim(grants, tasks_per_grant);
        self.run(&next).await
    }

    /// Claims these where they wait, as for expiry.
    pub(crate) async fn claim_by_name(&mut self, handles: &[Handle]) -> NextReply {
        let mut next = self.next_claim(0, 1);
        if let Some(claim) = &mut next.claim {
            claim.by_name = handles.to_vec();
        }
        self.run(&next).await
    }

    pub(crate) async fn settle(&mut self, settlements: Vec<Settlement>) -> NextReply {
        let next = Next {
            settlements,
            ..self.next()
        };
        self.run(&next).await
    }

    /// Delivered: each to its only recipient. Slots go too.
    pub(crate) async fn deliver_all(&mut self, reply: &NextReply) {
        let tasks = reply.grants.iter().flat_map(|grant| &grant.tasks);
        let settlements = tasks
            .chain(&reply.named)
            .map(|task| delivered(&task.handle))
            .collect();
        let next = Next {
            settlements,
            releases: reply.grants.iter().map(|grant| grant.slot).collect(),
            ..self.next()
        };
        let stale = self.run(&next).await.stale;
        assert!(stale.is_empty(), "{stale:?} were not held");
    }

    pub(crate) async fn release(&mut self, releases: Vec<SlotId>) {
        let next = Next {
            releases,
            ..self.next()
        };
        self.run(&next).await;
    }

    pub(crate) async fn enqueue(&mut self, messages: &[NewMessage]) {
        let call = self.call(COMMIT);
        assert_eq!(self.enqueue_as(call, messages).await, Taken::Ran(()));
    }

    pub(crate) async fn enqueue_as(&self, call: Call, messages: &[NewMessage]) -> Taken<()> {
        self.queue.enqueue(call, messages).await.expect("a reply")
    }

    pub(crate) async fn abort(
        &self,
        call: Call,
        message: MessageId,
        handles: &[Handle],
    ) -> Aborted {
        let aborted = self.queue.abort(call, message, handles).await;
        aborted.expect("a reply")
    }

    pub(crate) async fn resolve(&self, call: Call) -> Resolved {
        self.queue.resolve(call).await.expect("a reply")
    }

    pub(crate) async fn begin(&self, handle: &Handle) -> Begun {
        let begun = self.queue.begin(self.worker, std::slice::from_ref(handle));
        let [begun] = begun.await.expect("a reply")[..] else {
            panic!("one answer for each handle")
        };
        begun
    }

    pub(crate) async fn check(&self, handle: &Handle) -> bool {
        let held = self.queue.check(self.worker, handle).await;
        held.expect("a reply")
    }

    /// The same with all of `handles`.
    pub(crate) async fn act(&self, action: Action, handles: &[Handle]) -> Vec<Acted> {
        let act = |handle: &Handle| Act {
            handle: handle.clone(),
            action: action.clone(),
        };
        let acts: Vec<_> = handles.iter().map(act).collect();
        self.queue.act(&acts).await.expect("a reply")
    }

    pub(crate) async fn beat(&self) -> Beat {
        self.queue.beat(self.worker).await.expect("a reply")
    }
}

/// One recipient, deferred.
pub(crate) fn deferred(handle: &Handle, due_in: Duration) -> Settlement {
    let notes = Bytes::from_static(b"{\"reply\":\"450 4.2.1\"}");
    Settlement {
        delivered: Vec::new(),
        rest: Rest::Deferred { due_in, notes },
        ..delivered(handle)
    }
}

/// One recipient, failed.
pub(crate) fn failed(handle: &Handle, notification: Option<NewMessage>) -> Settlement {
    Settlement {
        delivered: Vec::new(),
        failed: vec![0],
        notification,
        ..delivered(handle)
    }
}

pub(crate) fn held(handle: &Handle, reason: &str) -> Settlement {
    let reason = reason.to_owned();
    Settlement {
        delivered: Vec::new(),
        rest: Rest::Held { reason },
        ..delivered(handle)
    }
}

pub(crate) fn given_back(handle: &Handle) -> Settlement {
    Settlement {
        delivered: Vec::new(),
        rest: Rest::GivenBack,
        ..delivered(handle)
    }
}
