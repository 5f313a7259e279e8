use std::time::Duration;

use hickory_resolver::proto::rr::RecordType;
use smtp::EnhancedStatus;

use super::*;
use crate::name_server::{Answer, NameServer, Zone};
use crate::resolver::Settings;

struct World {
    server: NameServer,
    resolver: Resolver,
    local: LocalHost,
}

impl World {
    fn new(zone: Zone) -> Self {
        let server = NameServer::start(zone);
        let resolver = Resolver::new(&Settings {
            search: vec![host("mail.svc.cluster.local"), host("svc.cluster.local")],
            timeout: Duration::from_millis(300),
            retries: 0,
            ..Settings::with_name_server(server.address())
        })
        .unwrap();
        Self {
            server,
            resolver,
            local: LocalHost::default(),
        }
    }

    async fn find(&self, next_hop: &NextHop) -> Result<Candidates, ResolveFailure> {
        self.resolver.candidates(next_hop, &self.local, 7).await
    }

    async fn check(&self, domain: &str, expected: &[&str]) {
        let found: Vec<String> = self
            .find(&mx(domain))
            .await
            .unwrap()
            .map(|candidate| written(&candidate))
            .collect();
        assert_eq!(found, expected, "{domain}");
    }

    async fn check_failure(&self, next_hop: &NextHop, status: EnhancedStatus, text: &str) {
        let failure = self.find(next_hop).await.unwrap_err();
        assert_eq!(
            (failure.status(), failure.to_string().as_str()),
            (status, text)
        );
    }
}

fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

fn mx(domain: &str) -> NextHop {
    NextHop::Mx(Host::parse(domain).unwrap())
}

fn smarthost(name: &str) -> NextHop {
    NextHop::Smarthost {
        host: name.to_owned(),
        port: 2525,
    }
}

fn written(candidate: &Candidate) -> String {
    let last = if candidate.is_last { " last" } else { "" };
    format!("{} {}{last}", candidate.host, candidate.address)
}

#[tokio::test]
async fn exchangers_by_preference_with_both_families() {
    let world = World::new(
        Zone::default()
            .mx(
                "example.org",
                &[(20, "mx2.example.net"), (10, "MX1.example.org")],
            )
            .address("mx1.example.org", &["192.0.2.1", "2001:db8::1"])
            .address("mx2.example.net", &["192.0.2.2"])
            .address("example.org", &["192.0.2.9"]),
    );
    world
        .check(
            "example.org",
            &[
                "mx1.example.org 192.0.2.1:25",
                "mx1.example.org [2001:db8::1]:25",
                "mx2.example.net 192.0.2.2:25 last",
            ],
        )
        .await;
    let found = world.find(&mx("example.org")).await.unwrap();
    assert_eq!(found.site(), "(mx1.example.org|mx2.example.net)");
    assert_eq!(found.len(), 3);
    // Fully qualified, never along the search path, and the second time from the cache.
    let asked = world.server.asked();
    assert_eq!(asked[0], ("example.org.".to_owned(), RecordType::MX));
    assert_eq!(asked.len(), 5, "{asked:?}");
    assert!(
        asked.iter().all(|(name, _)| !name.contains("cluster")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn without_mx_the_domain_is_its_own_exchanger() {
    let world = World::new(
        Zone::default()
            .address("four.example", &["192.0.2.4"])
            .address("six.example", &["2001:db8::6"])
            .mx("empty.example", &[]),
    );
    world
        .check("four.example", &["four.example 192.0.2.4:25 last"])
        .await;
    world
        .check("six.example", &["six.example [2001:db8::6]:25 last"])
        .await;
    assert_eq!(
        world.find(&mx("four.example")).await.unwrap().site(),
        "four.example"
    );
}

#[tokio::test]
async fn permanent_failures() {
    let world = World::new(
        Zone::default()
            .mx("null.example", &[(0, ".")])
            .answer("bare.example", Answer::Records(Vec::new()))
            .mx(
                "dangling.example",
                &[(10, "gone.example"), (20, "bare.example")],
            ),
    );
    let permanent = EnhancedStatus::permanent;
    for (domain, status, text) in [
        (
            "gone.example",
            permanent(1, 2),
            "the domain gone.example does not exist",
        ),
        (
            "null.example",
            permanent(1, 10),
            "null.example does not accept mail",
        ),
        (
            "bare.example",
            permanent(4, 4),
            "bare.example has neither a mail exchanger nor an address",
        ),
        (
            "dangling.example",
            permanent(4, 4),
            "no mail exchanger of dangling.example has an address",
        ),
    ] {
        world.check_failure(&mx(domain), status, text).await;
    }
    // NXDOMAIN is for all types: nobody asks for addresses any more.
    let asked = world.server.asked();
    assert_eq!(
        asked
            .iter()
            .filter(|(name, _)| name == "gone.example.")
            .count(),
        3,
        "{asked:?}"
    );
}

#[tokio::test]
async fn silent_and_failing_name_servers_are_transient() {
    let world = World::new(
        Zone::default()
            .answer("failing.example", Answer::ServerFailure)
            .answer("silent.example", Answer::Silence)
            .mx("lame.example", &[(10, "failing.example")])
            .answer_to("half.example", RecordType::MX, Answer::Records(Vec::new()))
            .answer_to("half.example", RecordType::A, Answer::ServerFailure)
            .answer_to(
                "half.example",
                RecordType::AAAA,
                Answer::Records(Vec::new()),
            ),
    );
    let transient = EnhancedStatus::transient(4, 3);
    for (domain, text) in [
        (
            "failing.example",
            "the MX look-up of failing.example failed",
        ),
        ("silent.example", "the MX look-up of silent.example failed"),
        (
            "lame.example",
            "the address look-up of failing.example failed",
        ),
        ("half.example", "the address look-up of half.example failed"),
    ] {
        world.check_failure(&mx(domain), transient, text).await;
        assert!(!world.find(&mx(domain)).await.unwrap_err().is_permanent());
    }
}

#[tokio::test]
async fn what_is_known_is_tried_and_what_is_not_is_told() {
    let world = World::new(
        Zone::default()
            .mx(
                "example.org",
                &[(10, "failing.example"), (20, "mx2.example")],
            )
            .answer("failing.example", Answer::ServerFailure)
            .address("mx2.example", &["192.0.2.2"])
            .answer_to("mx2.example", RecordType::AAAA, Answer::ServerFailure),
    );
    let found = world.find(&mx("example.org")).await.unwrap();
    assert_eq!(found.unresolved()[0].host, host("failing.example"));
    world
        .check("example.org", &["mx2.example 192.0.2.2:25 last"])
        .await;
}

#[tokio::test]
async fn everything_together_is_bounded_in_time() {
    let server = NameServer::start(Zone::default().answer("silent.example", Answer::Silence));
    let resolver = Resolver::new(&Settings {
        timeout: Duration::from_secs(60),
        limit: Duration::from_millis(50),
        ..Settings::with_name_server(server.address())
    })
    .unwrap();
    let failure = resolver
        .candidates(&mx("silent.example"), &LocalHost::default(), 1)
        .await
        .unwrap_err();
    assert!(
        matches!(failure, ResolveFailure::TookTooLong { .. }),
        "{failure:?}"
    );
    assert_eq!(failure.status(), EnhancedStatus::transient(4, 3));
}

#[tokio::test]
async fn nobody_answers_at_all() {
    let gone = NameServer::start(Zone::default()).address();
    let resolver = Resolver::new(&Settings {
        timeout: Duration::from_millis(300),
        retries: 0,
        ..Settings::with_name_server(gone)
    })
    .unwrap();
    let failure = resolver
        .candidates(&mx("example.org"), &LocalHost::default(), 1)
        .await
        .unwrap_err();
    assert_eq!(
        failure.status(),
        EnhancedStatus::transient(4, 3),
        "{failure:?}"
    );
}

#[tokio::test]
async fn mail_does_not_come_back() {
    let zone = Zone::default()
        .mx(
            "example.org",
            &[
                (10, "mx1.example"),
                (20, "mx2.example"),
                (30, "mx3.example"),
            ],
        )
        .address("mx1.example", &["192.0.2.1"])
        .address("mx2.example", &["192.0.2.2"])
        .address("mx3.example", &["192.0.2.3"]);
    let mut world = World::new(zone);
    let better = ["mx1.example 192.0.2.1:25 last"];
    world.local.names = vec![host("MX2.example")];
    world.check("example.org", &better).await;
    // The site is the same for whoever delivers.
    let site = world
        .find(&mx("example.org"))
        .await
        .unwrap()
        .site()
        .to_owned();
    assert_eq!(site, "(mx1|mx2|mx3).example");

    world.local = LocalHost {
        names: Vec::new(),
        addresses: vec!["192.0.2.2".parse().unwrap()],
    };
    world.check("example.org", &better).await;

    world.local.addresses = vec!["192.0.2.1".parse().unwrap()];
    let text = "mail for example.org loops back to this host";
    world
        .check_failure(&mx("example.org"), EnhancedStatus::permanent(4, 6), text)
        .await;
}

#[tokio::test]
async fn no_host_keeps_the_next_from_its_turn() {
    let many: Vec<String> = (1..=30).map(|n| format!("192.0.2.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let world = World::new(
        Zone::default()
            .mx(
                "example.org",
                &[(10, "a.example"), (20, "b.example"), (30, "c.example")],
            )
            .address("a.example", &many)
            .address("b.example", &many)
            .address("c.example", &["198.51.100.1"]),
    );
    let found: Vec<Candidate> = world.find(&mx("example.org")).await.unwrap().collect();
    assert_eq!(found.len(), 13);
    assert_eq!(found[12].host, host("c.example"));
    let lasts: Vec<bool> = found.iter().map(|candidate| candidate.is_last).collect();
    assert_eq!(lasts.iter().position(|last| *last), Some(12));
}

#[tokio::test]
async fn address_literals_need_no_name_server() {
    let world = World::new(Zone::default());
    world
        .check("[192.0.2.1]", &["192.0.2.1 192.0.2.1:25 last"])
        .await;
    world
        .check("[IPv6:2001:db8::1]", &["2001:db8::1 [2001:db8::1]:25 last"])
        .await;
    assert_eq!(world.server.asked(), []);
}

#[tokio::test]
async fn smarthosts_go_along_the_search_path_and_ignore_mx() {
    let world = World::new(
        Zone::default()
            .address("receiver.mail.svc.cluster.local", &["10.0.0.1"])
            .mx("smtp.example", &[(10, "elsewhere.example")])
            .address("smtp.example", &["192.0.2.5", "2001:db8::5"])
            .answer("failing.example", Answer::ServerFailure),
    );
    for (name, expected, site) in [
        ("receiver", "receiver 10.0.0.1:2525 last", "receiver:2525"),
        (
            "receiver.mail",
            "receiver.mail 10.0.0.1:2525 last",
            "receiver.mail:2525",
        ),
        (
            "192.0.2.7",
            "192.0.2.7 192.0.2.7:2525 last",
            "192.0.2.7:2525",
        ),
        (
            "2001:db8::7",
            "2001:db8::7 [2001:db8::7]:2525 last",
            "[2001:db8::7]:2525",
        ),
    ] {
        let found = world.find(&smarthost(name)).await.unwrap();
        assert_eq!(found.site(), site);
        assert_eq!(found.map(|c| written(&c)).collect::<Vec<_>>(), [expected]);
    }
    let mut both: Vec<String> = world
        .find(&smarthost("smtp.example."))
        .await
        .unwrap()
        .map(|candidate| candidate.address.to_string())
        .collect();
    both.sort_unstable();
    assert_eq!(both, ["192.0.2.5:2525", "[2001:db8::5]:2525"]);

    // A wrong configuration may be put right, so no mail fails of it.
    let transient = EnhancedStatus::transient(4, 4);
    let text = "the smarthost nowhere.example has no address";
    world
        .check_failure(&smarthost("nowhere.example"), transient, text)
        .await;
    world
        .check_failure(
            &smarthost("no host"),
            transient,
            "the smarthost no host has no address",
        )
        .await;
    let failing = world
        .find(&smarthost("failing.example."))
        .await
        .unwrap_err();
    assert_eq!(failing.status(), EnhancedStatus::transient(4, 3));
}

#[tokio::test]
async fn addresses_of_a_host_are_spread_by_seed() {
    let world = World::new(
        Zone::default().address("example.org", &["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
    );
    let mut firsts = Vec::new();
    for seed in 0..20 {
        let next_hop = mx("example.org");
        let mut found = world
            .resolver
            .candidates(&next_hop, &world.local, seed)
            .await
            .unwrap();
        firsts.push(found.next().unwrap().address.ip().to_string());
    }
    firsts.sort_unstable();
    firsts.dedup();
    assert_eq!(firsts, ["192.0.2.1", "192.0.2.2"]);
}
