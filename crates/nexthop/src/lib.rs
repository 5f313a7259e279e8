//! Where mail for a domain goes: from a recipient domain or a smarthost to the addresses to
//! connect to, in order.
//!
//! The procedure, in order (RFC 5321 §5.1):
//!
//! 1. A [`NextHop`] says how to route: by the mail exchangers of a domain, to the address in an
//!    address literal, or to a smarthost.
//! 2. [`Resolver::mail_exchangers`] looks up MX records: sorted by preference, shuffled within
//!    equal ones, bounded. No MX record means the domain itself, a null MX that it takes no mail.
//! 3. Exchangers that are no better than ourselves are cut off ([`LocalHost`]), so that mail does
//!    not come back.
//! 4. The hosts' addresses of both families are looked up, all hosts at once.
//! 5. [`Candidates`] are what is left, in the order in which to try them, each telling whether it
//!    is the last.
//!
//! Invariants:
//!
//! * Mail domains and exchangers are looked up as fully qualified names: in a pod, with its search
//!   path and `ndots:5`, anything else would ask for `example.com.mail.svc.cluster.local` first.
//!   A smarthost's name goes through the search path, as `receiver.mail.svc` must.
//! * Whether a [`ResolveFailure`] is permanent is decided here. Only a name server that answered
//!   can make it so; silence and errors are transient.
//! * What a zone can make grow is bounded: hosts, addresses, time and the cache.
//! * Randomness is passed in as a seed: the same seed and answers give the same order.
//!
//! What it does not do: it does not connect, knows nothing of TLS, and validates no DNSSEC yet
//! (DANE and MTA-STS come with that). It takes any address that DNS gives, private ones too:
//! inside a cluster those are the usual ones.

mod candidates;
mod exchangers;
mod failure;
mod host;
mod order;
mod resolver;
mod site;

pub use candidates::{Candidate, Candidates, LocalHost, NextHop, Unresolved};
pub use exchangers::{Exchanger, Exchangers};
pub use failure::{Lookup, LookupError, ResolveFailure};
pub use host::HostName;
pub use resolver::{BuildError, Resolver, Settings};
pub use site::{mx_site, smarthost_site};

#[cfg(test)]
mod name_server;
