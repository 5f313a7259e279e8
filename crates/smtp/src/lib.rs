//! The Simple Mail Transfer Protocol as values: vocabulary, codec, and sans-IO sessions for both
//! sides.
//!
//! # Procedure
//!
//! 1. [`address`] holds the names of RFC 5321: [`Domain`], [`Mailbox`], [`ReversePath`],
//!    [`ForwardPath`]. A value of these types is valid; text is parsed once, at the edge.
//! 2. [`command`] and [`reply`] turn lines into typed commands and replies, and back.
//! 3. [`data`] reads message content under the strict line rule and writes it dot-stuffed.
//!    [`Content`] keeps the octets in the form in which they came, so that the usual message is
//!    neither un-stuffed nor copied on its way through.
//! 4. [`sasl`] has the exchanges of AUTH as steps.
//! 5. [`server::Session`] and [`client::Session`] are the two ends of a connection. A driver feeds
//!    octets and the time in (`handle_*`), gives commands and answers, and takes [`server::Output`]
//!    or [`client::Output`] out (`poll_output`).
//!
//! # Invariants
//!
//! * No I/O, no clock, no randomness: time is an argument and output is data.
//! * A peer's octets never panic a session, and whatever a peer can make grow has a bound.
//! * Message content ends at `CRLF . CRLF` and nowhere else. A bare CR, a bare LF or a NUL in it is
//!   refused on the way in and cannot be represented on the way out.
//! * A secret has a blank `Debug`.
//!
//! # What it does not do
//!
//! It does not decide who may send what to whom (the relay answers the server's events), whom to
//! connect to, whether a certificate is good, or what a failed delivery means. It does not look
//! into messages beyond the line rule and the end of the header section. CHUNKING, DSN, SMTPUTF8,
//! REQUIRETLS, LIMITS and SCRAM have their place in these shapes but are not there yet; see
//! `docs/conformance.md`.

#![warn(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

pub mod address;
pub mod client;
pub mod command;
pub mod data;
#[cfg(any(test, feature = "test-util"))]
pub mod pair;
pub mod reply;
pub mod sasl;
pub mod server;

pub use address::{
    AddressError, AddressLiteral, Domain, ForwardPath, HeloName, Host, LocalPart, Mailbox,
    ReversePath,
};
pub use command::{Body, MailParameters, RecipientParameters};
pub use data::{Content, ContentError};
pub use reply::{EnhancedStatus, Reply, ReplyCode, Severity, StatusClass};
pub use sasl::{Credentials, Mechanism, Secret};
