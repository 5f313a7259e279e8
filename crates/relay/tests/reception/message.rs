//! What becomes of a message that is accepted.

use aws_lc_rs::digest;
use queue::record::Form;

use crate::client::Client;
use crate::gate::State;
use crate::world::World;

/// A whole session in three writes; the octets behind the header section are the client's.
#[tokio::test(flavor = "multi_thread")]
async fn pipelined_and_stored_as_it_came() {
    let world = World::new().await;
    let mut client = world.client().await;
    client
        .send(
            "MAIL FROM:<App@Example.org> SIZE=100 BODY=8BITMIME\r\nRCPT TO:<user@Example.NET>\r\n\
             RCPT TO:<other@sub.example.com>\r\nRCPT TO:<user@example.net>\r\nDATA\r\n",
        )
        .await;
    for expected in [
        "250 2.1.0 Ok",
        "250 2.1.5 Ok",
        "250 2.1.5 Ok",
        "250 2.1.5 Ok",
    ] {
        assert_eq!(client.reply().await, expected);
    }
    assert!(client.reply().await.starts_with("354 "));
    let content = "Subject: Grüße\r\n\r\n..\r\n...two\r\nlast";
    let reply = client.command(&format!("{content}\r\n.")).await;

    let stored = world.only_message();
    assert_eq!(reply, format!("250 2.0.0 {} queued", stored.id));
    let header = &stored.header;
    assert_eq!(
        (header.reverse_path.as_str(), header.tenant.as_str()),
        ("App@example.org", "house")
    );
    assert_eq!(
        (header.accepted_by.as_str(), header.lifetime_ms),
        ("pod-0", 120 * 3_600_000)
    );
    let tasks: Vec<_> = header
        .tasks
        .iter()
        .map(|task| {
            let recipients: Vec<_> = task.recipients.iter().map(|r| r.address.as_str()).collect();
            (task.queue.to_string(), recipients)
        })
        .collect();
    assert_eq!(
        tasks,
        [
            (
                "house|||rule:nowhere/all".to_owned(),
                vec!["user@example.net"]
            ),
            (
                "house|||rule:nowhere/all".to_owned(),
                vec!["other@sub.example.com"]
            ),
        ]
    );

    let octets = stored.content.concat();
    let text = String::from_utf8(octets.clone()).unwrap();
    let (trace, rest) = text.split_at(text.find("Subject:").unwrap());
    assert_eq!(rest, format!("{content}\r\n"));
    let expected = format!(
        "Received: from client.example ([127.0.0.1])\r\n\tby relay.example with ESMTP id {}",
        stored.id
    );
    assert!(trace.starts_with(&expected), "{trace}");
    assert!(
        !trace.contains("\tfor "),
        "several recipients are not named: {trace}"
    );
    assert!(
        trace.contains(&format!(
            "\r\nMessage-ID: <{}@relay.example>\r\n",
            stored.id
        )),
        "{trace}"
    );
    assert!(trace.contains("\r\nDate: "), "{trace}");

    let body = &header.body;
    let raw = text.replace("\r\n.", "\r\n");
    assert_eq!(
        (body.form, body.stored, body.size),
        (Form::DotStuffed, octets.len() as u64, raw.len() as u64)
    );
    assert!(body.eight_bit);
    let hash = digest::digest(&digest::SHA256, raw.as_bytes());
    let hash: String = hash
        .as_ref()
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    assert_eq!(body.sha256, hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn relayed_mail_gets_a_trace_field_and_nothing_else() {
    let world = World::new().await;
    let mut client = Client::hello(world.address("trace-only")).await;
    assert!(client.submit().await.starts_with("250 2.0.0 "));
    let text = String::from_utf8(world.only_message().content.concat()).unwrap();
    assert!(text.starts_with("Received: from client.example "), "{text}");
    assert!(text.contains("\tfor <user@example.net>;\r\n"), "{text}");
    assert!(text.ends_with("+0000\r\nSubject: x\r\n\r\nx\r\n"), "{text}");
}

/// The client's trace goes on, in a span of ours; a message without one begins a trace.
#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_the_client_goes_on() {
    let world = World::new().await;
    let mut client = world.client().await;
    let theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for field in [format!("traceparent: {theirs}\r\n"), String::new()] {
        client.envelope("app@example.org", "user@example.net").await;
        let reply = client
            .command(&format!("{field}Subject: x\r\n\r\nx\r\n."))
            .await;
        assert!(reply.starts_with("250 "), "{reply}");
    }
    let traces: Vec<telemetry::TraceContext> = world
        .queue
        .accepted()
        .iter()
        .map(|message| message.header.trace.as_ref().unwrap().parse().unwrap())
        .collect();
    let theirs: telemetry::TraceContext = theirs.parse().unwrap();
    assert_eq!(traces[0].trace_id(), theirs.trace_id());
    assert_ne!(traces[0].span_id(), theirs.span_id());
    assert_ne!(traces[1].trace_id(), theirs.trace_id());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_before_the_queue_confirms() {
    let world = World::new().await;
    world.queue.set(State::Held);
    let mut client = world.client().await;
    client.envelope("app@example.org", "user@example.net").await;
    client.send("Subject: x\r\n\r\nx\r\n.\r\n").await;
    world.queue.commit_came().await;
    assert!(!client.has_said_something().await);
    world.queue.set(State::Open);
    assert!(client.reply().await.starts_with("250 2.0.0 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_loop_are_refused() {
    let world = World::new().await;
    let mut client = world.client().await;
    for (hops, expected) in [(51, "554 5.4.6 "), (50, "250 2.0.0 ")] {
        client.envelope("app@example.org", "user@example.net").await;
        let fields = "Received: from x by y\r\n".repeat(hops);
        let reply = client.command(&format!("{fields}\r\nx\r\n.")).await;
        assert!(reply.starts_with(expected), "{hops}: {reply}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes() {
    let world = World::new().await;
    let mut client = world.client().await;
    assert!(client.ehlo().await.contains("250-SIZE 65536\n"));
    let reply = client
        .command("MAIL FROM:<app@example.org> SIZE=65537")
        .await;
    assert!(reply.starts_with("552 5.3.4 "), "{reply}");
    let line = format!("{}\r\n", "x".repeat(98));
    for (lines, expected) in [(656, "552 5.3.4 "), (655, "250 2.0.0 ")] {
        client.envelope("app@example.org", "user@example.net").await;
        client.send(&line.repeat(lines)).await;
        let reply = client.command(".").await;
        assert!(reply.starts_with(expected), "{lines}: {reply}");
    }
    assert_eq!(
        world.queue.accepted().len(),
        1,
        "what is over the limit is not kept"
    );
}
