//! Tasks whose owners die: one of them may be what ends its owners.

use std::time::Duration;

use queue::id::Handle;
use queue::operation::{Action, Beat, Begun};

use crate::caller::{Caller, deferred};
use crate::harness::Harness;
use crate::redis_fixture::{TIMING, handles_of, message, tasks};

const HALF: Duration = Duration::from_millis(500);

async fn enqueue(worker: &mut Caller, count: usize) -> Vec<Handle> {
    let sent: Vec<_> = (0..count).map(|_| message(&["example.net"])).collect();
    worker.enqueue(&sent).await;
    sent.iter().flat_map(handles_of).collect()
}

/// A worker claims everything, begins the task and dies. Which tasks are held after that.
async fn kill_with(h: &impl Harness, survivor: &Caller, begun: &Handle) -> Vec<queue::id::TaskId> {
    let mut victim = h.caller().await;
    while victim.begin(begun).await == Begun::NotHeld {
        let reply = victim.claim(20, 9).await;
        assert!(!reply.grants.is_empty(), "it is not claimed");
    }
    let mut left = TIMING.lease * 2;
    let mut all = Vec::new();
    while !left.is_zero() {
        h.pass(TIMING.beat);
        left -= TIMING.beat;
        match survivor.beat().await {
            Beat::Renewed { held, .. } => all.extend(held),
            Beat::Reaped => panic!("a worker that beats in time was reaped"),
        }
    }
    all
}

pub(crate) async fn a_task_begun_by_three_dead_workers_is_granted_alone(h: impl Harness) {
    let mut survivor = h.caller().await;
    h.limit(1, &[]).await;
    let handles = enqueue(&mut survivor, 5).await;
    // The others come with it until then.
    for _ in 0..3 {
        assert!(kill_with(&h, &survivor, &handles[2]).await.is_empty());
    }
    // What came back is due since then, in the order of its names.
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let reply = survivor.claim(9, 9).await;
        let claimed = tasks(&reply);
        sizes.push(claimed.len());
        let is_suspect = claimed.iter().any(|task| task.handle == handles[2]);
        assert_eq!(is_suspect, sizes.len() == 2, "{sizes:?}");
        survivor.deliver_all(&reply).await;
    }
    assert_eq!(sizes, [2, 1, 2]);
    h.pass(HALF);
    // Nobody is suspected any more.
    enqueue(&mut survivor, 3).await;
    let reply = survivor.claim(9, 9).await;
    assert_eq!(tasks(&reply).len(), 3);
    survivor.deliver_all(&reply).await;
    h.live(&[&survivor], TIMING.lease).await;
    survivor.claim(9, 9).await;
    assert_eq!(h.remains().await.tasks, 0);
}

pub(crate) async fn a_task_begun_by_six_dead_workers_is_held(h: impl Harness) {
    let mut survivor = h.caller().await;
    let handles = enqueue(&mut survivor, 2).await;
    for _ in 0..5 {
        assert!(kill_with(&h, &survivor, &handles[0]).await.is_empty());
    }
    assert_eq!(
        kill_with(&h, &survivor, &handles[0]).await,
        [handles[0].task]
    );
    assert_eq!(h.counts().await.held, 1);
    assert_eq!(h.places().await, (1, 0, 0));
    let reply = survivor.claim(9, 9).await;
    assert_eq!(tasks(&reply)[0].handle, handles[1]);
    survivor.deliver_all(&reply).await;
}

pub(crate) async fn an_overdue_begun_claim_counts_as_a_dead_workers(h: impl Harness) {
    let mut worker = h.caller().await;
    h.live(&[&worker], TIMING.lease).await;
    let handle = enqueue(&mut worker, 1).await.remove(0);
    for overdue in 1..=6 {
        let reply = worker.claim(9, 9).await;
        assert_eq!(tasks(&reply).len(), 1, "{overdue}");
        assert_eq!(worker.begin(&handle).await, Begun::Begun);
        h.live(&[&worker], TIMING.begun).await;
    }
    assert_eq!(h.counts().await.held, 1);
}

pub(crate) async fn an_outcome_ends_the_suspicion(h: impl Harness) {
    let mut survivor = h.caller().await;
    let handle = enqueue(&mut survivor, 1).await.remove(0);
    for _ in 0..2 {
        for _ in 0..5 {
            assert!(kill_with(&h, &survivor, &handle).await.is_empty());
        }
        let reply = survivor.claim(9, 9).await;
        assert_eq!(tasks(&reply).len(), 1);
        survivor
            .settle(vec![deferred(&handle, Duration::ZERO)])
            .await;
    }
    assert_eq!(h.counts().await.held, 0);
}

pub(crate) async fn a_released_suspect_is_granted_alone(h: impl Harness) {
    let mut survivor = h.caller().await;
    h.limit(1, &[]).await;
    let handle = enqueue(&mut survivor, 1).await.remove(0);
    for _ in 0..6 {
        kill_with(&h, &survivor, &handle).await;
    }
    assert_eq!(h.counts().await.held, 1);
    enqueue(&mut survivor, 2).await;
    h.pass(HALF);
    survivor
        .act(Action::Release, std::slice::from_ref(&handle))
        .await;
    let mut sizes = Vec::new();
    for _ in 0..2 {
        let reply = survivor.claim(9, 9).await;
        sizes.push(tasks(&reply).len());
        survivor.deliver_all(&reply).await;
    }
    assert_eq!(sizes, [2, 1]);
    // Three more, and it is held again.
    let handle = enqueue(&mut survivor, 1).await.remove(0);
    for _ in 0..6 {
        kill_with(&h, &survivor, &handle).await;
    }
    survivor
        .act(Action::Release, std::slice::from_ref(&handle))
        .await;
    for held in [0, 0, 1] {
        assert_eq!(kill_with(&h, &survivor, &handle).await.len(), held);
    }
}
