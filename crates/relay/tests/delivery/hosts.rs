use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use relay::delivery::{OutcomeKind, Retry, Settings};
use tokio::sync::watch;

use crate::name_server;
use crate::receiver::{Answer, Phase, Receiver};
use crate::world::{TIMING, World, is_deferred, is_delivered, message, settings};

/// A host with two addresses: one takes mail, the other does as `rule` says.
async fn pair(
    rule: impl Fn(Phase, &str) -> Answer + Send + Sync + 'static,
) -> (Receiver, Receiver, Settings) {
    // The second address has the port that the first happened to get; if it is taken there, another
    // first one is tried.
    let good = Receiver::accepting().await;
    let port = good.address.port();
    let bad = Receiver::at(
        &format!("127.0.0.2:{port}"),
        "250-PIPELINING\r\n",
        None,
        rule,
    )
    .await;
    let addresses = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
    let server = name_server::start(&[("pair.example", &addresses)]).await;
    let mut settings = settings("pair.example.", port);
    settings.resolver = nexthop::Settings::with_name_server(server);
    (good, bad, settings)
}

/// One host's trouble is not the mail's: the other one gets it, without a deferral.
#[tokio::test]
async fn the_next_host_is_tried_at_once() {
    for (phase, answer) in [
        (Phase::Greeting, Answer::Last("421 4.3.2 too busy")),
        (Phase::Greeting, Answer::Last("554 5.7.1 go away")),
        (Phase::Greeting, Answer::Close),
        (Phase::Ehlo, Answer::Last("421 4.3.2 too busy")),
        (Phase::Mail, Answer::Last("421 4.3.2 too busy")),
        (Phase::Rcpt, Answer::Last("421 4.3.2 too busy")),
        (Phase::Data, Answer::Last("421 4.3.2 too busy")),
        (Phase::Data, Answer::Close),
        (Phase::Dot, Answer::Last("421 4.3.2 too busy")),
    ] {
        let what = format!("{answer:?} at {phase:?}");
        let refusal = answer.clone();
        let (good, bad, mut settings) = pair(move |at, _| {
            if at == phase {
                refusal.clone()
            } else {
                Answer::Accept
            }
        })
        .await;
        settings.messages_per_connection = 1;
        settings.suspend_for = Duration::ZERO;
        let mut world = World::with(settings, TIMING);
        // The order of the addresses is random: enough messages meet the bad one first.
        let mut sent = 0;
        while bad.connections() < 2 {
            world.enqueue(message(&["r@example.org"])).await;
            sent += 1;
            let seen = world.until(&what, is_delivered).await;
            assert_eq!(seen.len(), 1, "{what}: {seen:?}");
            assert!(sent < 200, "{what}: the second host is never tried");
        }
        assert_eq!(good.until(sent).await.len(), sent, "{what}");
        world.until_empty().await;
    }
}

#[tokio::test]
async fn a_host_that_took_no_connection_is_left_alone_for_a_while() {
    let (good, bad, mut settings) = pair(|_, _| Answer::Last("421 4.3.2 too busy")).await;
    settings.messages_per_connection = 1;
    settings.suspend_for = Duration::from_secs(600);
    let mut world = World::with(settings, TIMING);
    for _ in 0..40 {
        world.enqueue(message(&["r@example.org"])).await;
        world.until("delivered", is_delivered).await;
    }
    good.until(40).await;
    assert_eq!(bad.connections(), 1);
}

#[tokio::test]
async fn a_host_that_takes_no_mail_for_good_fails_it() {
    let receiver = Receiver::with(|phase, _| match phase {
        Phase::Greeting => Answer::Last("554 5.7.1 no mail from you"),
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
    assert_eq!(seen.len(), 1, "{seen:?}");
    world.until_empty().await;
}

#[tokio::test]
async fn a_refused_connection_defers_until_somebody_listens() {
    let address: SocketAddr = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let mut world = World::new(address);
    world.enqueue(message(&["r@example.org"])).await;
    let seen = world.until("deferred", is_deferred).await;
    let OutcomeKind::Deferred { reply, .. } = &seen[0].kind else {
        panic!("{seen:?}")
    };
    assert_eq!(reply, "connection refused");
    let receiver = Receiver::at(&address.to_string(), "", None, |_, _| Answer::Accept).await;
    world.until("delivered", is_delivered).await;
    receiver.until(1).await;
    world.until_empty().await;
}

/// Retries once an hour: who gets its mail before that has not waited for one.
fn patient(to: SocketAddr) -> Settings {
    let hour = Duration::from_secs(3600);
    Settings {
        retry: Retry {
            initial: hour,
            max: hour,
        },
        ..settings(&to.ip().to_string(), to.port())
    }
}

#[tokio::test]
async fn a_changed_smarthost_gets_what_waits_for_the_old_one() {
    let old = Receiver::with(|phase, _| match phase {
        Phase::Rcpt => Answer::Reply("451 4.3.0 later"),
        _ => Answer::Accept,
    })
    .await;
    let new = Receiver::accepting().await;
    let mut world = World::with(patient(old.address), TIMING);
    for _ in 0..3 {
        world.enqueue(message(&["r@example.org"])).await;
        world.until("deferred", is_deferred).await;
    }
    world.settings.send_replace(Arc::new(patient(new.address)));
    new.until(3).await;
    world.until_empty().await;
}

/// The old one says "later" when the route has been changed already.
#[tokio::test]
async fn a_smarthost_changed_during_an_attempt_gets_the_message_at_once() {
    let new = Receiver::accepting().await;
    let changed = patient(new.address);
    let change = Arc::new(OnceLock::<watch::Sender<Arc<Settings>>>::new());
    let old = Receiver::with({
        let (change, changed) = (Arc::clone(&change), Arc::new(changed));
        move |phase, _| match phase {
            Phase::Rcpt => {
                let settings = change.get().expect("the world is there");
                settings.send_replace(Arc::clone(&changed));
                Answer::Reply("451 4.3.0 later")
            }
            _ => Answer::Accept,
        }
    })
    .await;
    let mut world = World::with(patient(old.address), TIMING);
    change.set(world.settings.clone()).expect("set once");
    world.enqueue(message(&["r@example.org"])).await;
    let seen = world.until("delivered", is_delivered).await;
    assert!(
        seen.iter().any(|outcome| is_deferred(&outcome.kind)),
        "{seen:?}"
    );
    new.until(1).await;
    world.until_empty().await;
}

#[tokio::test]
async fn a_name_that_leads_nowhere_defers_a_smarthost_and_fails_a_domain() {
    let server = name_server::start(&[]).await;
    let mut unknown = settings("nowhere.example.", 25);
    unknown.resolver = nexthop::Settings::with_name_server(server);
    let mut world = World::with(unknown, TIMING);
    world.enqueue(message(&["r@example.org"])).await;
    let seen = world.until("deferred", is_deferred).await;
    let OutcomeKind::Deferred { reply, .. } = &seen[0].kind else {
        panic!("{seen:?}")
    };
    assert_eq!(reply, "the smarthost nowhere.example has no address");

    let mut by_mx = message(&["r@gone.example"]);
    by_mx.header.tasks[0].queue.route = "mx:gone.example".to_owned();
    by_mx.header.reverse_path.clear();
    world.enqueue(by_mx).await;
    let seen = world
        .until("failed", |kind| matches!(kind, OutcomeKind::Failed { .. }))
        .await;
    let OutcomeKind::Failed { reply } = &seen[seen.len() - 1].kind else {
        panic!("{seen:?}")
    };
    assert_eq!(reply, "the domain gone.example does not exist");
}
