//! What becomes of a task, by the outcomes of its recipients.

use std::time::Duration;

use bytes::Bytes;
use queue::operation::{Begun, Next, Rest, Settlement, Taken};
use queue::record::Resolution::{Delivered, Failed};

use crate::caller::{deferred, failed, given_back};
use crate::harness::Harness;
use crate::redis_fixture::{delivered, handles_of, message, message_of, slots, tasks};

const MINUTE: Duration = Duration::from_secs(60);

/// Of a task with three recipients.
fn of_three(handle: &queue::id::Handle, done: &[u16], rest: Rest) -> Settlement {
    Settlement {
        delivered: done.to_vec(),
        recipients: 3,
        rest,
        ..delivered(handle)
    }
}

fn later() -> Rest {
    Rest::Deferred {
        due_in: MINUTE,
        notes: Bytes::from_static(b"\0\xff 450"),
    }
}

pub(crate) async fn a_record_lives_until_the_last_of_its_tasks(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = [
        message(&["example.net", "example.org", "example.com"]),
        message(&["example.net"]),
    ];
    worker.enqueue(&sent).await;
    let ids = sent.each_ref().map(|message| message.id);
    let there = async || {
        let records = h.read(&ids).await;
        records.iter().map(Option::is_some).collect::<Vec<_>>()
    };
    worker.claim(9, 9).await;
    let handles = handles_of(&sent[0]);
    worker.settle(vec![failed(&handles[1], None)]).await;
    assert_eq!(there().await, [true, true]);
    worker
        .settle(vec![
            deferred(&handles[0], Duration::ZERO),
            delivered(&handles[2]),
        ])
        .await;
    worker
        .settle(handles_of(&sent[1]).iter().map(delivered).collect())
        .await;
    assert_eq!(there().await, [true, false]);
    let reply = worker.claim(9, 9).await;
    assert_eq!(tasks(&reply).len(), 1);
    worker.deliver_all(&reply).await;
    assert_eq!(there().await, [false, false]);
}

pub(crate) async fn hastened_tasks_of_a_route_are_due_at_once(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent: Vec<_> = (0..5)
        .map(|_| message(&["example.net", "example.org"]))
        .collect();
    worker.enqueue(&sent).await;
    let reply = worker.claim(20, 9).await;
    worker.release(slots(&reply)).await;
    let claimed = tasks(&reply).into_iter().map(|task| task.handle);
    let (stays, deferrals): (Vec<_>, Vec<_>) =
        claimed.partition(|handle| handle.task.message == sent[0].id);
    worker
        .settle(
            deferrals
                .iter()
                .map(|handle| deferred(handle, MINUTE))
                .collect(),
        )
        .await;
    assert_eq!(h.places().await, (0, 8, 2));
    // Neither another route's, nor what is claimed; as many as are asked for; repeated, the others.
    assert_eq!(h.queue().hasten("mx:example.com", 9).await.unwrap(), 0);
    for (max, hastened) in [(3, 3), (3, 1), (3, 0)] {
        let count = h.queue().hasten("mx:example.net", max).await.unwrap();
        assert_eq!(count, hastened);
    }
    assert_eq!(h.places().await, (4, 4, 2));
    let reply = worker.claim(20, 9).await;
    let claimed = tasks(&reply);
    assert_eq!(claimed.len(), 4);
    for task in &claimed {
        assert_eq!(task.handle.queue.route, "mx:example.net");
        assert_eq!(task.state.attempts, 1);
    }
    worker.settle(stays.iter().map(delivered).collect()).await;
    worker.deliver_all(&reply).await;
    h.pass(MINUTE);
    worker.beat().await;
    let reply = worker.claim(20, 9).await;
    assert_eq!(tasks(&reply).len(), 4);
    worker.deliver_all(&reply).await;
    assert_eq!(h.places().await, (0, 0, 0));
}

pub(crate) async fn a_deferral_keeps_delivered_marks(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = message(&["example.net"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handle = handles_of(&sent).remove(0);
    let mut expected = Vec::new();
    for (attempt, recipient) in [(1, 2), (2, 0)] {
        worker.claim(9, 9).await;
        assert!(
            worker
                .settle(vec![of_three(&handle, &[recipient], later())])
                .await
                .stale
                .is_empty()
        );
        h.live(&[&worker], MINUTE).await;
        expected.push((recipient, Delivered));
        expected.sort_by_key(|(recipient, _)| *recipient);
        let claimed = worker
            .claim_by_name(std::slice::from_ref(&handle))
            .await
            .named
            .remove(0);
        assert_eq!(claimed.state.attempts, attempt);
        assert_eq!(claimed.state.resolved, expected);
        assert_eq!(&claimed.state.notes[..], b"\0\xff 450");
        worker
            .settle(vec![of_three(&handle, &[], Rest::GivenBack)])
            .await;
    }
    // A deferral of a task that has nobody left to wait for is its end.
    worker.claim(9, 9).await;
    worker.settle(vec![of_three(&handle, &[1], later())]).await;
    assert_eq!(h.places().await, (0, 0, 0));
    assert!(h.read(&[sent.id]).await[0].is_none());
}

pub(crate) async fn a_claim_that_is_kept_goes_on_with_the_others(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = message(&["example.net"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handle = handles_of(&sent).remove(0);
    let reply = worker.claim(9, 9).await;
    assert_eq!(worker.begin(&handle).await, Begun::Begun);
    for recipient in [2, 0] {
        let kept = of_three(&handle, &[recipient], Rest::Kept);
        assert!(worker.settle(vec![kept]).await.stale.is_empty());
        assert!(worker.check(&handle).await);
        assert_eq!(h.places().await, (0, 0, 1));
    }
    // Nobody is left.
    let last = of_three(&handle, &[1], Rest::Kept);
    assert!(worker.settle(vec![last]).await.stale.is_empty());
    worker.release(slots(&reply)).await;
    assert_eq!(h.places().await, (0, 0, 0));
    assert!(h.read(&[sent.id]).await[0].is_none());
}

pub(crate) async fn a_kept_claim_leaves_its_marks_to_whoever_takes_over(h: impl Harness) {
    let (mut worker, mut other) = (h.caller().await, h.caller().await);
    let sent = message(&["example.net"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handle = handles_of(&sent).remove(0);
    worker.claim(9, 9).await;
    let kept = of_three(&handle, &[1], Rest::Kept);
    worker.settle(vec![kept]).await;
    h.live(&[&other], MINUTE).await;
    let claimed = tasks(&other.claim(9, 9).await).remove(0);
    assert_eq!(claimed.state.resolved, [(1, Delivered)]);
    assert_eq!(claimed.state.attempts, 0);
    // Kept by somebody else it is not, but who has the message is a fact.
    let mut late = h.caller().await;
    let kept = of_three(&handle, &[0], Rest::Kept);
    assert_eq!(late.settle(vec![kept]).await.stale, [0]);
    assert!(!other.check(&handle).await);
    let claimed = tasks(&other.claim(9, 9).await).remove(0);
    assert_eq!(claimed.state.resolved, [(0, Delivered), (1, Delivered)]);
}

pub(crate) async fn an_outcome_never_changes(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = message(&["example.net"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handle = handles_of(&sent).remove(0);
    worker.claim(9, 9).await;
    let first = Settlement {
        failed: vec![1],
        ..of_three(&handle, &[0], Rest::GivenBack)
    };
    worker.settle(vec![first]).await;
    worker.claim(9, 9).await;
    let other = Settlement {
        failed: vec![0],
        ..of_three(&handle, &[1], Rest::GivenBack)
    };
    assert!(worker.settle(vec![other]).await.stale.is_empty());
    let claimed = tasks(&worker.claim(9, 9).await).remove(0);
    assert_eq!(claimed.state.resolved, [(0, Delivered), (1, Failed)]);
    assert_eq!(claimed.state.attempts, 0);
}

pub(crate) async fn a_notification_is_enqueued_exactly_once(h: impl Harness) {
    let (mut worker, mut other) = (h.caller().await, h.caller().await);
    let sent = message(&["example.net"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handle = handles_of(&sent).remove(0);
    let notification = message_of("b", &["sender.example", "copy.example"], &[b"gone\r\n"]);
    let settlement = failed(&handle, Some(notification.clone()));
    let waits = async || h.read(&[notification.id]).await[0].is_some();

    // Not by who does not hold the task.
    assert_eq!(other.settle(vec![settlement.clone()]).await.stale, [0]);
    let reply = worker.claim(9, 9).await;
    assert_eq!(other.settle(vec![settlement.clone()]).await.stale, [0]);
    assert!(!waits().await);
    let next = Next {
        settlements: vec![settlement.clone()],
        releases: slots(&reply),
        ..worker.next()
    };
    assert!(worker.run(&next).await.stale.is_empty());
    assert!(waits().await);
    assert_eq!(h.places().await, (2, 0, 0));
    // Not again: by the same call, by another one, by somebody else.
    assert_eq!(worker.take(&next).await, Taken::Refused);
    assert_eq!(worker.settle(vec![settlement.clone()]).await.stale, [0]);
    assert_eq!(other.settle(vec![settlement]).await.stale, [0]);
    assert_eq!(h.places().await, (2, 0, 0));

    // A derived id that is there already is the same notification, also while it is claimed.
    let claimed = worker.claim(9, 9).await;
    assert_eq!(tasks(&claimed).len(), 2);
    let second = message(&["example.net"]);
    worker.enqueue(std::slice::from_ref(&second)).await;
    worker.claim(9, 9).await;
    let settlement = failed(&handles_of(&second)[0], Some(notification.clone()));
    assert!(worker.settle(vec![settlement]).await.stale.is_empty());
    assert_eq!(h.places().await, (0, 0, 2));
    worker.deliver_all(&claimed).await;
    assert!(!waits().await);
}

pub(crate) async fn delivered_by_somebody_else_ends_a_waiting_task(h: impl Harness) {
    let (mut worker, mut other) = (h.caller().await, h.caller().await);
    let sent = message(&["example.net", "example.org"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handles = handles_of(&sent);
    worker.claim(9, 9).await;
    worker
        .settle(vec![given_back(&handles[0]), deferred(&handles[1], MINUTE)])
        .await;
    // One that is due and one that is not.
    assert_eq!(other.settle(vec![delivered(&handles[0])]).await.stale, [0]);
    assert_eq!(h.places().await, (0, 1, 0));
    assert!(h.read(&[sent.id]).await[0].is_some());
    assert_eq!(other.settle(vec![delivered(&handles[1])]).await.stale, [0]);
    assert_eq!(h.places().await, (0, 0, 0));
    assert!(h.read(&[sent.id]).await[0].is_none());
    // What is not there (any more) is nothing.
    let unknown = handles_of(&message(&["example.net"]));
    let settlements = vec![delivered(&handles[0]), delivered(&unknown[0])];
    assert_eq!(other.settle(settlements).await.stale, [0, 1]);
    assert_eq!(h.places().await, (0, 0, 0));
}

pub(crate) async fn delivered_by_somebody_else_takes_a_recipient_from_a_waiting_task(
    h: impl Harness,
) {
    let (mut worker, mut other) = (h.caller().await, h.caller().await);
    let sent = message(&["example.net"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handle = handles_of(&sent).remove(0);
    worker.claim(9, 9).await;
    worker.settle(vec![of_three(&handle, &[], later())]).await;
    for recipient in [1, 0] {
        let stale = of_three(&handle, &[recipient], Rest::None);
        assert_eq!(other.settle(vec![stale]).await.stale, [0]);
        // It stays where it is, for as long as it was to stay.
        assert_eq!(h.places().await, (0, 1, 0));
    }
    h.live(&[&worker, &other], MINUTE).await;
    let claimed = tasks(&worker.claim(9, 9).await).remove(0);
    assert_eq!(claimed.state.resolved, [(0, Delivered), (1, Delivered)]);
    assert_eq!(claimed.state.attempts, 1);
    worker
        .settle(vec![of_three(&handle, &[2], Rest::None)])
        .await;
    assert_eq!(h.places().await, (0, 0, 0));
}

/// Who holds the task finds out at its dot check.
pub(crate) async fn delivered_by_somebody_else_revokes_a_claim(h: impl Harness) {
    let (mut worker, mut other) = (h.caller().await, h.caller().await);
    let sent = [message(&["example.net"]), message(&["example.net"])];
    worker.enqueue(&sent).await;
    let [begun, claimed] = sent.each_ref().map(|message| handles_of(message).remove(0));
    worker.claim(9, 9).await;
    worker.begin(&begun).await;
    for handle in [&begun, &claimed] {
        let stale = of_three(handle, &[1], Rest::None);
        assert_eq!(other.settle(vec![stale.clone()]).await.stale, [0]);
        assert!(!worker.check(handle).await);
        // Said again it takes nothing from anybody.
        worker.claim(9, 9).await;
        assert!(worker.check(handle).await);
        assert_eq!(other.settle(vec![stale]).await.stale, [0]);
        assert!(worker.check(handle).await);
        worker
            .settle(vec![of_three(handle, &[], Rest::GivenBack)])
            .await;
    }
    worker
        .settle(vec![of_three(&begun, &[], Rest::GivenBack)])
        .await;
    let states: Vec<_> = tasks(&worker.claim(9, 9).await)
        .into_iter()
        .map(|task| (task.handle, task.state.reclaimed_begun, task.state.resolved))
        .collect();
    let expected = [
        (begun, true, vec![(1, Delivered)]),
        (claimed.clone(), false, vec![(1, Delivered)]),
    ];
    assert_eq!(states, expected);
    // The last recipients, and it is over.
    other
        .settle(vec![of_three(&claimed, &[0, 2], Rest::None)])
        .await;
    assert!(!worker.check(&claimed).await);
    assert_eq!(h.places().await, (0, 0, 1));
}

pub(crate) async fn only_delivered_counts_without_the_fence(h: impl Harness) {
    let (mut worker, mut other) = (h.caller().await, h.caller().await);
    let sent = message(&["example.net"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handle = handles_of(&sent).remove(0);
    worker.claim(9, 9).await;
    let mixed = Settlement {
        failed: vec![0],
        notification: Some(message(&["example.org"])),
        ..of_three(&handle, &[2], later())
    };
    assert_eq!(other.settle(vec![mixed]).await.stale, [0]);
    assert_eq!(h.places().await, (1, 0, 0));
    let claimed = tasks(&worker.claim(9, 9).await).remove(0);
    assert_eq!(claimed.state.resolved, [(2, Delivered)]);
    assert_eq!(
        (claimed.state.attempts, &claimed.state.notes[..]),
        (0, &b""[..])
    );
    // A record that cannot be read: who holds it ends it without knowing its recipients.
    let unknown = Settlement {
        delivered: Vec::new(),
        recipients: 0,
        ..delivered(&handle)
    };
    assert_eq!(other.settle(vec![unknown.clone()]).await.stale, [0]);
    assert_eq!(h.places().await, (0, 0, 1));
    assert!(worker.settle(vec![unknown]).await.stale.is_empty());
    assert_eq!(h.places().await, (0, 0, 0));
}

pub(crate) async fn settlements_of_one_task_in_one_call_run_in_order(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = [message(&["example.net"]), message(&["example.org"])];
    worker.enqueue(&sent).await;
    let [one, two] = sent.each_ref().map(|message| handles_of(message).remove(0));
    worker.claim(9, 9).await;
    // Given back, then delivered without the fence, which is a fact all the same.
    let settlements = vec![given_back(&one), delivered(&two), delivered(&one)];
    assert_eq!(worker.settle(settlements).await.stale, [2]);
    assert_eq!(h.places().await, (0, 0, 0));

    worker.enqueue(&[message(&["example.net"])]).await;
    let one = tasks(&worker.claim(9, 9).await).remove(0).handle;
    let settlements = vec![deferred(&one, MINUTE), failed(&one, None), given_back(&one)];
    assert_eq!(worker.settle(settlements).await.stale, [1, 2]);
    assert_eq!(h.places().await, (0, 1, 0));
}

pub(crate) async fn a_record_comes_back_as_it_was(h: impl Harness) {
    let mut worker = h.caller().await;
    let slices: &[&[u8]] = &[b"..stuffed\r\n", b"", b"\xff\0\r\n"];
    let sent = [
        message_of("a|%\u{7}é", &["example.net", "bücher.example"], slices),
        message(&[]),
        message(&["example.org"]),
    ];
    worker.enqueue(&[sent[0].clone(), sent[2].clone()]).await;
    let records = h.read(&sent.each_ref().map(|message| message.id)).await;
    let [Some(Ok(first)), None, Some(Ok(_))] = &records[..] else {
        panic!("{records:?}")
    };
    assert_eq!(first.header, sent[0].header);
    assert_eq!(first.content.concat(), sent[0].content.concat());
    let reply = worker.claim(9, 9).await;
    let mut handles: Vec<_> = tasks(&reply).into_iter().map(|task| task.handle).collect();
    handles.sort();
    let mut expected = [handles_of(&sent[0]), handles_of(&sent[2])].concat();
    expected.sort();
    assert_eq!(handles, expected);
    assert!(h.read(&[]).await.is_empty());
}
