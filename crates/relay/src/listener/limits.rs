//! How many connections are open, in all and by client address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts open connections. The table of clients has at most as many entries as there are
/// connections, so the limit on those bounds it.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    all: u32,
    by_client: HashMap<IpAddr, u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ConnectionLimits {
    pub(crate) all: u32,
    pub(crate) per_client: u32,
}

impl Connections {
    /// Counts a connection from `client` until the permit is dropped.
    pub(crate) fn admit(
        self: &Arc<Self>,
        client: IpAddr,
        limits: ConnectionLimits,
    ) -> Result<Permit, TooMany> {
        let client = counted_as(client);
        let mut open = self.lock();
        if open.all >= limits.all {
            return Err(TooMany::InAll);
        }
        let of_client = open.by_client.entry(client).or_default();
        if *of_client >= limits.per_client {
            return Err(TooMany::OfClient);
        }
        *of_client += 1;
        open.all += 1;
        Ok(Permit {
            connections: Arc::clone(self),
            client,
        })
    }

    pub(crate) fn open(&self) -> u32 {
        self.lock().all
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        // Two counters that only ever change together: whole even if a holder panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct Permit {
    connections: Arc<Connections>,
    client: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.all -= 1;
        if let Some(of_client) = open.by_client.get_mut(&self.client) {
            *of_client -= 1;
            if *of_client == 0 {
                open.by_client.remove(&self.client);
            }
        }
    }
}

/// Which limit is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TooMany {
    InAll,
    OfClient,
}

/// A client of IPv6 has a whole /64 to connect from.
fn counted_as(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits {
        all: 3,
        per_client: 2,
    };

    fn admit(connections: &Arc<Connections>, client: &str) -> Result<Permit, TooMany> {
        connections.admit(client.parse().unwrap(), LIMITS)
    }

    #[test]
    fn limits_in_all_and_by_client() {
        let connections = Arc::new(Connections::default());
        let first = admit(&connections, "192.0.2.1").unwrap();
        let second = admit(&connections, "::ffff:192.0.2.1").unwrap();
        assert_eq!(
            admit(&connections, "192.0.2.1").unwrap_err(),
            TooMany::OfClient
        );
        let third = admit(&connections, "192.0.2.2").unwrap();
        assert_eq!(
            admit(&connections, "192.0.2.3").unwrap_err(),
            TooMany::InAll
        );
        assert_eq!(connections.open(), 3);

        drop(second);
        let again = admit(&connections, "192.0.2.1").unwrap();
        drop((first, third, again));
        assert_eq!(connections.open(), 0);
        assert!(
            connections.lock().by_client.is_empty(),
            "who has left is forgotten"
        );
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let connections = Arc::new(Connections::default());
        let _first = admit(&connections, "2001:db8::1").unwrap();
        let _second = admit(&connections, "2001:db8::ffff:2").unwrap();
        assert_eq!(
            admit(&connections, "2001:db8::3").unwrap_err(),
            TooMany::OfClient
        );
        assert!(admit(&connections, "2001:db8:0:1::3").is_ok());
    }
}
