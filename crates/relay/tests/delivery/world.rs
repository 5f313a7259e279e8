use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use config::delivery::NextHopTls;
use config::route::Match;
use config::{Action, DomainPattern, Route, Rule, Smarthost};
use queue::Queue;
use queue::id::{MessageId, QueueId};
use queue::model::{ModelQueue, WallClock};
use queue::operation::{Counts, Timing};
use queue::record::{Body, Form, Header, NewMessage, Recipient, Task};
use queue::worker::Worker;
use relay::delivery::{Delivery, Outcome, OutcomeKind, Outcomes, Retry, Settings};
use relay::routing::Routes;
use smtp::{Content, Domain, HeloName};
use telemetry::metrics::Registry;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::faulty::Faulty;

pub(crate) const TIMING: Timing = Timing {
    lease: Duration::from_secs(30),
    beat: Duration::from_secs(5),
    claim: Duration::from_secs(120),
    begun: Duration::from_secs(1800),
    safety_wake: Duration::from_secs(30),
};

/// A queue, a worker and a delivery, with everything routed to one receiver.
pub(crate) struct World {
    pub(crate) queue: Arc<Faulty>,
    pub(crate) worker: Worker,
    pub(crate) delivery: Delivery,
    pub(crate) outcomes: broadcast::Receiver<Arc<Outcome>>,
    pub(crate) settings: watch::Sender<Arc<Settings>>,
    pub(crate) registry: Registry,
}

impl World {
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self::with(settings(&to.ip().to_string(), to.port()), TIMING)
    }

    pub(crate) fn with(settings: Settings, timing: Timing) -> Self {
        let model = Arc::new(ModelQueue::new(&timing, WallClock::system()));
        let queue = Arc::new(Faulty::new(model));
        let shared: Arc<dyn Queue> = queue.clone();
        let settings_of_worker = queue::worker::Settings::new(timing);
        let worker = Worker::start(shared, settings_of_worker, CancellationToken::new());
        let (settings, follow) = watch::channel(Arc::new(settings));
        let outcomes = Outcomes::new();
        let listening = outcomes.subscribe();
        let mut registry = Registry::new("0", "0");
        let delivery = Delivery::start(worker.clone(), follow, outcomes, &mut registry).unwrap();
        Self {
            queue,
            worker,
            delivery,
            outcomes: listening,
            settings,
            registry,
        }
    }

    pub(crate) async fn enqueue(&self, message: NewMessage) -> MessageId {
        let id = message.id;
        self.worker.enqueue(message).await.unwrap();
        id
    }

    pub(crate) async fn counts(&self) -> Counts {
        self.queue.counts().await.unwrap()
    }

    /// The outcomes up to and with the first that is as wanted.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        is: impl Fn(&OutcomeKind) -> bool,
    ) -> Vec<Arc<Outcome>> {
        let mut seen = Vec::new();
        loop {
            let next = tokio::time::timeout(Duration::from_secs(20), self.outcomes.recv()).await;
            let Ok(Ok(outcome)) = next else {
                panic!("{what} after {seen:#?}")
            };
            let found = is(&outcome.kind);
            seen.push(outcome);
            if found {
                return seen;
            }
        }
    }

    /// What has been announced and not looked at.
    pub(crate) fn rest(&mut self) -> Vec<Arc<Outcome>> {
        std::iter::from_fn(|| self.outcomes.try_recv().ok()).collect()
    }

    /// Waits until the queue holds nothing.
    pub(crate) async fn until_empty(&self) {
        for _ in 0..1000 {
            let counts = self.counts().await;
            if counts.ready + counts.deferred + counts.in_flight == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the queue is not empty: {:?}", self.counts().await);
    }
}

/// Everything to one host, with retries soon.
pub(crate) fn settings(host: &str, port: u16) -> Settings {
    settings_with(Smarthost {
        host: host.to_owned(),
        port,
        tls: NextHopTls::Opportunistic,
    })
}

pub(crate) fn settings_with(smarthost: Smarthost) -> Settings {
    let hostname = "relay.example";
    Settings {
        routes: Arc::new(routes(smarthost)),
        retry: Retry {
            initial: Duration::from_millis(30),
            max: Duration::from_millis(100),
        },
        suspend_for: Duration::from_millis(20),
        pod: "pod-0".to_owned(),
        ..Settings::new(
            Domain::parse(hostname).unwrap(),
            HeloName::parse(hostname).unwrap(),
        )
    }
}

pub(crate) fn routes(smarthost: Smarthost) -> Routes {
    let rule = Rule {
        name: "all".to_owned(),
        r#match: Match {
            recipient_domains: vec![DomainPattern::Any],
        },
        action: Action::Smarthost(smarthost),
        limits: None,
    };
    Routes::new(&[Route {
        name: "test".to_owned(),
        priority: 0,
        rules: vec![rule],
    }])
}

pub(crate) const SENDER: &str = "sender@example.com";

/// A message to `recipients`, which are of one domain and one task.
pub(crate) fn message(recipients: &[&str]) -> NewMessage {
    message_with(recipients, b"Subject: hello\r\n\r\nhello\r\n")
}

pub(crate) fn message_with(recipients: &[&str], raw: &[u8]) -> NewMessage {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut random = [0; 10];
    random[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
    let content = Content::from_raw(raw).unwrap();
    NewMessage {
        id: MessageId::new(now, random),
        header: Header {
            reverse_path: SENDER.to_owned(),
            tenant: "t".to_owned(),
            received_unix_ms: now,
            lifetime_ms: 86_400_000,
            trace: None,
            accepted_by: "pod-0".to_owned(),
            tasks: vec![Task {
                queue: QueueId {
                    tenant: "t".to_owned(),
                    class: String::new(),
                    egress: String::new(),
                    route: "rule:test/all".to_owned(),
                },
                recipients: recipients
                    .iter()
                    .map(|address| Recipient {
                        address: (*address).to_owned(),
                    })
                    .collect(),
            }],
            body: Body {
                form: Form::DotStuffed,
                stored: content.stuffed_len(),
                size: content.raw_len(),
                sha256: String::new(),
                eight_bit: content.has_8bit(),
                chunks: 0,
            },
        },
        content: vec![Bytes::from(content.chunks().concat())],
    }
}

pub(crate) fn is_delivered(kind: &OutcomeKind) -> bool {
    matches!(kind, OutcomeKind::Delivered { .. })
}

pub(crate) fn is_deferred(kind: &OutcomeKind) -> bool {
    matches!(kind, OutcomeKind::Deferred { .. })
}

pub(crate) fn is_notified(kind: &OutcomeKind) -> bool {
    matches!(kind, OutcomeKind::Notified { .. })
}
