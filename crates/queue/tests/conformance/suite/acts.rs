//! What administrators do to tasks.

use std::time::Duration;

use queue::operation::{Acted, Action, Notice, Settlement};

use crate::caller::{deferred, given_back};
use crate::harness::Harness;
use crate::redis_fixture::{delivered, handles_of, message, message_of, slots, tasks};

const MINUTE: Duration = Duration::from_secs(60);

fn dropped() -> Action {
    Action::Drop { notice: None }
}

pub(crate) async fn a_retried_task_is_due_at_once(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = message(&["example.net", "example.org", "example.com"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handles = handles_of(&sent);
    let reply = worker.claim(9, 9).await;
    worker.release(slots(&reply)).await;
    worker
        .settle(vec![deferred(&handles[0], MINUTE), given_back(&handles[1])])
        .await;
    assert_eq!(h.places().await, (1, 1, 1));
    let retried = worker.act(Action::Retry, &handles).await;
    assert_eq!(retried, [Acted::Done, Acted::Unchanged, Acted::Unchanged]);
    assert_eq!(h.places().await, (2, 0, 1));
    let mut attempts: Vec<_> = tasks(&worker.claim(9, 9).await)
        .iter()
        .map(|task| (task.handle.clone(), task.state.attempts))
        .collect();
    attempts.sort();
    assert_eq!(attempts, [(handles[0].clone(), 1), (handles[1].clone(), 0)]);
}

pub(crate) async fn a_dropped_task_ends_and_leaves_the_others(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = message(&["example.net", "example.org"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handles = handles_of(&sent);
    assert_eq!(worker.act(dropped(), &handles[..1]).await, [Acted::Done]);
    assert!(h.read(&[sent.id]).await[0].is_some());
    let reply = worker.claim(9, 9).await;
    assert_eq!(tasks(&reply)[0].handle, handles[1]);
    worker.settle(vec![given_back(&handles[1])]).await;
    let hold = Action::Hold {
        reason: "to be looked at".to_owned(),
    };
    worker.act(hold, &handles[1..]).await;
    let acted = worker.act(dropped(), &handles).await;
    assert_eq!(acted, [Acted::Missing, Acted::Done]);
    worker.release(slots(&reply)).await;
    assert_eq!(h.places().await, (0, 0, 0));
    assert!(h.read(&[sent.id]).await[0].is_none());
}

pub(crate) async fn a_dropped_task_that_is_claimed_ends_with_its_claim(h: impl Harness) {
    let (mut victim, mut worker) = (h.caller().await, h.caller().await);
    let sent: Vec<_> = (0..3).map(|_| message(&["example.net"])).collect();
    worker.enqueue(&sent).await;
    let handles: Vec<_> = sent.iter().flat_map(handles_of).collect();
    let ids: Vec<_> = sent.iter().map(|message| message.id).collect();
    assert_eq!(tasks(&victim.claim(20, 9).await).len(), 3);
    assert_eq!(worker.act(dropped(), &handles).await, [Acted::Pending; 3]);
    assert_eq!(worker.act(dropped(), &handles).await, [Acted::Unchanged; 3]);
    assert!(h.read(&ids).await.iter().all(Option::is_some));
    victim
        .settle(vec![deferred(&handles[0], MINUTE), given_back(&handles[1])])
        .await;
    assert_eq!(h.places().await, (0, 0, 1));
    assert_eq!(h.outlive(&worker).await, 1);
    assert_eq!(h.places().await, (0, 0, 0));
    assert!(h.read(&ids).await.iter().all(Option::is_none));
}

pub(crate) async fn a_drop_with_a_notice_enqueues_it_once(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = message(&["example.net"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handles = handles_of(&sent);
    let notice = message_of("b", &["sender.example", "copy.example"], &[b"gone\r\n"]);
    let drop = Action::Drop {
        notice: Some(Notice {
            message: notice.clone(),
            resolved: 0,
        }),
    };
    for acted in [Acted::Done, Acted::Missing] {
        assert_eq!(worker.act(drop.clone(), &handles).await, [acted]);
        assert_eq!(h.places().await, (2, 0, 0));
    }
    let [None, Some(Ok(record))] = &h.read(&[sent.id, notice.id]).await[..] else {
        panic!("the notice is there, the message has gone")
    };
    assert_eq!(record.content.concat(), b"gone\r\n");
    let reply = worker.claim(9, 9).await;
    assert_eq!(tasks(&reply).len(), 2);
    worker.deliver_all(&reply).await;
    assert!(h.read(&[notice.id]).await[0].is_none());
}

/// Nobody is told that a message did not arrive which did.
pub(crate) async fn an_outdated_notice_drops_nothing(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = message(&["example.net"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handles = handles_of(&sent);
    let notice = message_of("b", &["sender.example"], &[b"gone\r\n"]);
    let drop = |resolved| Action::Drop {
        notice: Some(Notice {
            message: notice.clone(),
            resolved,
        }),
    };
    worker.claim(9, 9).await;
    assert_eq!(worker.act(drop(0), &handles).await, [Acted::Refused]);
    let partly = Settlement {
        recipients: 2,
        ..deferred(&handles[0], MINUTE)
    };
    let partly = Settlement {
        delivered: vec![1],
        ..partly
    };
    worker.settle(vec![partly]).await;
    assert_eq!(worker.act(drop(0), &handles).await, [Acted::Refused]);
    assert_eq!(h.places().await, (0, 1, 0));
    assert!(h.read(&[notice.id]).await[0].is_none());
    assert_eq!(worker.act(drop(1), &handles).await, [Acted::Done]);
    assert_eq!(h.places().await, (1, 0, 0));
}

pub(crate) async fn acts_repeated_change_nothing(h: impl Harness) {
    let mut worker = h.caller().await;
    let sent = message(&["example.net"]);
    worker.enqueue(std::slice::from_ref(&sent)).await;
    let handles = handles_of(&sent);
    let hold = |reason: &str| Action::Hold {
        reason: reason.to_owned(),
    };
    for (action, acted) in [
        (Action::Retry, Acted::Unchanged),
        (Action::Release, Acted::Unchanged),
        (hold("first"), Acted::Done),
        (hold("second"), Acted::Unchanged),
        (Action::Retry, Acted::Unchanged),
        (Action::Release, Acted::Done),
        (Action::Release, Acted::Unchanged),
        (dropped(), Acted::Done),
        (dropped(), Acted::Missing),
        (hold("third"), Acted::Missing),
        (Action::Release, Acted::Missing),
        (Action::Retry, Acted::Missing),
    ] {
        assert_eq!(
            worker.act(action.clone(), &handles).await,
            [acted],
            "{action:?}"
        );
    }
    // The same tasks under a name of another queue are others.
    worker.enqueue(&[message(&["example.net"])]).await;
    let mut handle = tasks(&worker.claim(9, 9).await).remove(0).handle;
    worker.settle(vec![given_back(&handle)]).await;
    handle.queue.tenant = "b".to_owned();
    assert_eq!(worker.act(dropped(), &[handle]).await, [Acted::Missing]);
    assert!(worker.act(dropped(), &[]).await.is_empty());
    worker.settle(vec![delivered(&handles[0])]).await;
}
