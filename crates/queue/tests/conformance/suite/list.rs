//! What administrators see.

use std::time::Duration;

use queue::id::Handle;
use queue::operation::{Action, List, Page, Place, PlaceName, Seen};
use queue::record::Recipient;

use crate::caller::{Caller, deferred};
use crate::harness::Harness;
use crate::redis_fixture::{handles_of, message, message_of, tasks};

const MINUTE: Duration = Duration::from_secs(60);

/// All pages, each of so many looks.
async fn walk(h: &impl Harness, mut list: List) -> Vec<Seen> {
    let mut seen = Vec::new();
    for _ in 0..1000 {
        let Page { tasks, next } = h.queue().list(&list).await.expect("a page");
        assert!(tasks.len() <= usize::from(list.looks), "{list:?}");
        seen.extend(tasks);
        match next {
            Some(next) => {
                list.after = Some(next.to_string().parse().expect("its own written form"));
            }
            None => return seen,
        }
    }
    panic!("the list has no end: {list:?}")
}

fn handles(seen: &[Seen]) -> Vec<Handle> {
    let mut handles: Vec<_> = seen.iter().map(|seen| seen.handle.clone()).collect();
    handles.sort();
    handles
}

fn hold() -> Action {
    Action::Hold {
        reason: "looked at".to_owned(),
    }
}

/// Tasks of two tenants at three places, and some of them claimed, begun, deferred and held.
async fn populated(h: &impl Harness, worker: &mut Caller) -> Vec<Handle> {
    let domains = ["example.net", "example.org", "example.com"];
    let sent: Vec<_> = (0..8)
        .map(|n| message_of(if n < 4 { "a" } else { "b|%" }, &domains, &[b"x\r\n"]))
        .collect();
    worker.enqueue(&sent).await;
    let claimed = tasks(&worker.claim(4, 2).await);
    worker.begin(&claimed[0].handle).await;
    worker
        .settle(vec![deferred(&claimed[1].handle, MINUTE)])
        .await;
    h.live(&[&*worker], Duration::from_secs(5)).await;
    let mut all: Vec<_> = sent.iter().flat_map(handles_of).collect();
    all.sort();
    let waiting: Vec<_> = all
        .iter()
        .filter(|handle| claimed.iter().all(|claimed| claimed.handle != **handle))
        .step_by(4)
        .cloned()
        .collect();
    worker.act(hold(), &waiting).await;
    all
}

pub(crate) async fn pages_show_every_task_once_where_it_is(h: impl Harness) {
    let mut worker = h.caller().await;
    let all = populated(&h, &mut worker).await;
    let counts = h.counts().await;
    for looks in [1, 2, 3, 7, 1000] {
        let list = List {
            looks,
            ..List::default()
        };
        let seen = walk(&h, list).await;
        assert_eq!(handles(&seen), all, "{looks}");
        let of = |name| seen.iter().filter(move |seen| seen.place.name() == name);
        let found = [
            PlaceName::Ready,
            PlaceName::Deferred,
            PlaceName::InFlight,
            PlaceName::Held,
        ]
        .map(|name| of(name).count() as u64);
        assert_eq!(
            found,
            [counts.ready, counts.deferred, counts.in_flight, counts.held]
        );
        for seen in &seen {
            match &seen.place {
                Place::Deferred { due_in } => {
                    assert_eq!(*due_in, MINUTE - Duration::from_secs(5));
                    assert_eq!(seen.state.attempts, 1);
                }
                Place::Held { since } => {
                    assert!(since.is_zero());
                    assert_eq!(seen.state.hold.as_deref(), Some("looked at"));
                }
                Place::InFlight { by, .. } => assert_eq!(*by, worker.worker),
                Place::Ready { since } => assert_eq!(*since, Duration::from_secs(5)),
            }
        }
        let begun = |seen: &&Seen| matches!(seen.place, Place::InFlight { begun: true, .. });
        assert_eq!(seen.iter().filter(begun).count(), 1);
    }
}

pub(crate) async fn a_list_is_of_one_place_tenant_or_route(h: impl Harness) {
    let mut worker = h.caller().await;
    populated(&h, &mut worker).await;
    let all = walk(
        &h,
        List {
            looks: 1000,
            ..List::default()
        },
    )
    .await;
    let places = [None, Some(PlaceName::Ready), Some(PlaceName::Deferred)]
        .into_iter()
        .chain([Some(PlaceName::Held), Some(PlaceName::InFlight)]);
    for place in places {
        for tenant in [None, Some("a"), Some("b|%"), Some("")] {
            for route in [None, Some("mx:example.org"), Some("mx:example")] {
                let list = List {
                    place,
                    tenant: tenant.map(str::to_owned),
                    route: route.map(str::to_owned),
                    after: None,
                    looks: 2,
                };
                let is_wanted = |seen: &&Seen| {
                    let queue = &seen.handle.queue;
                    place.is_none_or(|place| seen.place.name() == place)
                        && tenant.is_none_or(|tenant| queue.tenant == tenant)
                        && route.is_none_or(|route| queue.route == route)
                };
                let expected: Vec<_> = all.iter().filter(is_wanted).cloned().collect();
                let found = walk(&h, list.clone()).await;
                assert_eq!(handles(&found), handles(&expected), "{list:?}");
            }
        }
    }
}

/// Many were enqueued in the same millisecond.
pub(crate) async fn a_page_begins_behind_a_task_that_has_gone(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent: Vec<_> = (0..40).map(|_| message(&["example.net"])).collect();
    worker.enqueue(&sent).await;
    let all: Vec<_> = sent.iter().flat_map(handles_of).collect();
    for place in [PlaceName::Ready, PlaceName::Held] {
        let mut list = List {
            place: Some(place),
            looks: 16,
            ..List::default()
        };
        let page = h.queue().list(&list).await.expect("a page");
        assert_eq!(page.tasks.len(), 16);
        let last = page.tasks.last().expect("a task").handle.clone();
        worker
            .act(Action::Drop { notice: None }, std::slice::from_ref(&last))
            .await;
        list.after = page.next;
        let rest = walk(&h, list).await;
        let mut seen = page.tasks;
        seen.extend(rest);
        let found = handles(&seen);
        let mut expected: Vec<_> = match place {
            PlaceName::Ready => all.clone(),
            _ => all[..30].to_vec(),
        };
        expected.retain(|handle| found.contains(handle) || *handle == last);
        assert_eq!(found, expected);
        let left = if place == PlaceName::Ready { 40 } else { 29 };
        assert!(found.len() >= left, "{} of {left}", found.len());
        // Held in the same millisecond, for the second round.
        worker.act(hold(), &all[..30]).await;
    }
}

pub(crate) async fn a_look_at_some_tasks_shows_those_that_are_there(h: impl Harness) {
    let mut worker = h.caller().await;
    let all = populated(&h, &mut worker).await;
    let list = List {
        looks: 1000,
        ..List::default()
    };
    let seen = walk(&h, list).await;
    let mut asked = all.clone();
    let gone = handles_of(&message(&["example.net"])).remove(0);
    asked.insert(1, gone);
    let mut elsewhere = all[0].clone();
    elsewhere.queue.class = "other".to_owned();
    asked.push(elsewhere);
    let looked = h.queue().look(&asked).await.expect("a reply");
    assert_eq!(looked.len(), asked.len());
    for (handle, looked) in asked.iter().zip(looked) {
        let expected = seen.iter().find(|seen| seen.handle == *handle);
        assert_eq!(looked.as_ref(), expected, "{handle:?}");
    }
    assert!(h.queue().look(&[]).await.expect("a reply").is_empty());
}

pub(crate) async fn headers_come_without_contents(h: impl Harness) {
    let mut worker = h.caller().await;
    let mut sent = [message(&["example.net"]), message(&["example.org"])];
    // One that is longer than what is looked at first.
    sent[1].header.tasks[0].recipients = (0..1000)
        .map(|n| Recipient {
            address: format!("user{n}@example.org"),
        })
        .collect();
    worker.enqueue(&sent).await;
    h.written().await;
    let ids = [sent[1].id, message(&["example.net"]).id, sent[0].id];
    let headers = h.queue().headers(&ids).await.expect("headers");
    let [Some(Ok(long)), None, Some(Ok(short))] = &headers[..] else {
        panic!("{headers:?}")
    };
    assert_eq!(*long, sent[1].header);
    assert_eq!(*short, sent[0].header);
    assert!(h.queue().headers(&[]).await.expect("none").is_empty());
}
