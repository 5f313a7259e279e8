use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use queue::Queue;
use queue::id::{Call, Handle, TaskId, WorkerId};
use queue::operation::{Beat, Claim, Next, Taken, Timing};

use crate::faulty::{Fault, Faulty, Operation};
use crate::receiver::{Answer, Phase, Receiver};
use crate::world::{TIMING, World, is_delivered, message, message_with, settings};

/// Calls to the queue go wrong in every way, the receiver does not: then nothing is lost, and
/// nothing arrives or is settled twice.
#[tokio::test]
async fn a_queue_in_chaos_loses_and_doubles_nothing() {
    let receiver = Receiver::accepting().await;
    let world = World::new(receiver.address);
    world
        .worker
        .status()
        .wait_for(|status| status.reachable)
        .await
        .unwrap();
    world.queue.chaos(10, 7);
    let mut accepted = Vec::new();
    for n in 0..300 {
        let body = format!("Subject: {n}\r\n\r\n");
        let message = message_with(&["r@example.org"], body.as_bytes());
        // Refused is refused: it may not arrive.
        if world.worker.enqueue(message).await.is_ok() {
            accepted.push(n);
        }
        if n % 10 == 0 {
            world.queue.run_late().await;
        }
    }
    assert!(accepted.len() > 200, "{}", accepted.len());
    receiver.until(accepted.len()).await;
    world.queue.heal();
    world.queue.run_late().await;
    world.until_empty().await;
    let mut arrived = HashMap::new();
    for received in receiver.received() {
        *arrived.entry(received.text()).or_insert(0) += 1;
    }
    for n in &accepted {
        assert_eq!(
            arrived.remove(&format!("Subject: {n}\r\n\r\n")),
            Some(1),
            "message {n}"
        );
    }
    assert!(
        arrived.is_empty(),
        "refused and sent all the same: {arrived:?}"
    );
}

/// A pod that cannot beat for two thirds of its lease sends no last octet, even with the message
/// all but out.
#[tokio::test]
async fn a_lost_lease_withholds_the_final_dot() {
    let receiver = Receiver::with(|phase, _| match phase {
        Phase::Data => Answer::Wait,
        _ => Answer::Accept,
    })
    .await;
    let timing = Timing {
        lease: Duration::from_secs(3),
        beat: Duration::from_millis(500),
        ..TIMING
    };
    let mut world = World::with(settings("127.0.0.1", receiver.address.port()), timing);
    world.enqueue(message(&["r@example.org"])).await;
    receiver.until_waiting(1).await;
    world.queue.always(Operation::Beat, Fault::Unreachable);
    let mut status = world.worker.status();
    status.wait_for(|status| !status.reachable).await.unwrap();
    // Two thirds of the lease, from the last beat that was answered.
    tokio::time::sleep(timing.lease * 2 / 3 + Duration::from_millis(50)).await;
    receiver.open_gate();
    receiver.until_cut_short(1).await;
    assert!(receiver.received().is_empty());
    assert!(
        world
            .registry
            .encode()
            .contains("kurier_delivery_withheld_total 1")
    );

    world.queue.heal();
    world.until("delivered", is_delivered).await;
    assert_eq!(receiver.until(1).await.len(), 1);
    world.until_empty().await;
}

/// A reaped pod's connections end, but for those that wait for the reply to a final dot: that one
/// still counts.
#[tokio::test]
async fn a_reaped_pod_hears_out_what_it_has_sent() {
    let receiver = Receiver::with(|phase, line| match phase {
        Phase::Dot if line.contains("sent") => Answer::Wait,
        Phase::Data => Answer::Accept,
        Phase::Rcpt if line.contains("unsent") => Answer::Wait,
        _ => Answer::Accept,
    })
    .await;
    let timing = Timing {
        lease: Duration::from_secs(1),
        beat: Duration::from_millis(200),
        ..TIMING
    };
    let world = World::with(settings("127.0.0.1", receiver.address.port()), timing);
    world
        .enqueue(message_with(&["r@example.org"], b"Subject: sent\r\n\r\n"))
        .await;
    receiver.until_waiting(1).await;
    let before = world.worker.id();
    // Another pod reaps it, once it has held its own lease for one period.
    for operation in [Operation::Beat, Operation::Next] {
        world.queue.always(operation, Fault::Unreachable);
    }
    let other = WorkerId::random();
    let model = world.queue.model();
    model.register(other).await.unwrap();
    loop {
        let beat = model.beat(other).await.unwrap();
        if matches!(beat, Beat::Renewed { reaped: 1.., .. }) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.queue.heal();
    let mut status = world.worker.status();
    let joined = status.wait_for(|status| status.worker.is_some() && status.worker != before);
    joined.await.unwrap();
    receiver.open_gate();
    world.until_empty().await;
    assert_eq!(
        receiver.received().len(),
        1,
        "its delivery counts under the new id"
    );
}

#[tokio::test]
async fn draining_finishes_what_is_under_way_and_gives_back_the_rest() {
    let receiver = Receiver::with(|phase, _| match phase {
        Phase::Dot => Answer::Wait,
        _ => Answer::Accept,
    })
    .await;
    let mut settings = settings("127.0.0.1", receiver.address.port());
    settings.limits.concurrency_default = 1;
    settings.limits.generation = 1;
    let world = World::with(settings, TIMING);
    // Until the limit is there; nothing tells, but setting it again is the same call.
    world
        .worker
        .set_limits(&world.settings.borrow().limits.clone())
        .await
        .unwrap();
    for _ in 0..5 {
        world.enqueue(message(&["r@example.org"])).await;
    }
    receiver.until_waiting(1).await;
    let draining = tokio::spawn({
        let (delivery, worker) = (world.delivery.clone(), world.worker.clone());
        async move {
            let finished = delivery.drain(Duration::from_secs(10)).await;
            worker.drain(Duration::from_secs(5)).await && finished
        }
    });
    while world.worker.is_claiming() {
        tokio::task::yield_now().await;
    }
    receiver.open_gate();
    assert!(draining.await.unwrap());
    let counts = world.counts().await;
    assert_eq!(
        (receiver.received().len(), counts.ready, counts.in_flight),
        (1, 4, 0)
    );
}

#[tokio::test]
async fn draining_cuts_off_what_takes_too_long() {
    let receiver = Receiver::with(|phase, _| match phase {
        Phase::Mail => Answer::Wait,
        _ => Answer::Accept,
    })
    .await;
    let world = World::new(receiver.address);
    world.enqueue(message(&["r@example.org"])).await;
    receiver.until_waiting(1).await;
    assert!(!world.delivery.drain(Duration::from_millis(100)).await);
    assert!(
        world.worker.drain(Duration::from_secs(5)).await,
        "it was given back in time"
    );
    let counts = world.counts().await;
    assert_eq!((counts.ready, counts.in_flight), (1, 0));
}

/// Of a task that takes several transactions only the last may be in doubt.
#[tokio::test]
async fn a_takeover_repeats_one_transaction_at_most() {
    let cut_off = Arc::new(OnceLock::<Arc<Faulty>>::new());
    let transactions = AtomicUsize::new(0);
    let receiver = Receiver::with({
        let cut_off = Arc::clone(&cut_off);
        move |phase, _| {
            // From here on nobody hears of what the process has done.
            if phase == Phase::Dot && transactions.fetch_add(1, Ordering::SeqCst) == 1 {
                let queue = cut_off.get().unwrap();
                for operation in [Operation::Beat, Operation::Next] {
                    queue.always(operation, Fault::Unreachable);
                }
            }
            Answer::Accept
        }
    })
    .await;
    let timing = Timing {
        lease: Duration::from_secs(3),
        beat: Duration::from_millis(500),
        ..TIMING
    };
    let world = World::with(settings("127.0.0.1", receiver.address.port()), timing);
    assert!(cut_off.set(Arc::clone(&world.queue)).is_ok());
    let recipients: Vec<String> = (0..250).map(|n| format!("r{n}@example.org")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let sent = message(&recipients);
    let handle = Handle::new(TaskId::new(sent.id, 0), sent.header.tasks[0].queue.clone());
    world.enqueue(sent).await;
    receiver.until(2).await;

    let (model, other) = (world.queue.model(), WorkerId::random());
    model.register(other).await.unwrap();
    loop {
        let beat = model.beat(other).await.unwrap();
        if matches!(beat, Beat::Renewed { reaped: 1.., .. }) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let next = Next {
        call: Call {
            worker: other,
            lane: 0,
            n: 1,
        },
        settlements: Vec::new(),
        releases: Vec::new(),
        claim: Some(Claim {
            grants: 0,
            tasks_per_grant: 1,
            withheld: Vec::new(),
            by_name: vec![handle],
        }),
    };
    let Taken::Ran(reply) = model.next(&next).await.unwrap() else {
        panic!("a new worker is not served")
    };
    let resolved = &reply.named[0].state.resolved;
    let noted: Vec<u16> = resolved.iter().map(|(recipient, _)| *recipient).collect();
    assert_eq!(noted, (0..100).collect::<Vec<_>>());
    assert_eq!(
        receiver.received().len(),
        2,
        "nothing goes out before what went before is noted"
    );

    // What it has heard counts under its next id: nobody gets the message twice.
    world.queue.heal();
    world.until_empty().await;
    let mut arrived: Vec<String> = receiver
        .received()
        .into_iter()
        .flat_map(|received| received.forward_paths)
        .collect();
    assert_eq!(arrived.len(), 250);
    arrived.sort_unstable();
    arrived.dedup();
    assert_eq!(arrived.len(), 250);
}
