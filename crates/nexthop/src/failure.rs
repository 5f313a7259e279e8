use std::fmt;
use std::time::Duration;

use hickory_resolver::net::NetError;
use smtp::{EnhancedStatus, StatusClass};

use crate::host::HostName;

/// Why there is no host to connect to.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveFailure {
    /// The best mail exchanger is this relay.
    #[error("mail for {domain} loops back to this host")]
    Loop { domain: HostName },
    /// There are mail exchangers, but none of them has an address.
    #[error("no mail exchanger of {domain} has an address")]
    NoAddress { domain: HostName },
    /// The domain exists, without a mail exchanger and without an address.
    #[error("{domain} has neither a mail exchanger nor an address")]
    NoExchanger { domain: HostName },
    /// The domain does not exist.
    #[error("the domain {domain} does not exist")]
    NoSuchDomain { domain: HostName },
    /// The domain states that it accepts no mail (RFC 7505).
    #[error("{domain} does not accept mail")]
    NullMx { domain: HostName },
    /// The configured smarthost has no address.
    #[error("the smarthost {host} has no address")]
    SmarthostNotFound { host: HostName },
    /// The name servers did not answer, or only with errors.
    #[error("the {lookup} look-up of {name} failed")]
    LookupFailed {
        name: HostName,
        lookup: Lookup,
        source: LookupError,
    },
    /// The look-ups took longer than all of them together may.
    #[error("the look-ups for {name} took longer than {} s", .limit.as_secs())]
    TookTooLong { name: HostName, limit: Duration },
}

impl ResolveFailure {
    /// The enhanced status code that says so (RFC 3463).
    pub fn status(&self) -> EnhancedStatus {
        match self {
            // §3.5: routing loop detected
            Self::Loop { .. } => EnhancedStatus::permanent(4, 6),
            // §3.5: unable to route. The domain in the address is right, its zone is not.
            Self::NoAddress { .. } | Self::NoExchanger { .. } => EnhancedStatus::permanent(4, 4),
            // §3.2: bad destination system address
            Self::NoSuchDomain { .. } => EnhancedStatus::permanent(1, 2),
            // RFC 7505 §4.2
            Self::NullMx { .. } => EnhancedStatus::permanent(1, 10),
            // Nobody's address is wrong, our configuration is: it may be put right.
            Self::SmarthostNotFound { .. } => EnhancedStatus::transient(4, 4),
            // §3.5: directory server failure
            Self::LookupFailed { .. } | Self::TookTooLong { .. } => EnhancedStatus::transient(4, 3),
        }
    }

    /// Whether trying again later is pointless.
    pub fn is_permanent(&self) -> bool {
        self.status().class() == StatusClass::Permanent
    }
}

/// What was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Addresses, of both families.
    Address,
    /// MX records.
    MailExchanger,
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "address",
            Self::MailExchanger => "MX",
        })
    }
}

/// What went wrong between us and the name servers.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct LookupError(NetError);

impl LookupError {
    pub(crate) fn new(error: NetError) -> Self {
        Self(error)
    }
}
