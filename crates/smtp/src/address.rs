//! Names of RFC 5321 §4.1.2 and §4.1.3: domains, address literals, mailboxes and paths.
//!
//! Text becomes a value of these types once, where it enters; a value is valid ever after. All
//! types hold text, not octets, so that internationalised addresses (RFC 6531) fit without another
//! representation; today only ASCII is accepted.

mod domain;
mod helo;
mod literal;
mod local_part;
mod mailbox;
mod path;

pub use domain::Domain;
pub use helo::HeloName;
pub use literal::AddressLiteral;
pub use local_part::LocalPart;
pub use mailbox::{Host, Mailbox};
pub use path::{ForwardPath, ReversePath};

/// Why a text is not a valid domain, mailbox or path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// A path without `<` in front or `>` behind.
    #[error("the address is not enclosed in angle brackets")]
    Brackets,
    /// A domain name that breaks the letter-digit-hyphen rule, or has an empty label.
    #[error("the domain name is not valid")]
    Domain,
    /// A domain over 255 octets (RFC 5321 §4.5.3.1.2).
    #[error("the domain is longer than 255 octets")]
    DomainTooLong,
    /// Something in brackets that is neither an IPv4 nor an IPv6 address.
    #[error("the address literal is not valid")]
    Literal,
    /// A local part that is neither a dot-string nor a quoted string.
    #[error("the local part is not valid")]
    LocalPart,
    /// A local part over 64 octets (RFC 5321 §4.5.3.1.1).
    #[error("the local part is longer than 64 octets")]
    LocalPartTooLong,
    /// A mailbox without `@` and a domain.
    #[error("the domain is missing")]
    MissingDomain,
    /// Octets outside ASCII, which need SMTPUTF8.
    #[error("the address has characters outside ASCII")]
    NonAscii,
    /// A path over 256 octets with its punctuation (RFC 5321 §4.5.3.1.3).
    #[error("the path is longer than 256 octets")]
    PathTooLong,
    /// A source route (RFC 5321 §4.1.2) that is not well formed.
    #[error("the source route is not valid")]
    SourceRoute,
}
