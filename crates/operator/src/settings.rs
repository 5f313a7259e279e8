//! What the operator is told on its command line.

use std::net::SocketAddr;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Image of the relay pods; the operator's own, usually.
    pub relay_image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub relay_image_pull_policy: String,
    /// Where the Lease is: the operator's own namespace.
    pub namespace: String,
    /// Who holds the Lease: the pod's name, or any other name nobody else has.
    pub identity: String,
    pub lease_name: String,
    pub lease: LeaseTiming,
    /// `/healthz`, `/readyz` and `/metrics`.
    pub listen: SocketAddr,
    /// The cluster's DNS domain, for names on certificates.
    pub cluster_domain: String,
    /// Version and revision of the program, for metrics.
    pub version: &'static str,
    pub revision: &'static str,
}

/// Times of the Lease, in the only order in which there is never more than one holder that writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseTiming {
    pub(crate) duration: Duration,
    pub(crate) renew: Duration,
    pub(crate) retry: Duration,
}

impl LeaseTiming {
    /// Others take over when the Lease was not renewed for `duration`; the holder stops when it could
    /// not renew for `renew`, and tries every `retry`.
    ///
    /// # Errors
    /// Unless `duration > renew > retry > 0`.
    pub fn new(
        duration: Duration,
        renew: Duration,
        retry: Duration,
    ) -> Result<Self, LeaseTimingError> {
        if duration <= renew {
            return Err(LeaseTimingError::Duration { duration, renew });
        }
        if renew <= retry {
            return Err(LeaseTimingError::Renew { renew, retry });
        }
        if retry.is_zero() {
            return Err(LeaseTimingError::Retry);
        }
        Ok(Self {
            duration,
            renew,
            retry,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseTimingError {
    #[error(
        "the lease duration ({duration:?}) must be longer than the renew deadline ({renew:?}): \
         otherwise another replica leads before the holder has stopped"
    )]
    Duration { duration: Duration, renew: Duration },
    #[error(
        "the renew deadline ({renew:?}) must be longer than the retry period ({retry:?}): \
         otherwise the holder stops before it renews"
    )]
    Renew { renew: Duration, retry: Duration },
    #[error("the retry period must not be zero")]
    Retry,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LeaseTiming, LeaseTimingError};

    #[test]
    fn times_of_the_lease_are_in_order() {
        let seconds = Duration::from_secs;
        let timing = |(duration, renew, retry)| {
            LeaseTiming::new(seconds(duration), seconds(renew), seconds(retry)).err()
        };
        assert_eq!(timing((15, 10, 2)), None);
        assert_eq!(timing((3, 2, 1)), None);
        for (duration, renew) in [(10, 10), (10, 15)] {
            let refused = LeaseTimingError::Duration {
                duration: seconds(duration),
                renew: seconds(renew),
            };
            assert_eq!(timing((duration, renew, 2)), Some(refused));
        }
        for (renew, retry) in [(10, 10), (10, 12)] {
            let refused = LeaseTimingError::Renew {
                renew: seconds(renew),
                retry: seconds(retry),
            };
            assert_eq!(timing((15, renew, retry)), Some(refused));
        }
        assert_eq!(timing((15, 10, 0)), Some(LeaseTimingError::Retry));
    }
}
