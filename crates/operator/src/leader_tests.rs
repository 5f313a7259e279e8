use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::core::Status;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Election, Leadership, LeaseStore};
use crate::settings::LeaseTiming;

/// An API server with one Lease, which can stop answering to one client.
#[derive(Clone, Default)]
struct Server {
    lease: Arc<Mutex<Option<(Lease, u64)>>>,
}

struct Client {
    server: Server,
    cut: Arc<AtomicBool>,
}

fn conflict() -> kube::Error {
    kube::Error::Api(Box::new(Status {
        code: 409,
        ..Status::default()
    }))
}

impl Client {
    async fn pass(&self) {
        if self.cut.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }
}

impl LeaseStore for Client {
    async fn read(&self) -> Result<Option<Lease>, kube::Error> {
        self.pass().await;
        Ok(self
            .server
            .lease
            .lock()
            .unwrap()
            .as_ref()
            .map(|(lease, _)| lease.clone()))
    }

    async fn create(&self, lease: &Lease) -> Result<Lease, kube::Error> {
        self.pass().await;
        let mut stored = self.server.lease.lock().unwrap();
        if stored.is_some() {
            return Err(conflict());
        }
        let mut lease = lease.clone();
        lease.metadata.resource_version = Some("1".to_owned());
        *stored = Some((lease.clone(), 1));
        Ok(lease)
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, kube::Error> {
        self.pass().await;
        let mut stored = self.server.lease.lock().unwrap();
        let (_, version) = stored.as_ref().ok_or_else(conflict)?;
        if lease.metadata.resource_version != Some(version.to_string()) {
            return Err(conflict());
        }
        let next = version + 1;
        let mut lease = lease.clone();
        lease.metadata.resource_version = Some(next.to_string());
        *stored = Some((lease.clone(), next));
        Ok(lease)
    }
}

struct Replica {
    leadership: Leadership,
    leading: watch::Receiver<bool>,
    cut: Arc<AtomicBool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn replica(server: &Server, identity: &str) -> Replica {
    let leadership = Leadership::default();
    let (sender, leading) = watch::channel(false);
    let cut = Arc::new(AtomicBool::new(false));
    let stop = CancellationToken::new();
    let election = Election {
        store: Client {
            server: server.clone(),
            cut: cut.clone(),
        },
        name: "kurier".to_owned(),
        identity: identity.to_owned(),
        timing: LeaseTiming::new(
            Duration::from_secs(15),
            Duration::from_secs(10),
            Duration::from_secs(2),
        )
        .unwrap(),
        leadership: leadership.clone(),
        leading: sender,
    };
    let stopped = stop.clone();
    let task = tokio::spawn(async move { election.run(stopped, std::future::ready(())).await });
    Replica {
        leadership,
        leading,
        cut,
        stop,
        task,
    }
}

impl Replica {
    async fn until(&mut self, leading: bool) -> Duration {
        let from = Instant::now();
        self.leading.wait_for(|now| *now == leading).await.unwrap();
        from.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_two_leads() {
    let server = Server::default();
    let (mut a, mut b) = (replica(&server, "a"), replica(&server, "b"));
    for _ in 0..600 {
        sleep(Duration::from_millis(100)).await;
        assert!(!(a.leadership.is_held() && b.leadership.is_held()));
    }
    assert!(*a.leading.borrow_and_update() ^ *b.leading.borrow_and_update());
}

#[tokio::test(start_paused = true)]
async fn a_cut_off_leader_stops_before_the_next_starts() {
    let server = Server::default();
    let mut a = replica(&server, "a");
    a.until(true).await;
    let mut b = replica(&server, "b");
    sleep(Duration::from_secs(5)).await;

    a.cut.store(true, Ordering::SeqCst);
    let watcher = tokio::spawn({
        let (a, b) = (a.leadership.clone(), b.leadership.clone());
        async move {
            for _ in 0..3000 {
                sleep(Duration::from_millis(10)).await;
                assert!(!(a.is_held() && b.is_held()), "two leaders");
            }
        }
    });
    let stopped = a.until(false).await;
    assert!(stopped <= Duration::from_secs(14), "{stopped:?}");
    b.until(true).await;
    assert!(!a.leadership.is_held());
    watcher.await.unwrap();

    // It comes back as a follower and serves on.
    a.cut.store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(30)).await;
    assert!(b.leadership.is_held() && !a.leadership.is_held());
    assert!(!a.task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_stopped_leader_hands_over_at_once() {
    let server = Server::default();
    let mut a = replica(&server, "a");
    a.until(true).await;
    let mut b = replica(&server, "b");
    sleep(Duration::from_secs(5)).await;
    a.stop.cancel();
    let handed = b.until(true).await;
    assert!(handed <= Duration::from_secs(2), "{handed:?}");
    a.task.await.unwrap();
    let lease = server.lease.lock().unwrap().as_ref().unwrap().0.clone();
    assert_eq!(lease.spec.unwrap().lease_transitions, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_holder_of_the_same_name_goes_on() {
    let server = Server::default();
    let mut a = replica(&server, "a");
    a.until(true).await;
    a.task.abort();
    let mut again = replica(&server, "a");
    assert!(again.until(true).await < Duration::from_secs(1));
}
