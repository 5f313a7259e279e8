use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connect::Failure;

/// Hosts that took no connection a moment ago, remembered in this process for a short time: a
/// 421 or a refused connection is about the host, and the next message need not find out again.
#[derive(Debug)]
pub(super) struct Suspensions {
    time: Duration,
    hosts: Mutex<HashMap<SocketAddr, Suspension>>,
}

#[derive(Debug)]
struct Suspension {
    until: Instant,
    failure: Arc<Failure>,
}

impl Suspensions {
    pub(super) fn new(time: Duration) -> Self {
        Self {
            time,
            hosts: Mutex::default(),
        }
    }

    pub(super) fn suspend(&self, host: SocketAddr, failure: &Arc<Failure>, now: Instant) {
        let mut hosts = self.hosts();
        if hosts.len() >= MAX_HOSTS {
            hosts.retain(|_, suspension| suspension.until > now);
        }
        if hosts.len() < MAX_HOSTS {
            let failure = Arc::clone(failure);
            hosts.insert(
                host,
                Suspension {
                    until: now + self.time,
                    failure,
                },
            );
        }
    }

    /// It took a connection after all.
    pub(super) fn lift(&self, host: SocketAddr) {
        let mut hosts = self.hosts();
        if !hosts.is_empty() {
            hosts.remove(&host);
        }
    }

    /// Why `host` is not to be tried now.
    pub(super) fn why(&self, host: SocketAddr, now: Instant) -> Option<Arc<Failure>> {
        let hosts = self.hosts();
        let suspension = hosts
            .get(&host)
            .filter(|suspension| suspension.until > now)?;
        Some(Arc::clone(&suspension.failure))
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<SocketAddr, Suspension>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A destination under attack must not become our memory.
const MAX_HOSTS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_left_alone_for_a_while() {
        let suspensions = Suspensions::new(Duration::from_secs(10));
        let host: SocketAddr = "192.0.2.1:25".parse().unwrap();
        let failure = Arc::new(Failure::connect(
            "mx",
            host,
            &std::io::ErrorKind::ConnectionRefused.into(),
        ));
        let start = Instant::now();
        assert!(suspensions.why(host, start).is_none());
        suspensions.suspend(host, &failure, start);
        assert!(
            suspensions
                .why(host, start + Duration::from_secs(9))
                .is_some()
        );
        assert!(
            suspensions
                .why(host, start + Duration::from_secs(10))
                .is_none()
        );
        suspensions.lift(host);
        assert!(suspensions.why(host, start).is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let suspensions = Suspensions::new(Duration::from_secs(10));
        let start = Instant::now();
        let hosts: Vec<SocketAddr> = (0..u16::try_from(MAX_HOSTS).unwrap() + 10)
            .map(|port| SocketAddr::from(([192, 0, 2, 1], port)))
            .collect();
        let failure = Arc::new(Failure::connect(
            "mx",
            hosts[0],
            &std::io::ErrorKind::TimedOut.into(),
        ));
        for host in &hosts {
            suspensions.suspend(*host, &failure, start);
        }
        assert!(suspensions.why(hosts[MAX_HOSTS], start).is_none());
        suspensions.suspend(hosts[MAX_HOSTS], &failure, start + Duration::from_secs(10));
        assert!(
            suspensions
                .why(hosts[MAX_HOSTS], start + Duration::from_secs(11))
                .is_some()
        );
    }
}
