mod large;

use std::time::Duration;

use super::{Answer, FinalDot, Handshake, Pair};
use crate::client::{self, FailureCause, Phase, RecipientOutcome, Tls, Transaction, Unsendable};
use crate::server::{self, Abandonment, Authentication, StartTls};
use crate::{
    Content, Credentials, EnhancedStatus, ForwardPath, Mechanism, Reply, ReplyCode, Secret,
};

const RAW: &[u8] = b"Subject: dots\r\n\r\n.one\r\n..two\r\n.\r\nthree\r\n";

#[test]
fn a_message_arrives_as_it_was_sent_however_the_stream_is_cut() {
    for cut in [1, 2, 3, 5, 7, 64, usize::MAX] {
        let mut pair = Pair::new(client_config(), server_config()).with_cut(cut);
        pair.run();
        pair.send(transaction(&["one@example.net", "two@example.net"], RAW));
        pair.quit();

        let message = only_message(&pair);
        assert_eq!(message.content.to_raw(), RAW, "cut {cut}");
        assert_eq!(message.content.raw_len(), RAW.len() as u64);
        assert_eq!(message.reverse_path.to_string(), "<sender@example.org>");
        assert_eq!(
            message.forward_paths,
            [path("one@example.net"), path("two@example.net")]
        );
        assert_eq!(message.parameters.size, Some(RAW.len() as u64));
        let recipients = only_finished(&pair);
        assert!(recipients.iter().all(is_accepted), "{recipients:?}");
        assert!(pair.client.is_closed());
    }
}

#[test]
fn a_pipelined_group_is_answered_in_one_write() {
    let mut pair = Pair::new(client_config(), server_config());
    pair.run();
    let before = pair.written_by_server.len();
    pair.send(transaction(&["one@example.net", "two@example.net"], RAW));

    let writes: Vec<_> = pair.written_by_server[before..]
        .iter()
        .map(|w| w.as_slice())
        .collect();
    let group =
        b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n250 2.1.5 ok\r\n354 end with <CR><LF>.<CR><LF>\r\n";
    assert_eq!(writes, [&group[..], b"250 2.0.0 ok\r\n"]);
}

#[test]
fn an_empty_message_arrives() {
    let mut pair = Pair::new(client_config(), server_config());
    pair.run();
    pair.send(transaction(&["one@example.net"], b""));
    assert!(only_message(&pair).content.is_empty());
    assert!(is_accepted(&only_finished(&pair)[0]));
}

#[test]
fn a_missing_line_end_is_added() {
    let mut pair = Pair::new(client_config(), server_config());
    pair.run();
    pair.send(transaction(
        &["one@example.net"],
        b"Subject: x\r\n\r\nno end",
    ));
    assert_eq!(
        only_message(&pair).content.to_raw(),
        b"Subject: x\r\n\r\nno end\r\n"
    );
}

#[test]
fn several_messages_use_one_connection() {
    let mut pair = Pair::new(client_config(), server_config()).with_cut(11);
    pair.run();
    for _ in 0..3 {
        pair.send(transaction(&["one@example.net"], RAW));
    }
    assert_eq!(messages(&pair).count(), 3);
    assert!(pair.client.is_ready());
}

#[test]
fn a_refused_recipient_does_not_harm_the_others() {
    let mut pair = Pair::new(client_config(), server_config()).with_answers(refuse_no_one);
    pair.run();
    pair.send(transaction(&["no-one@example.net", "one@example.net"], RAW));

    assert_eq!(only_message(&pair).forward_paths, [path("one@example.net")]);
    let recipients = only_finished(&pair);
    assert_eq!(
        recipients[0],
        RecipientOutcome::Refused {
            phase: Phase::Rcpt,
            reply: unknown_user()
        }
    );
    assert!(is_accepted(&recipients[1]));
}

#[test]
fn when_all_recipients_are_refused_the_next_message_begins_with_a_reset() {
    let mut pair = Pair::new(client_config(), server_config()).with_answers(refuse_no_one);
    pair.run();
    pair.send(transaction(&["no-one@example.net"], RAW));
    assert_eq!(messages(&pair).count(), 0);
    pair.send(transaction(&["one@example.net"], RAW));

    assert_eq!(only_message(&pair).forward_paths, [path("one@example.net")]);
    let abandoned = |e: &server::Event| matches!(e, server::Event::Abandoned(Abandonment::Reset));
    assert!(pair.server_events.iter().any(abandoned));
}

#[test]
fn starttls_is_used_when_offered_and_everything_begins_anew() {
    let server = server::Config {
        starttls: StartTls::Offered,
        ..server_config()
    };
    let mut pair = Pair::new(client_config(), server).with_cut(3);
    pair.run();
    assert!(pair.client.is_encrypted());
    assert_eq!(pair.server.security(), server::ConnectionSecurity::Tls);
    assert!(!pair.client.capabilities().starttls);
    assert_eq!(count(&pair.written_by_client, b"EHLO "), 2);
    pair.send(transaction(&["one@example.net"], RAW));
    assert_eq!(pair.server.protocol().to_string(), "ESMTPS");
    assert!(is_accepted(&only_finished(&pair)[0]));
}

#[test]
fn required_tls_is_never_given_up() {
    let client = client::Config {
        tls: Tls::Required,
        ..client_config()
    };
    let mut pair = Pair::new(client.clone(), server_config());
    pair.run();
    assert_eq!(only_failure(&pair).cause, FailureCause::TlsUnavailable);

    let server = server::Config {
        starttls: StartTls::Offered,
        ..server_config()
    };
    let mut pair = Pair::new(client, server);
    pair.handshake = Handshake::Fails;
    pair.run();
    assert_eq!(only_failure(&pair).cause, FailureCause::TlsFailed);
    assert_eq!(count(&pair.written_by_client, b"MAIL"), 0);
}

#[test]
fn both_mechanisms_authenticate() {
    for mechanism in [Mechanism::Plain, Mechanism::Login] {
        let server = server::Config {
            starttls: StartTls::Offered,
            authentication: Authentication::Required,
            mechanisms: vec![mechanism],
            ..server_config()
        };
        let client = client::Config {
            credentials: Some(credentials()),
            ..client_config()
        };
        let mut pair = Pair::new(client, server).with_cut(2);
        pair.run();
        let given = pair.server_events.iter().find_map(|event| match event {
            server::Event::Authenticate(request) => Some(request),
            _ => None,
        });
        let given = given.expect("the client must authenticate");
        assert_eq!(
            (given.mechanism, &given.credentials),
            (mechanism, &credentials())
        );
        assert!(!format!("{given:?}").contains("open sesame"));
        pair.send(transaction(&["one@example.net"], RAW));
        assert_eq!(pair.server.protocol().to_string(), "ESMTPSA");
        assert_eq!(pair.server.identity(), Some("somebody"));
        assert!(is_accepted(&only_finished(&pair)[0]));
    }
}

#[test]
fn credentials_are_not_sent_in_clear() {
    let server = server::Config {
        authentication: Authentication::Offered,
        clear_text_authentication: server::ClearTextAuthentication::Allowed,
        ..server_config()
    };
    let client = client::Config {
        credentials: Some(credentials()),
        ..client_config()
    };
    let mut pair = Pair::new(client.clone(), server.clone());
    pair.run();
    assert_eq!(only_failure(&pair).cause, FailureCause::CredentialsInClear);
    assert_eq!(count(&pair.written_by_client, b"AUTH"), 0);

    let clear_text_authentication = client::ClearTextAuthentication::Allowed;
    let mut pair = Pair::new(
        client::Config {
            clear_text_authentication,
            ..client
        },
        server,
    );
    pair.run();
    assert!(pair.client.is_ready());
    assert_eq!(pair.server.protocol().to_string(), "ESMTPA");
}

#[test]
fn no_secret_shows() {
    let client = client::Config {
        tls: Tls::Implicit,
        credentials: Some(credentials()),
        ..client_config()
    };
    let server = server::Config {
        authentication: Authentication::Offered,
        ..server_config()
    };
    let mut pair = Pair::new(client, server);
    let mut shown = format!("{:?}", credentials());
    for _ in 0..6 {
        pair.drive_server();
        let now = pair.now();
        pair.to_client.deliver(usize::MAX);
        pair.client.handle_input(now, &mut pair.to_client.arrived);
        // The octets of AUTH are still in the session.
        shown += &format!(
            "{:?} {:?} {:?}",
            pair.client, pair.server, pair.server_events
        );
        pair.drive_client();
    }
    assert!(pair.client.is_ready(), "{shown}");
    assert!(count(&pair.written_by_client, b"AUTH PLAIN ") == 1);
    let encoded = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        "\0somebody\0open sesame",
    );
    assert!(count(&pair.written_by_client, encoded.as_bytes()) == 1);
    assert!(
        !shown.contains("sesame") && !shown.contains(&encoded),
        "{shown}"
    );
}

#[test]
fn refused_credentials_end_the_session_of_the_client() {
    let refusal = Reply::new(
        ReplyCode::AUTH_FAILED,
        Some(EnhancedStatus::permanent(7, 8)),
        "no",
    );
    let server = server::Config {
        authentication: Authentication::Offered,
        ..server_config()
    };
    let client = client::Config {
        tls: Tls::Implicit,
        credentials: Some(credentials()),
        ..client_config()
    };
    let answer = refusal.clone();
    let mut pair = Pair::new(client, server).with_answers(move |_| Answer::Reply(answer.clone()));
    pair.run();
    let failure = only_failure(&pair);
    assert_eq!(
        (failure.phase, &failure.cause),
        (Phase::Auth, &FailureCause::Refused(refusal))
    );
}

#[test]
fn a_message_over_the_size_is_not_sent() {
    let server = server::Config {
        max_message_size: 20,
        ..server_config()
    };
    let mut pair = Pair::new(client_config(), server);
    pair.run();
    pair.send(transaction(&["one@example.net"], RAW));
    let expected = RecipientOutcome::Unsendable(Unsendable::TooLarge { limit: 20 });
    assert_eq!(only_finished(&pair), [expected]);
    assert_eq!(count(&pair.written_by_client, b"MAIL"), 0);
    pair.send(transaction(&["one@example.net"], b"x\r\n"));
    assert_eq!(messages(&pair).count(), 1);
}

#[test]
fn eight_bit_content_is_declared() {
    let mut pair = Pair::new(client_config(), server_config());
    pair.run();
    pair.send(transaction(
        &["one@example.net"],
        "Subject: x\r\n\r\nGrüße\r\n".as_bytes(),
    ));
    assert_eq!(
        only_message(&pair).parameters.body,
        Some(crate::Body::EightBitMime)
    );
}

#[test]
fn a_withheld_message_is_not_accepted() {
    let mut pair = Pair::new(client_config(), server_config());
    pair.final_dot = FinalDot::Withhold;
    pair.run();
    pair.send(transaction(&["one@example.net"], RAW));
    assert_eq!(messages(&pair).count(), 0);
    let failure = only_failure(&pair);
    assert_eq!(failure.cause, FailureCause::Withheld);
    assert_eq!(failure.recipients, [RecipientOutcome::Undecided]);
    assert!(!failure.is_in_doubt());
    assert!(matches!(
        pair.server_events.last(),
        Some(server::Event::Abandoned(Abandonment::Closed))
    ));
}

#[test]
fn the_reply_to_the_message_reaches_every_recipient() {
    let full = Reply::new(
        ReplyCode::INSUFFICIENT_STORAGE,
        Some(EnhancedStatus::transient(3, 1)),
        "queue is full",
    );
    let answer = full.clone();
    let mut pair =
        Pair::new(client_config(), server_config()).with_answers(move |event| match event {
            server::Event::Message(_) => Answer::Reply(answer.clone()),
            _ => Answer::Accept,
        });
    pair.run();
    pair.send(transaction(&["one@example.net", "two@example.net"], RAW));
    let refused = RecipientOutcome::Refused {
        phase: Phase::FinalDot,
        reply: full,
    };
    assert_eq!(only_finished(&pair), [refused.clone(), refused]);
    assert!(pair.client.is_ready());
}

#[test]
fn an_idle_client_is_sent_away_after_five_minutes() {
    let mut pair = Pair::new(client_config(), server_config());
    pair.run();
    pair.advance(Duration::from_secs(299));
    assert!(pair.client.is_ready());
    pair.advance(Duration::from_secs(1));
    let failure = only_failure(&pair);
    assert_eq!(failure.phase, Phase::Idle);
    let FailureCause::Refused(reply) = &failure.cause else {
        panic!("{failure:?}")
    };
    assert_eq!(reply.to_string(), "421 4.4.2 timeout, closing connection");
}

#[test]
fn a_server_that_shuts_down_finishes_the_open_transaction() {
    let mut pair = Pair::new(client_config(), server_config());
    pair.run();
    pair.shut_down();
    assert!(
        matches!(&only_failure(&pair).cause, FailureCause::Refused(r) if r.code().value() == 421)
    );

    let mut pair = Pair::new(client_config(), server_config()).with_cut(1);
    pair.run();
    let now = pair.now();
    assert_eq!(
        pair.client
            .send(now, transaction(&["one@example.net"], RAW)),
        Ok(())
    );
    while pair.server.phase() != server::Phase::Content {
        assert!(
            pair.drive_server() | pair.drive_client(),
            "the transaction must go on"
        );
    }
    pair.shut_down();
    assert_eq!(messages(&pair).count(), 1);
    assert!(is_accepted(&only_finished(&pair)[0]));
    assert!(
        pair.client.is_closed(),
        "the connection ends behind the transaction"
    );
}

fn client_config() -> client::Config {
    client::Config::new("client.example.org".parse().unwrap())
}

fn server_config() -> server::Config {
    server::Config::new("server.example.net".parse().unwrap())
}

fn credentials() -> Credentials {
    Credentials {
        authorization_identity: None,
        authentication_identity: "somebody".to_owned(),
        secret: Secret::new("open sesame"),
    }
}

fn transaction(recipients: &[&str], raw: &[u8]) -> Transaction {
    Transaction {
        reverse_path: "<sender@example.org>".parse().unwrap(),
        recipients: recipients.iter().map(|recipient| path(recipient)).collect(),
        content: Content::from_raw(raw).unwrap().into(),
    }
}

fn path(mailbox: &str) -> ForwardPath {
    ForwardPath::Mailbox(mailbox.parse().unwrap())
}

fn unknown_user() -> Reply {
    let status = EnhancedStatus::permanent(1, 1);
    Reply::new(ReplyCode::MAILBOX_UNAVAILABLE, Some(status), "unknown user")
}

fn refuse_no_one(event: &server::Event) -> Answer {
    match event {
        server::Event::Recipient { forward_path, .. }
            if *forward_path == path("no-one@example.net") =>
        {
            Answer::Reply(unknown_user())
        }
        _ => Answer::Accept,
    }
}

fn messages(pair: &Pair) -> impl Iterator<Item = &server::Message> {
    pair.server_events.iter().filter_map(|event| match event {
        server::Event::Message(message) => Some(message),
        _ => None,
    })
}

fn only_message(pair: &Pair) -> &server::Message {
    let all: Vec<_> = messages(pair).collect();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0]
}

fn only_finished(pair: &Pair) -> &[RecipientOutcome] {
    let all: Vec<_> = pair
        .client_events
        .iter()
        .filter_map(|event| match event {
            client::Event::Finished(finished) => Some(finished.recipients.as_slice()),
            _ => None,
        })
        .collect();
    assert_eq!(all.len(), 1, "{:?}", pair.client_events);
    all[0]
}

fn only_failure(pair: &Pair) -> &client::Failure {
    let all: Vec<_> = pair
        .client_events
        .iter()
        .filter_map(|event| match event {
            client::Event::Failed(failure) => Some(failure),
            _ => None,
        })
        .collect();
    assert_eq!(all.len(), 1, "{:?}", pair.client_events);
    all[0]
}

fn is_accepted(outcome: &RecipientOutcome) -> bool {
    matches!(outcome, RecipientOutcome::Accepted(_))
}

fn count(text: &[u8], word: &[u8]) -> usize {
    memchr::memmem::find_iter(text, word).count()
}
