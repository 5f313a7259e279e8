use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use queue::Queue as _;
use queue::id::{Call, WorkerId};
use queue::operation::Taken;
use relay::delivery::OutcomeKind;

use crate::receiver::{Answer, Phase, Receiver};
use crate::world::{
    SENDER, TIMING, World, is_deferred, is_delivered, is_notified, message, message_with, settings,
};

#[tokio::test]
async fn content_arrives_octet_for_octet() {
    let receiver = Receiver::accepting().await;
    let mut world = World::new(receiver.address);
    let long = [b"Subject: long\r\n\r\n".as_slice(), &[b'x'; 998], b"\r\n"].concat();
    let large = [
        b"Subject: large\r\n\r\n".as_slice(),
        &b".dots and \xe9\r\n".repeat(40_000),
    ]
    .concat();
    let bodies: [&[u8]; 5] = [
        b"Subject: dots\r\n\r\n.\r\n..\r\n.a\r\n",
        b"Subject: empty\r\n\r\n",
        b"Subject: 8-bit\r\n\r\ngr\xc3\xbc\xc3\x9fe\r\n",
        &long,
        &large,
    ];
    for body in bodies {
        world.enqueue(message_with(&["r@example.org"], body)).await;
        let seen = world.until("delivered", is_delivered).await;
        let OutcomeKind::Delivered { host, reply } = &seen[0].kind else {
            panic!("{seen:?}")
        };
        assert_eq!(
            (host.as_str(), reply.as_str()),
            ("127.0.0.1", "250 2.6.0 taken")
        );
    }
    let received = receiver.until(bodies.len()).await;
    for (body, received) in bodies.iter().zip(received) {
        assert!(*body == received.content, "{}", received.text().len());
        assert_eq!(received.reverse_path, SENDER);
        assert_eq!(received.forward_paths, ["r@example.org"]);
    }
    assert_eq!(
        receiver.connections(),
        1,
        "one after the other, they share a connection"
    );
    world.until_empty().await;
    assert!(
        world
            .registry
            .encode()
            .contains("kurier_deliveries_total{outcome=\"delivered\"} 5")
    );
}

#[tokio::test]
async fn the_journal_has_what_was_said_of_each_recipient() {
    let busy = AtomicUsize::new(0);
    let receiver = Receiver::with(move |phase, line| match phase {
        Phase::Rcpt if line.contains("later@") && busy.fetch_add(1, Ordering::Relaxed) == 0 => {
            Answer::Reply("450 4.2.0 come back later")
        }
        Phase::Rcpt if line.contains("nobody@") => Answer::Reply("550 5.1.1 no such user here"),
        _ => Answer::Accept,
    })
    .await;
    let mut settings = settings(&receiver.address.ip().to_string(), receiver.address.port());
    settings.journal = true;
    let world = World::with(settings, TIMING);
    world.queue.model().keep_journal(100);
    let recipients = ["yes@example.org", "later@example.org", "nobody@example.org"];
    let id = world.enqueue(message(&recipients)).await;
    receiver.until(3).await;
    world.until_empty().await;

    let entries = world.worker.journal(None, 100).await.unwrap();
    let outcomes = entries.iter().flat_map(|entry| &entry.outcomes);
    let mut lines = Vec::new();
    for outcome in outcomes {
        let line: serde_json::Value = serde_json::from_slice(outcome).unwrap();
        if line["message"] != id.to_string() {
            // The notification is a message of its own.
            assert_eq!(line["sender"], "");
            continue;
        }
        assert_eq!(
            (&line["tenant"], &line["sender"]),
            (&"t".into(), &SENDER.into())
        );
        for recipient in line["recipients"].as_array().unwrap() {
            let field = |name: &str| recipient[name].as_str().unwrap_or_default().to_owned();
            lines.push((
                line["attempt"].as_u64().unwrap(),
                [
                    field("address"),
                    field("outcome"),
                    field("status"),
                    field("host"),
                ]
                .join(" "),
            ));
        }
    }
    lines.sort();
    let expected = [
        (1, "later@example.org deferred 4.2.0 127.0.0.1"),
        (1, "nobody@example.org failed 5.1.1 127.0.0.1"),
        (1, "yes@example.org delivered 2.6.0 127.0.0.1"),
        (2, "later@example.org delivered 2.6.0 127.0.0.1"),
    ];
    assert_eq!(
        lines,
        expected.map(|(attempt, line)| (attempt, line.to_owned()))
    );
}

#[tokio::test]
async fn each_recipient_has_an_outcome_of_its_own() {
    let busy = AtomicUsize::new(0);
    let receiver = Receiver::with(move |phase, line| match phase {
        Phase::Rcpt if line.contains("later@") && busy.fetch_add(1, Ordering::Relaxed) == 0 => {
            Answer::Reply("450 4.2.0 come back later")
        }
        Phase::Rcpt if line.contains("nobody@") => Answer::Reply("550 5.1.1 no such user here"),
        _ => Answer::Accept,
    })
    .await;
    let mut world = World::new(receiver.address);
    let recipients = ["yes@example.org", "later@example.org", "nobody@example.org"];
    let id = world.enqueue(message(&recipients)).await;
    let received = receiver.until(3).await;
    world.until_empty().await;

    let mut outcomes: Vec<_> = world.rest();
    outcomes.retain(|outcome| outcome.message == id);
    let kinds = |recipient: &str| -> Vec<OutcomeKind> {
        let of = outcomes
            .iter()
            .filter(|outcome| outcome.recipient == recipient);
        of.map(|outcome| outcome.kind.clone()).collect()
    };
    assert!(matches!(
        &kinds("yes@example.org")[..],
        [OutcomeKind::Delivered { .. }]
    ));
    let later = kinds("later@example.org");
    let [
        OutcomeKind::Deferred { reply, due_in },
        OutcomeKind::Delivered { .. },
    ] = &later[..]
    else {
        panic!("{later:?}");
    };
    assert_eq!(reply, "450 4.2.0 come back later");
    assert!((24..=36).contains(&due_in.as_millis()), "{due_in:?}");
    let nobody = kinds("nobody@example.org");
    let [OutcomeKind::Failed { reply }, OutcomeKind::Notified { .. }] = &nobody[..] else {
        panic!("{nobody:?}");
    };
    assert_eq!(reply, "550 5.1.1 no such user here");

    let to = |path: &str| {
        received
            .iter()
            .filter(|r| r.forward_paths == [path])
            .count()
    };
    assert_eq!((to("yes@example.org"), to("later@example.org")), (1, 1));
    let notification = received
        .iter()
        .find(|r| r.forward_paths == [SENDER])
        .unwrap();
    assert_eq!(notification.reverse_path, "", "nothing bounces a bounce");
    let text = notification.text();
    for expected in [
        "Final-Recipient: rfc822; nobody@example.org\r\n",
        "Action: failed\r\n",
        "Status: 5.1.1\r\n",
        "no such user here",
        "Subject: hello\r\n",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(
        !text.contains("later@example.org") && !text.contains("yes@example.org"),
        "{text}"
    );
}

#[tokio::test]
async fn failures_of_notifications_tell_nobody() {
    let receiver = Receiver::with(|phase, _| match phase {
        Phase::Dot => Answer::Reply("554 5.6.0 not this"),
        _ => Answer::Accept,
    })
    .await;
    let mut world = World::new(receiver.address);
    let mut bounce = message(&["r@example.org"]);
    bounce.header.reverse_path.clear();
    world.enqueue(bounce).await;
    let seen = world
        .until("failed", |kind| matches!(kind, OutcomeKind::Failed { .. }))
        .await;
    world.until_empty().await;
    assert_eq!((seen.len(), world.rest().len()), (1, 0));
}

/// Whatever goes wrong at whatever moment: it is deferred and delivered later, once.
#[tokio::test]
async fn every_phase_can_go_wrong() {
    for phase in [
        Phase::Greeting,
        Phase::Ehlo,
        Phase::Mail,
        Phase::Rcpt,
        Phase::Data,
        Phase::Dot,
    ] {
        for answer in [
            Answer::Last("421 4.3.2 going down"),
            Answer::Reply("451 4.3.0 not now"),
            Answer::Close,
        ] {
            let what = format!("{answer:?} at {phase:?}");
            let once = AtomicUsize::new(0);
            let receiver = Receiver::with(move |at, _| {
                if at == phase && once.fetch_add(1, Ordering::Relaxed) == 0 {
                    answer.clone()
                } else {
                    Answer::Accept
                }
            })
            .await;
            let mut world = World::new(receiver.address);
            world.enqueue(message(&["r@example.org"])).await;
            let seen = world.until(&what, is_delivered).await;
            let deferred = seen
                .iter()
                .filter(|outcome| is_deferred(&outcome.kind))
                .count();
            assert!(deferred >= 1, "{what}: {seen:?}");
            world.until_empty().await;
            assert_eq!(receiver.received().len(), 1, "{what}");
        }
    }
}

/// The one case in which a duplicate cannot be avoided (RFC 1047).
#[tokio::test]
async fn a_lost_reply_to_the_dot_is_the_only_duplicate() {
    let once = AtomicUsize::new(0);
    let receiver = Receiver::with(move |at, _| {
        if at == Phase::Dot && once.fetch_add(1, Ordering::Relaxed) == 0 {
            Answer::TakeAndClose
        } else {
            Answer::Accept
        }
    })
    .await;
    let mut world = World::new(receiver.address);
    world.enqueue(message(&["r@example.org"])).await;
    let seen = world.until("delivered", is_delivered).await;
    let OutcomeKind::Deferred { reply, .. } = &seen[0].kind else {
        panic!("{seen:?}")
    };
    assert!(
        reply.contains("in reply to the end of the message"),
        "{reply}"
    );
    world.until_empty().await;
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn what_expires_is_returned_with_the_last_reply() {
    let receiver = Receiver::with(|phase, line| match phase {
        Phase::Rcpt if line.contains("r@example.org") => Answer::Reply("450 4.7.1 greylisted"),
        _ => Answer::Accept,
    })
    .await;
    let mut world = World::new(receiver.address);
    let mut short = message(&["r@example.org"]);
    short.header.lifetime_ms = 400;
    world.enqueue(short).await;
    let seen = world.until("notified", is_notified).await;
    assert!(
        seen.iter()
            .filter(|outcome| is_deferred(&outcome.kind))
            .count()
            >= 2,
        "{seen:?}"
    );
    let expired = seen.iter().find_map(|outcome| match &outcome.kind {
        OutcomeKind::Expired { reply } => Some(reply.clone()),
        _ => None,
    });
    assert_eq!(expired.as_deref(), Some("450 4.7.1 greylisted"));
    let text = receiver.until(1).await[0].text();
    for expected in [
        "Status: 4.4.7\r\n",
        "greylisted",
        "Final-Recipient: rfc822; r@example.org",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    world.until_empty().await;
}

#[tokio::test]
async fn the_sender_of_a_late_message_is_told_once() {
    let receiver = Receiver::with(|phase, line| match phase {
        Phase::Rcpt if line.contains("r@example.org") => Answer::Reply("450 4.7.1 greylisted"),
        _ => Answer::Accept,
    })
    .await;
    let settings = relay::delivery::Settings {
        delay_notice: Some(Duration::from_millis(100)),
        ..settings(&receiver.address.ip().to_string(), receiver.address.port())
    };
    let mut world = World::with(settings, TIMING);
    let id = world.enqueue(message(&["r@example.org"])).await;
    let notice = receiver.until(1).await.remove(0);
    let text = notice.text();
    for expected in [
        "Subject: Your message is delayed\r\n",
        "Action: delayed\r\nStatus: 4.7.1\r\n",
        "\r\nWill-Retry-Until: ",
        "Final-Recipient: rfc822; r@example.org",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert_eq!(
        (
            notice.reverse_path.as_str(),
            notice.forward_paths[0].as_str()
        ),
        ("", SENDER)
    );
    // It goes on, and nothing more is said.
    let mut deferrals = 0;
    while deferrals < 5 {
        let seen = world.until("deferred", is_deferred).await;
        deferrals += seen.iter().filter(|outcome| outcome.message == id).count();
    }
    assert_eq!(receiver.until(1).await.len(), 1);
}

#[tokio::test]
async fn a_full_transaction_is_no_deferral() {
    let taken = Arc::new(AtomicUsize::new(0));
    let receiver = Receiver::with({
        let taken = Arc::clone(&taken);
        move |phase, _| match phase {
            Phase::Mail => {
                taken.store(0, Ordering::Relaxed);
                Answer::Accept
            }
            Phase::Rcpt if taken.fetch_add(1, Ordering::Relaxed) >= 2 => {
                Answer::Reply("452 4.5.3 too many recipients")
            }
            _ => Answer::Accept,
        }
    })
    .await;
    let mut world = World::new(receiver.address);
    let recipients: Vec<String> = (0..5).map(|n| format!("r{n}@example.org")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    world.enqueue(message(&recipients)).await;
    let received = receiver.until(3).await;
    world.until_empty().await;
    let paths: Vec<_> = received
        .iter()
        .flat_map(|r| r.forward_paths.clone())
        .collect();
    assert_eq!(paths, recipients);
    assert!(
        world
            .rest()
            .iter()
            .all(|outcome| is_delivered(&outcome.kind))
    );
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn transactions_have_at_most_so_many_recipients() {
    let receiver = Receiver::accepting().await;
    let settings = relay::delivery::Settings {
        recipients_per_transaction: 2,
        ..settings("127.0.0.1", receiver.address.port())
    };
    let world = World::with(settings, TIMING);
    world
        .enqueue(message(&[
            "a@example.org",
            "b@example.org",
            "c@example.org",
        ]))
        .await;
    let received = receiver.until(2).await;
    assert_eq!(received[0].forward_paths.len(), 2);
    assert_eq!(received[1].forward_paths, ["c@example.org"]);
}

#[tokio::test]
async fn what_a_peer_cannot_take_fails_at_once() {
    let receiver = Receiver::at("127.0.0.1:0", "250-SIZE 100\r\n", None, |_, _| {
        Answer::Accept
    })
    .await;
    for (body, status) in [
        (b"Subject: x\r\n\r\n\xe9\r\n".to_vec(), "5.6.3"),
        (
            [b"Subject: x\r\n\r\n".as_slice(), &[b'x'; 200], b"\r\n"].concat(),
            "5.3.4",
        ),
    ] {
        let mut world = World::new(receiver.address);
        let mut message = message_with(&["r@example.org"], &body);
        // To whom the notification goes does not matter here.
        message.header.reverse_path.clear();
        world.enqueue(message).await;
        let seen = world
            .until(status, |kind| matches!(kind, OutcomeKind::Failed { .. }))
            .await;
        assert_eq!(seen.len(), 1, "{seen:?}");
        world.until_empty().await;
    }
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn content_that_would_break_the_line_rule_is_never_sent() {
    let receiver = Receiver::accepting().await;
    let mut world = World::new(receiver.address);
    let mut smuggling = message(&["r@example.org"]);
    smuggling.content = vec![Bytes::from_static(
        b"Subject: x\r\n\r\nx\n.\nMAIL FROM:<a@b>\r\n",
    )];
    world.enqueue(smuggling).await;
    world.until("notified", is_notified).await;
    let received = receiver.until(1).await;
    world.until_empty().await;
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].forward_paths, [SENDER]);
    assert!(
        received[0].text().contains("Status: 5.6.0\r\n"),
        "{}",
        received[0].text()
    );
}

#[tokio::test]
async fn connections_are_kept_as_long_as_they_may() {
    let receiver = Receiver::accepting().await;
    let settings = relay::delivery::Settings {
        messages_per_connection: 3,
        ..settings("127.0.0.1", receiver.address.port())
    };
    let mut world = World::with(settings, TIMING);
    for _ in 0..7 {
        world.enqueue(message(&["r@example.org"])).await;
        world.until("delivered", is_delivered).await;
    }
    receiver.until(7).await;
    assert_eq!(receiver.connections(), 3);
}

#[tokio::test]
async fn a_connection_that_ended_while_idle_costs_nothing() {
    let receiver = Receiver::with(|phase, _| match phase {
        Phase::Dot => Answer::TakeAndLeave,
        _ => Answer::Accept,
    })
    .await;
    let mut world = World::new(receiver.address);
    for _ in 0..10 {
        world.enqueue(message(&["r@example.org"])).await;
        let seen = world.until("delivered", is_delivered).await;
        assert_eq!(seen.len(), 1, "{seen:?}");
    }
    world.until_empty().await;
    assert_eq!(
        (receiver.received().len(), receiver.connections()),
        (10, 10)
    );
}

#[tokio::test]
async fn a_changed_route_leads_queued_mail_elsewhere() {
    let refusing = Receiver::with(|_, _| Answer::Last("421 4.3.2 gone for good")).await;
    let accepting = Receiver::accepting().await;
    let mut world = World::new(refusing.address);
    world.enqueue(message(&["r@example.org"])).await;
    world.until("deferred", is_deferred).await;
    let changed = settings("127.0.0.1", accepting.address.port());
    world.settings.send_replace(Arc::new(changed));
    world.until("delivered", is_delivered).await;
    accepting.until(1).await;
    world.until_empty().await;
}

/// A record that this program cannot read is not its to decide about, neither in its turn nor at the
/// end of its lifetime.
#[tokio::test]
async fn what_cannot_be_read_is_held_and_neither_lost_nor_returned() {
    let receiver = Receiver::accepting().await;
    let mut world = World::new(receiver.address);
    let (now, expired) = (message(&["r@example.org"]), {
        let mut expired = message(&["r@example.org"]);
        expired.header.lifetime_ms = 0;
        expired
    });
    let messages = [now, expired];
    for message in &messages {
        world.queue.renew(message.id);
    }
    // Enqueued by another process: this one has not seen them.
    let other = WorkerId::random();
    let model = world.queue.model();
    model.register(other).await.unwrap();
    let call = Call {
        worker: other,
        lane: 0,
        n: 1,
    };
    let taken = model.enqueue(call, &messages).await.unwrap();
    assert_eq!(taken, Taken::Ran(()));
    let held = async {
        while world.counts().await.held < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), held)
        .await
        .expect("both are held");
    assert!(world.rest().is_empty(), "nobody is told anything");
    assert_eq!(receiver.connections(), 0);
    let metrics = world.registry.encode();
    assert!(
        metrics.contains("kurier_delivery_unreadable_total 2"),
        "{metrics}"
    );
    let ids = messages.each_ref().map(|message| message.id);
    let records = model.read(&ids).await.unwrap();
    assert!(records.iter().all(Option::is_some));
}
