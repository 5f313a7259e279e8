//! Whose mail goes next.

use std::collections::HashMap;
use std::time::Duration;

use queue::id::Handle;
use queue::operation::{Beat, Next, Then};

use crate::caller::{Caller, deferred};
use crate::harness::Harness;
use crate::redis_fixture::{
    TIMING, delivered, handles_of, message, message_of, queue_of, slots, tasks,
};

/// Queues that had just become due were promoted before everything else: a backlog was served in 5 of
/// 201 calls.
pub(crate) async fn fault_15_a_promoted_queue_does_not_starve_a_backlog(h: impl Harness) {
    let mut worker = h.caller().await;
    let backlog: Vec<_> = (0..150).map(|_| message(&["backlog.example"])).collect();
    worker.enqueue(&backlog).await;
    let mut turns = Turns::default();
    for k in 0..200 {
        worker
            .enqueue(&[message(&[&format!("fresh{k}.example")])])
            .await;
        turns.take(&mut worker).await;
    }
    // More comes than is taken, so each turn of the backlog is a little longer than the last.
    let served = turns.of("mx:backlog.example");
    assert!(
        (15..=100).contains(&served),
        "served in {served} of 200 calls"
    );
}

/// One step a beat made it ten beats, which are 50 s.
pub(crate) async fn fault_17_a_thousand_claims_go_back_at_once(h: impl Harness) {
    let (mut victim, mut survivor) = (h.caller().await, h.caller().await);
    let sent: Vec<_> = (0..1000).map(|_| message(&["example.net"])).collect();
    victim.enqueue(&sent).await;
    assert_eq!(tasks(&victim.claim(50, 50).await).len(), 1000);
    h.live(&[&survivor], Duration::from_secs(25)).await;
    h.pass(TIMING.beat);
    let mut steps = Vec::new();
    loop {
        let Beat::Renewed { reaped, more, .. } = survivor.beat().await else {
            panic!("the survivor is reaped")
        };
        steps.push(reaped);
        if !more {
            break;
        }
    }
    assert_eq!(steps.iter().sum::<u32>(), 1000);
    assert!(
        steps.len() <= 4 && steps.iter().all(|step| *step <= 500),
        "{steps:?}"
    );
    assert_eq!(tasks(&survivor.claim(50, 50).await).len(), 1000);
}

pub(crate) async fn tenants_share_by_tasks_not_by_queues(h: impl Harness) {
    let mut worker = h.caller().await;
    let mut sent = Vec::new();
    for k in 0..100 {
        sent.push(message_of(
            "many",
            &[&format!("d{}.example", k % 10)],
            &[b"x\r\n"],
        ));
        sent.push(message_of("single", &["example.net"], &[b"x\r\n"]));
    }
    worker.enqueue(&sent).await;
    let mut turns = Turns::default();
    for k in 1..=100 {
        turns.take(&mut worker).await;
        let (many, single) = (turns.of_tenant("many"), turns.of_tenant("single"));
        assert!(many.abs_diff(single) <= 1, "{many} to {single} after {k}");
    }
    // The queues of one tenant take turns.
    for domain in 0..10 {
        assert_eq!(turns.of(&format!("mx:d{domain}.example")), 5);
    }
}

pub(crate) async fn tenants_share_by_weight(h: impl Harness) {
    h.weigh(&[("heavy", 3), ("light", 2)]).await;
    let mut worker = h.caller().await;
    let sent: Vec<_> = ["heavy", "light", "plain"]
        .into_iter()
        .flat_map(|tenant| {
            let domain = format!("{tenant}.example");
            (0..120).map(move |_| message_of(tenant, &[&domain], &[b"x\r\n"]))
        })
        .collect();
    worker.enqueue(&sent).await;
    let mut turns = Turns::default();
    for k in 1..=180 {
        turns.take(&mut worker).await;
        for (tenant, weight) in [("heavy", 3), ("light", 2), ("plain", 1)] {
            let (got, due) = (turns.of_tenant(tenant), k * weight / 6);
            assert!(got.abs_diff(due) <= 2, "{tenant}: {got} of {k}, due {due}");
        }
    }
    // What the newest configuration says counts from then on.
    h.weigh(&[]).await;
    let before = ["heavy", "plain"].map(|tenant| turns.of_tenant(tenant));
    for _ in 0..60 {
        turns.take(&mut worker).await;
    }
    let after = ["heavy", "plain"].map(|tenant| turns.of_tenant(tenant));
    let (heavy, plain) = (after[0] - before[0], after[1] - before[1]);
    assert!(heavy.abs_diff(plain) <= 2, "{heavy} to {plain}");
}

pub(crate) async fn a_tenant_that_comes_back_gains_nothing_by_having_left(h: impl Harness) {
    let mut worker = h.caller().await;
    let steady: Vec<_> = (0..150)
        .map(|_| message_of("steady", &["example.net"], &[b"x\r\n"]))
        .collect();
    worker.enqueue(&steady).await;
    let mut turns = Turns::default();
    for _ in 0..100 {
        worker
            .enqueue(&[message_of("comes", &["example.org"], &[b"x\r\n"])])
            .await;
        // Three tasks at a time, so that whoever is served gets ahead.
        turns.take_up_to(&mut worker, 3).await;
    }
    // What counts is tasks, three at a time or one.
    let (steady, comes) = (turns.of_tenant("steady"), turns.of_tenant("comes"));
    assert!(steady.abs_diff(comes) <= 3, "{steady} to {comes}");
}

pub(crate) async fn a_tenant_that_was_away_is_not_owed_its_absence(h: impl Harness) {
    let mut worker = h.caller().await;
    let of = |tenant: &'static str| {
        move |_| message_of(tenant, &[&format!("{tenant}.example")], &[b"x\r\n"])
    };
    worker
        .enqueue(&(0..200).map(of("here")).collect::<Vec<_>>())
        .await;
    let mut turns = Turns::default();
    for _ in 0..100 {
        turns.take(&mut worker).await;
    }
    worker
        .enqueue(&(0..100).map(of("away")).collect::<Vec<_>>())
        .await;
    for _ in 0..40 {
        turns.take(&mut worker).await;
    }
    let (here, away) = (turns.of_tenant("here") - 100, turns.of_tenant("away"));
    // It enters where the last grant was made, which is one task before its end.
    assert!(here.abs_diff(away) <= 2, "{here} to {away}");
}

pub(crate) async fn few_tasks_spread_over_the_free_slots(h: impl Harness) {
    h.limit(4, &[]).await;
    let mut worker = h.caller().await;
    let sent: Vec<_> = (0..6).map(|_| message(&["example.net"])).collect();
    worker.enqueue(&sent).await;
    let reply = worker.claim(9, 50).await;
    let sizes: Vec<_> = reply.grants.iter().map(|grant| grant.tasks.len()).collect();
    // Six for four slots, four for three, two for two.
    assert_eq!(sizes, [2, 2, 1, 1]);
    worker.deliver_all(&reply).await;

    let sent: Vec<_> = (0..30).map(|_| message(&["example.net"])).collect();
    worker.enqueue(&sent).await;
    let reply = worker.claim(2, 5).await;
    let sizes: Vec<_> = reply.grants.iter().map(|grant| grant.tasks.len()).collect();
    assert_eq!((&*sizes, reply.then), (&[5, 5][..], Then::More));
}

pub(crate) async fn tasks_come_by_when_they_are_due(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent: Vec<_> = (0..4).map(|_| message(&["example.net"])).collect();
    worker.enqueue(&sent).await;
    let handles: Vec<_> = sent
        .iter()
        .map(|message| handles_of(message).remove(0))
        .collect();
    let reply = worker.claim(1, 50).await;
    worker.release(slots(&reply)).await;
    worker
        .settle(vec![deferred(&handles[0], Duration::from_secs(3))])
        .await;
    let all = worker.claim(9, 50).await;
    worker.release(slots(&all)).await;
    let seconds = [(1, 2), (2, 1), (3, 3)];
    let settlements = seconds.map(|(k, due_in)| deferred(&handles[k], Duration::from_secs(due_in)));
    worker.settle(settlements.into()).await;
    h.pass(Duration::from_secs(3));
    assert_eq!(h.counts().await.oldest_ready, Some(Duration::from_secs(2)));
    // Equally due ones by their ids.
    assert_eq!(
        order(&mut worker).await,
        [2, 1, 0, 3].map(|k: usize| handles[k].clone())
    );

    // Tasks of one message by their ids as they are written.
    let mut wide = message(&[]);
    let task = message(&["example.org"]).header.tasks.remove(0);
    wide.header.tasks = vec![task; 12];
    worker.enqueue(std::slice::from_ref(&wide)).await;
    let mut handles = handles_of(&wide);
    assert_eq!(handles[0].queue, queue_of("a", "example.org"));
    handles.sort_by_key(|handle| handle.task.to_string());
    assert_eq!(order(&mut worker).await, handles);
}

/// All that is due, one by one.
async fn order(worker: &mut Caller) -> Vec<Handle> {
    let mut order = Vec::new();
    loop {
        let reply = worker.claim(1, 1).await;
        match tasks(&reply).pop() {
            None => return order,
            Some(task) => order.push(task.handle),
        }
        worker.release(slots(&reply)).await;
    }
}

/// One connection after the other: what was claimed is delivered and its slot given up with the next
/// claim.
#[derive(Default)]
struct Turns {
    last: Option<queue::operation::NextReply>,
    sites: HashMap<String, usize>,
    tenants: HashMap<String, usize>,
}

impl Turns {
    async fn take(&mut self, worker: &mut Caller) {
        self.take_up_to(worker, 1).await;
    }

    async fn take_up_to(&mut self, worker: &mut Caller, tasks_per_grant: u16) {
        let last = self.last.take().unwrap_or_default();
        let claimed = tasks(&last);
        let next = Next {
            settlements: claimed.iter().map(|task| delivered(&task.handle)).collect(),
            releases: slots(&last),
            ..worker.next_claim(1, tasks_per_grant)
        };
        let reply = worker.run(&next).await;
        let [grant] = &*reply.grants else {
            panic!("one grant, not {:?}", reply.grants)
        };
        *self.sites.entry(grant.site.clone()).or_default() += grant.tasks.len();
        *self.tenants.entry(grant.queue.tenant.clone()).or_default() += grant.tasks.len();
        self.last = Some(reply);
    }

    fn of(&self, site: &str) -> usize {
        self.sites.get(site).copied().unwrap_or_default()
    }

    fn of_tenant(&self, tenant: &str) -> usize {
        self.tenants.get(tenant).copied().unwrap_or_default()
    }
}
