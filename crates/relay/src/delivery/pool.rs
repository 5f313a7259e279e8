use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Settings;
use config::delivery::NextHopTls;

use super::connect::tls_requirement;
use super::connection::Connection;
use crate::routing::Target;

/// Connections between two grants. One is used again only for the same site and the same demand
/// for TLS: domains that share their mail exchangers share connections, others do not.
#[derive(Debug, Default)]
pub(super) struct Pool {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    idle: HashMap<Key, Vec<Connection>>,
    count: usize,
    /// Domain -> its site, as it was when last looked up.
    sites: HashMap<String, (String, Instant)>,
}

/// What a connection is good for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key {
    site: String,
    tls: NextHopTls,
}

impl Pool {
    /// What connections to `target` are kept under, as far as it is known without a look-up.
    pub(super) fn key(&self, target: &Target, settings: &Settings) -> Option<Key> {
        let tls = tls_requirement(target, settings);
        let site = match target {
            Target::Smarthost(smarthost) => format!("{}:{}", smarthost.host, smarthost.port),
            Target::Mx { domain } => {
                let state = self.state();
                let (site, learned) = state.sites.get(domain)?;
                if learned.elapsed() > SITE_FOR {
                    return None;
                }
                site.clone()
            }
        };
        Some(Key { site, tls })
    }

    pub(super) fn learn(&self, target: &Target, site: &str) {
        let Target::Mx { domain } = target else {
            return;
        };
        let mut state = self.state();
        if state.sites.len() >= MAX_SITES {
            state
                .sites
                .retain(|_, (_, learned)| learned.elapsed() <= SITE_FOR);
        }
        if state.sites.len() < MAX_SITES {
            state
                .sites
                .insert(domain.clone(), (site.to_owned(), Instant::now()));
        }
    }

    /// The connection that was used last: the others may rest and end.
    pub(super) fn take(&self, key: &Key) -> Option<Connection> {
        loop {
            let mut connection = self.pop(key)?;
            if connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    /// Keeps `connection` for others; gives it back when there are enough.
    pub(super) fn put(&self, key: Key, mut connection: Connection) -> Option<Connection> {
        let mut state = self.state();
        if state.count >= MAX_IDLE {
            return Some(connection);
        }
        connection.become_idle(Instant::now());
        state.count += 1;
        state.idle.entry(key).or_default().push(connection);
        None
    }

    /// Takes out what has been idle for longer than `idle_for`.
    pub(super) fn sweep(&self, idle_for: Duration) -> Vec<Connection> {
        let mut state = self.state();
        let mut swept = Vec::new();
        for connections in state.idle.values_mut() {
            swept.extend(connections.extract_if(.., |connection| {
                connection.idle_since().elapsed() >= idle_for
            }));
        }
        state.idle.retain(|_, connections| !connections.is_empty());
        state.count -= swept.len();
        swept
    }

    fn pop(&self, key: &Key) -> Option<Connection> {
        let mut state = self.state();
        let connection = state.idle.get_mut(key)?.pop()?;
        state.count -= 1;
        Some(connection)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const MAX_IDLE: usize = 256;
const MAX_SITES: usize = 8192;
const SITE_FOR: Duration = Duration::from_secs(60);
