//! Who may relay what to whom. Closed by default: a client that is nobody is refused.
//!
//! The order of the questions: who is it ([`Client::standing`]), may it relay at all, may it use
//! this reverse-path, may mail go to this forward-path. Each refusal is a reply and, for the
//! counters, a reason.

pub(crate) mod credentials;

use std::net::IpAddr;
use std::sync::Arc;

use smtp::{EnhancedStatus, ForwardPath, Reply, ReplyCode, ReversePath};

use crate::active::{Active, ListenerPolicy};
use crate::metrics::Refusal;
use credentials::Credential;

/// The other end of a connection, as far as it matters for what it may do.
#[derive(Debug)]
pub(crate) struct Client {
    address: IpAddr,
    authenticated: Option<Arc<Credential>>,
}

/// As whom a client relays.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// It authenticated, and its credential still stands.
    Authenticated(Arc<Credential>),
    /// Its address is in one of the listener's networks.
    Network,
    /// Nobody we know.
    Stranger,
}

impl Client {
    pub(crate) fn new(address: IpAddr) -> Self {
        Self {
            address: address.to_canonical(),
            authenticated: None,
        }
    }

    pub(crate) fn authenticate(&mut self, credential: Arc<Credential>) {
        self.authenticated = Some(credential);
    }

    /// Judged by the configuration of this moment: a credential that was revoked while its session
    /// goes on is worth nothing any more.
    pub(crate) fn standing(&self, active: &Active, listener: &ListenerPolicy) -> Standing {
        if let Some(held) = &self.authenticated {
            return match active.credentials.current(held) {
                Some(credential) => Standing::Authenticated(credential),
                None => Standing::Stranger,
            };
        }
        if listener.relays_for(self.address) {
            Standing::Network
        } else {
            Standing::Stranger
        }
    }
}

impl Standing {
    /// Who pays for the message: the share of the queue it is counted to.
    pub(crate) fn tenant<'a>(&'a self, active: &'a Active) -> &'a str {
        match self {
            Self::Authenticated(credential) => &credential.tenant,
            Self::Network | Self::Stranger => &active.loaded.config.default_tenant,
        }
    }

    pub(crate) fn identity(&self) -> Option<&str> {
        match self {
            Self::Authenticated(credential) => Some(&credential.username),
            Self::Network | Self::Stranger => None,
        }
    }
}

/// Whether the client may open a transaction with this reverse-path.
pub(crate) fn judge_reverse_path(
    standing: &Standing,
    active: &Active,
    listener: &ListenerPolicy,
    reverse_path: &ReversePath,
) -> Result<(), Refused> {
    match standing {
        Standing::Stranger if listener.offers_authentication => Err(Refused(
            Refusal::AuthenticationRequired,
            authentication_required(),
        )),
        Standing::Stranger => Err(Refused(Refusal::Relaying, relaying_denied())),
        Standing::Authenticated(credential) if !credential_may_send(credential, reverse_path) => {
            Err(Refused(
                Refusal::Sender,
                sender_not_allowed("This credential may not use that reverse-path"),
            ))
        }
        Standing::Authenticated(_) | Standing::Network
            if !tenant_may_send(active, standing.tenant(active), reverse_path) =>
        {
            Err(Refused(
                Refusal::Sender,
                sender_not_allowed("This tenant may not send from that domain"),
            ))
        }
        Standing::Authenticated(_) | Standing::Network => Ok(()),
    }
}

/// Whether mail may go to this forward-path. Source routes are gone already (RFC 5321 §4.1.1.3);
/// what is judged is the final address.
pub(crate) fn judge_forward_path(forward_path: &ForwardPath) -> Result<(), Refused> {
    // `user%elsewhere@host`, `elsewhere!user@host`: the next hop may trust us and honour them.
    match forward_path.mailbox() {
        Some(mailbox) if mailbox.local_part().hides_route() => Err(Refused(
            Refusal::Recipient,
            Reply::new(
                ReplyCode::MAILBOX_UNAVAILABLE,
                Some(EnhancedStatus::permanent(7, 1)),
                "Addresses that hide a route in the local part are not relayed",
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

/// A refusal, counted and said.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Refusal, pub(crate) Reply);

/// The null reverse-path names nobody, so whoever may send as some may not send as none: it is for
/// credentials without a restriction.
fn credential_may_send(credential: &Credential, reverse_path: &ReversePath) -> bool {
    let patterns = &credential.allowed_senders;
    match reverse_path {
        _ if patterns.is_empty() => true,
        ReversePath::Null => false,
        ReversePath::Mailbox(mailbox) => {
            let local_part = mailbox.local_part().unquoted();
            let host = mailbox.host().to_string();
            patterns
                .iter()
                .any(|pattern| pattern.matches(&local_part, &host))
        }
    }
}

/// A notification comes from nobody's domain.
fn tenant_may_send(active: &Active, tenant: &str, reverse_path: &ReversePath) -> bool {
    reverse_path
        .mailbox()
        .is_none_or(|mailbox| active.tenant_may_send_as(tenant, &mailbox.host().to_string()))
}

fn sender_not_allowed(text: &'static str) -> Reply {
    let status = EnhancedStatus::permanent(7, 1);
    Reply::new(ReplyCode::MAILBOX_NAME_NOT_ALLOWED, Some(status), text)
}

fn authentication_required() -> Reply {
    // RFC 4954 §6
    Reply::new(
        ReplyCode::AUTH_REQUIRED,
        Some(EnhancedStatus::permanent(7, 0)),
        "Authentication required",
    )
}

fn relaying_denied() -> Reply {
    Reply::new(
        ReplyCode::MAILBOX_UNAVAILABLE,
        Some(EnhancedStatus::permanent(7, 1)),
        "Relaying denied",
    )
}
