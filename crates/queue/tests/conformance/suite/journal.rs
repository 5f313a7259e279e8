//! The journal of outcomes.

use std::time::Duration;

use bytes::Bytes;
use queue::id::JournalId;
use queue::operation::{Journaled, Next, Settlement, Taken};

use crate::caller::{deferred, failed, given_back};
use crate::harness::Harness;
use crate::redis_fixture::{delivered, handles_of, message};

/// What the journal is to say of a settlement.
fn told(settlement: Settlement, text: &'static str) -> Settlement {
    Settlement {
        journal: Bytes::from_static(text.as_bytes()),
        ..settlement
    }
}

async fn journal(h: &impl Harness, after: Option<JournalId>, max: u16) -> Vec<Journaled> {
    let entries = h.queue().journal(after, max).await;
    entries.expect("the journal")
}

fn texts(entries: &[Journaled]) -> Vec<Vec<&str>> {
    let text = |outcome: &Bytes| std::str::from_utf8(outcome).unwrap().to_owned().leak() as &str;
    let texts = |entry: &Journaled| entry.outcomes.iter().map(text).collect();
    entries.iter().map(texts).collect()
}

pub(crate) async fn the_journal_has_one_entry_for_a_call(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent: Vec<_> = (0..4).map(|_| message(&["example.net"])).collect();
    let handles: Vec<_> = sent.iter().flat_map(handles_of).collect();
    worker.enqueue(&sent).await;
    worker.claim(9, 9).await;
    worker
        .settle(vec![
            told(delivered(&handles[0]), "0"),
            delivered(&handles[1]),
            told(deferred(&handles[2], Duration::from_secs(1)), "2"),
        ])
        .await;
    worker.settle(vec![given_back(&handles[3])]).await;
    worker.claim(9, 9).await;
    worker
        .settle(vec![told(failed(&handles[3], None), "3")])
        .await;

    let entries = journal(&h, None, 9).await;
    assert_eq!(texts(&entries), [vec!["0", "2"], vec!["3"]]);
    // By pages.
    let first = journal(&h, None, 1).await;
    assert_eq!(first, entries[..1]);
    assert_eq!(journal(&h, Some(first[0].id), 9).await, entries[1..]);
    assert_eq!(journal(&h, Some(entries[1].id), 9).await, []);
}

pub(crate) async fn the_journal_tells_what_happened_and_once(h: impl Harness) {
    let mut worker = h.caller().await;
    let mut other = h.caller().await;
    let sent = [message(&["example.net"]), message(&["example.net"])];
    let handles: Vec<_> = sent.iter().flat_map(handles_of).collect();
    worker.enqueue(&sent).await;
    worker.claim(9, 9).await;
    // Not its own: a delivery is a fact all the same, a failure is not.
    let stale = other
        .settle(vec![
            told(failed(&handles[0], None), "not failed"),
            told(delivered(&handles[1]), "delivered"),
        ])
        .await
        .stale;
    assert_eq!(stale, [0, 1]);
    let settle = Next {
        settlements: vec![told(delivered(&handles[0]), "again")],
        ..worker.next()
    };
    worker.run(&settle).await;
    assert_eq!(worker.take(&settle).await, Taken::Refused);
    assert_eq!(
        texts(&journal(&h, None, 9).await),
        [vec!["delivered"], vec!["again"]]
    );
}

pub(crate) async fn the_journal_only_grows_when_the_clock_goes_back(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent: Vec<_> = (0..3).map(|_| message(&["example.net"])).collect();
    worker.enqueue(&sent).await;
    worker.claim(9, 9).await;
    for handle in sent.iter().flat_map(handles_of) {
        worker.settle(vec![told(delivered(&handle), "x")]).await;
        h.clock().set(h.clock().now() - 2_000);
    }
    let ids: Vec<_> = journal(&h, None, 9).await.iter().map(|e| e.id).collect();
    assert!(ids.is_sorted() && ids[0].ms == ids[2].ms, "{ids:?}");
    assert_eq!(ids.len(), 3);
}
