//! Who may send what to whom.

use crate::client::{self, Client};
use crate::world::World;

const MAIL: &str = "MAIL FROM:<noreply@example.org>";

#[tokio::test(flavor = "multi_thread")]
async fn strangers_may_not_relay() {
    let world = World::new().await;
    let check = async |listener: &str, expected: &str| {
        let mut client = Client::hello(world.address(listener)).await;
        for path in ["<noreply@example.org>", "<>"] {
            let reply = client.command(&format!("MAIL FROM:{path}")).await;
            assert_eq!(reply, expected, "{listener}");
        }
        // Who was refused has no transaction.
        assert!(
            client
                .command("RCPT TO:<user@example.net>")
                .await
                .starts_with("503 ")
        );
    };
    check("submission", "530 5.7.0 Authentication required").await;
    check("closed", "550 5.7.1 Relaying denied").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_count_under_tls_only() {
    let world = World::new().await;
    let trusting = world.files.trusting();
    let mut client = Client::hello(world.address("submission")).await;
    let refused = client.plain("app", "secret").await;
    assert!(refused.starts_with("538 5.7.11 "), "{refused}");
    assert!(!client.ehlo().await.contains("AUTH"));

    let mut client = client.start_tls(&trusting).await;
    assert!(client.ehlo().await.contains("250-AUTH PLAIN LOGIN\n"));
    assert_eq!(
        client.plain("app", "guess").await,
        "535 5.7.8 Credentials are invalid"
    );
    assert_eq!(
        client.plain("nobody", "secret").await,
        "535 5.7.8 Credentials are invalid"
    );
    assert!(client.command(MAIL).await.starts_with("530 5.7.0 "));
    assert!(
        client
            .plain("app", "secret")
            .await
            .starts_with("235 2.7.0 ")
    );
    assert_eq!(client.command(MAIL).await, "250 2.1.0 Ok");

    // LOGIN, on the listener where TLS comes first.
    let mut client = client::connect_tls(world.address("implicit"), &trusting).await;
    assert!(client.command("AUTH LOGIN").await.starts_with("334 "));
    assert!(client.command("YXBw").await.starts_with("334 "));
    assert!(client.command("c2VjcmV0").await.starts_with("235 2.7.0 "));
    client
        .envelope("noreply@example.org", "user@example.net")
        .await;
    assert!(
        client
            .command("Subject: x\r\n\r\nx\r\n.")
            .await
            .starts_with("250 2.0.0 ")
    );
    let message = world.only_message();
    assert_eq!(message.header.tenant, "shop");
    let text = String::from_utf8(message.content.concat()).unwrap();
    assert!(text.contains(" with ESMTPSA id "), "{text}");
    assert!(text.contains("(TLS1.3 TLS"), "{text}");
}

/// RFC 4616 §2: an authorization identity asks to act as somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_acts_as_another() {
    let world = World::new().await;
    let mut client = client::connect_tls(world.address("implicit"), &world.files.trusting()).await;
    // free, app, secret
    let refused = client.command("AUTH PLAIN ZnJlZQBhcHAAc2VjcmV0").await;
    assert_eq!(refused, "535 5.7.8 Credentials are invalid");
    // app, app, secret
    let accepted = client.command("AUTH PLAIN YXBwAGFwcABzZWNyZXQ=").await;
    assert!(accepted.starts_with("235 "), "{accepted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reverse_paths_are_the_credentials_own() {
    let world = World::new().await;
    let trusting = world.files.trusting();
    let check = async |name: &str, password: &str, table: &[(&str, &str)]| {
        let mut client = client::connect_tls(world.address("implicit"), &trusting).await;
        assert!(client.plain(name, password).await.starts_with("235 "));
        for (path, expected) in table {
            let reply = client.command(&format!("MAIL FROM:<{path}>")).await;
            assert!(reply.starts_with(expected), "{name} as {path}: {reply}");
            client.command("RSET").await;
        }
    };
    let credential = "553 5.7.1 This credential may not use that reverse-path";
    let tenant = "553 5.7.1 This tenant may not send from that domain";
    check(
        "app",
        "secret",
        &[
            ("noreply@example.org", "250 "),
            ("noreply@EXAMPLE.org", "250 "),
            ("anyone@x.app.example.org", "250 "),
            ("boss@example.org", credential),
            ("anyone@app.example.org", credential),
            ("noreply@example.org.evil.example", credential),
            ("\"noreply@example.org\"@evil.example", credential),
            // Who may send as some may not send as nobody.
            ("", credential),
        ],
    )
    .await;
    check(
        "free",
        "other secret",
        &[
            ("boss@example.org", "250 "),
            ("boss@sub.example.org", "250 "),
            ("boss@example.net", tenant),
            ("boss@[127.0.0.1]", tenant),
            ("", "250 "),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forward_paths() {
    let world = World::new().await;
    let mut client = world.client().await;
    client.command(MAIL).await;
    for (path, expected) in [
        ("user%elsewhere.example@example.net", "550 5.7.1 "),
        ("elsewhere.example!user@example.net", "550 5.7.1 "),
        ("\"user@elsewhere.example\"@example.net", "550 5.7.1 "),
        // RFC 5321 §4.1.1.3: a source route is dropped, the final address is judged.
        ("@one.example,@two.example:user@example.net", "250 2.1.5 "),
        (
            "@one.example:user%elsewhere.example@example.net",
            "550 5.7.1 ",
        ),
        ("\"quoted user\"@example.net", "250 2.1.5 "),
        ("user+tag@example.net", "250 2.1.5 "),
        ("Postmaster", "250 2.1.5 "),
    ] {
        let reply = client.command(&format!("RCPT TO:<{path}>")).await;
        assert!(reply.starts_with(expected), "{path}: {reply}");
    }
    assert!(client.command("DATA").await.starts_with("354 "));
    assert!(client.command("x\r\n.").await.starts_with("250 "));
    let header = world.only_message().header;
    let recipients = header.tasks.iter().flat_map(|task| &task.recipients);
    let recipients: Vec<_> = recipients
        .map(|recipient| recipient.address.as_str())
        .collect();
    assert_eq!(
        recipients,
        [
            "user@example.net",
            "\"quoted user\"@example.net",
            "user+tag@example.net",
            "postmaster@relay.example"
        ]
    );
}

/// CVE-2011-0411: what is behind STARTTLS in clear, somebody else may have put there.
#[tokio::test(flavor = "multi_thread")]
async fn octets_behind_starttls_end_the_connection() {
    let world = World::new().await;
    let mut client = Client::hello(world.address("submission")).await;
    client.send("STARTTLS\r\nEHLO evil.example\r\n").await;
    let mut said = client.reply().await;
    if said.starts_with("220 ") {
        said.clear();
    }
    assert!(said.is_empty() || said.starts_with('5'), "{said}");
    client.closed().await;
}
