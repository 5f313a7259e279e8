//! What a failure means for the mail: one function, one table.

use smtp::client::{FailureCause, Phase, Unsendable};
use smtp::{EnhancedStatus, Reply, ReplyCode, StatusClass};

/// What becomes of a recipient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    Delivered,
    Deferred,
    Failed,
}

impl Disposition {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Deferred => "deferred",
            Self::Failed => "failed",
        }
    }
}

/// How far the event reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// This recipient; the others go on.
    Recipient,
    /// This transaction; the next one on the connection may fare otherwise.
    Transaction,
    /// This host: with others left they are tried at once.
    Host,
    /// The whole destination.
    Destination,
}

/// What happened in an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'a> {
    /// The peer answered a command of the transaction.
    Reply { phase: Phase, reply: &'a Reply },
    /// The session ended otherwise.
    Session {
        phase: Phase,
        cause: &'a FailureCause,
    },
    /// No connection to the host came about.
    Connect,
    /// The name servers gave no host to connect to.
    Resolve(&'a nexthop::ResolveFailure),
    /// The message does not fit this peer.
    Unsendable(Unsendable),
    /// The stored message cannot be sent to anybody.
    Malformed,
    /// An administrator does not want it to be delivered.
    Dropped,
    /// The content of the stored message is not all there, or is not what was accepted.
    Unreadable,
    /// The message's lifetime is over.
    Expired,
}

/// What it means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Verdict {
    pub(super) disposition: Disposition,
    pub(super) scope: Scope,
    pub(super) status: EnhancedStatus,
}

/// Decides what `event` means, where `is_last` says that no other host is left to try.
pub(super) fn verdict(event: Event<'_>, is_last: bool) -> Verdict {
    use Disposition::{Deferred, Delivered, Failed};
    use Scope::{Destination, Host, Recipient, Transaction};

    let (disposition, scope, status) = match event {
        Event::Reply {
            phase: Phase::FinalDot,
            reply,
        } if reply.is_positive() => (Delivered, Recipient, status_of(reply)),
        // RFC 5321 §4.5.3.1.10: the transaction is full, the recipients are not refused. §4.5.3.1.10
        // also has 552 read as 452, unless the peer says with its status that it means a mailbox.
        Event::Reply {
            phase: Phase::Rcpt,
            reply,
        } if is_full(reply) => (Deferred, Transaction, EnhancedStatus::transient(5, 3)),
        Event::Reply {
            phase: Phase::Rcpt,
            reply,
        } => by_class(reply, Recipient),
        Event::Reply { reply, .. } => by_class(reply, Transaction),

        // RFC 1047: the peer may have the message. Trying another host at once would make a
        // duplicate of what mostly is one lost reply.
        Event::Session {
            phase: Phase::FinalDot,
            cause: FailureCause::Closed | FailureCause::TimedOut | FailureCause::Violation(_),
        } => (Deferred, Transaction, EnhancedStatus::transient(4, 2)),
        Event::Session {
            phase,
            cause: FailureCause::Refused(reply),
        } => {
            let is_ours = phase == Phase::Auth;
            match reply.is_permanent() {
                // Our own credentials: whoever put them there can put them right.
                _ if is_ours => (Deferred, Destination, deferred(status_of(reply))),
                // RFC 5321 §3.1, RFC 7504: this host takes no mail; whether the destination does
                // is known when all its hosts said so.
                true if is_last && phase != Phase::StartTls => {
                    (Failed, Destination, status_of(reply))
                }
                _ => (Deferred, Host, deferred(status_of(reply))),
            }
        }
        Event::Session { cause, .. } => match cause {
            FailureCause::AuthenticationUnavailable | FailureCause::CredentialsInClear => {
                (Deferred, Destination, EnhancedStatus::transient(7, 0))
            }
            FailureCause::TlsUnavailable => (Deferred, Host, EnhancedStatus::transient(7, 4)),
            FailureCause::TlsFailed => (Deferred, Host, EnhancedStatus::transient(7, 5)),
            FailureCause::Violation(_) => (Deferred, Host, EnhancedStatus::transient(5, 0)),
            // Closed, timed out, and what later versions of the session may add.
            _ => (Deferred, Host, EnhancedStatus::transient(4, 2)),
        },
        Event::Connect => (Deferred, Host, EnhancedStatus::transient(4, 1)),
        Event::Resolve(failure) if failure.is_permanent() => {
            (Failed, Destination, failure.status())
        }
        Event::Resolve(failure) => (Deferred, Destination, failure.status()),
        Event::Unsendable(unsendable) => (Failed, Transaction, unsendable.status()),
        Event::Malformed => (Failed, Transaction, EnhancedStatus::permanent(6, 0)),
        // RFC 3463 §3.4: a fault of this system, which somebody may put right.
        Event::Unreadable => (Deferred, Transaction, EnhancedStatus::transient(3, 0)),
        // RFC 3463 §3.8: refused by policy.
        Event::Dropped => (Failed, Recipient, EnhancedStatus::permanent(7, 1)),
        // RFC 3463 §3.5: delivery time expired. What kept it from being delivered was transient.
        Event::Expired => (Failed, Recipient, EnhancedStatus::transient(4, 7)),
    };
    Verdict {
        disposition,
        scope,
        status,
    }
}

fn by_class(reply: &Reply, scope: Scope) -> (Disposition, Scope, EnhancedStatus) {
    let disposition = if reply.is_permanent() {
        Disposition::Failed
    } else {
        Disposition::Deferred
    };
    (disposition, scope, status_of(reply))
}

fn is_full(reply: &Reply) -> bool {
    let detail = reply
        .enhanced()
        .map(|status| (status.subject(), status.detail()));
    match reply.code() {
        ReplyCode::INSUFFICIENT_STORAGE => matches!(detail, None | Some((5, 3))),
        ReplyCode::EXCEEDED_STORAGE => matches!(detail, Some((5, 3))),
        _ => false,
    }
}

/// The status the peer gave, in the class of its reply code, which is what counts (RFC 5321
/// §4.2.1); without one the class alone.
fn status_of(reply: &Reply) -> EnhancedStatus {
    let class = if reply.is_positive() {
        StatusClass::Success
    } else if reply.is_permanent() {
        StatusClass::Permanent
    } else {
        StatusClass::PersistentTransient
    };
    let (subject, detail) = reply
        .enhanced()
        .map_or((0, 0), |status| (status.subject(), status.detail()));
    EnhancedStatus::new(class, subject, detail)
}

fn deferred(status: EnhancedStatus) -> EnhancedStatus {
    EnhancedStatus::transient(status.subject(), status.detail())
}

#[cfg(test)]
mod tests {
    use nexthop::{HostName, ResolveFailure};
    use smtp::client::Violation;

    use super::*;

    fn check(event: Event<'_>, is_last: bool, expected: (Disposition, Scope, &str)) {
        let verdict = verdict(event, is_last);
        let status = verdict.status.to_string();
        assert_eq!(
            (verdict.disposition, verdict.scope, status.as_str()),
            expected,
            "{event:?}, last: {is_last}"
        );
    }

    /// The answer to a command: the same whatever host it comes from.
    fn check_reply(phase: Phase, reply: &str, expected: (Disposition, Scope, &str)) {
        let reply: Reply = reply.parse().unwrap();
        for is_last in [false, true] {
            check(
                Event::Reply {
                    phase,
                    reply: &reply,
                },
                is_last,
                expected,
            );
        }
    }

    #[test]
    fn replies_in_a_transaction() {
        use Disposition::{Deferred, Delivered, Failed};
        use Scope::{Recipient, Transaction};

        for (phase, reply, expected) in [
            (
                Phase::FinalDot,
                "250 2.6.0 queued",
                (Delivered, Recipient, "2.6.0"),
            ),
            (Phase::FinalDot, "250 ok", (Delivered, Recipient, "2.0.0")),
            (
                Phase::Mail,
                "451 4.7.1 later",
                (Deferred, Transaction, "4.7.1"),
            ),
            (Phase::Mail, "550 5.7.1 no", (Failed, Transaction, "5.7.1")),
            (
                Phase::Rcpt,
                "450 4.2.0 greylisted",
                (Deferred, Recipient, "4.2.0"),
            ),
            (Phase::Rcpt, "451 no status", (Deferred, Recipient, "4.0.0")),
            (
                Phase::Rcpt,
                "550 5.1.1 nobody",
                (Failed, Recipient, "5.1.1"),
            ),
            (
                Phase::Rcpt,
                "450 5.1.1 the code counts",
                (Deferred, Recipient, "4.0.0"),
            ),
            (
                Phase::Rcpt,
                "550 4.1.1 the code counts",
                (Failed, Recipient, "5.0.0"),
            ),
            (
                Phase::Rcpt,
                "552 5.2.2 mailbox full",
                (Failed, Recipient, "5.2.2"),
            ),
            (
                Phase::Rcpt,
                "452 4.2.2 mailbox full",
                (Deferred, Recipient, "4.2.2"),
            ),
            (
                Phase::Rcpt,
                "452 4.5.3 too many",
                (Deferred, Transaction, "4.5.3"),
            ),
            (
                Phase::Rcpt,
                "452 too many",
                (Deferred, Transaction, "4.5.3"),
            ),
            (
                Phase::Rcpt,
                "552 5.5.3 too many",
                (Deferred, Transaction, "4.5.3"),
            ),
            (Phase::Data, "451 later", (Deferred, Transaction, "4.0.0")),
            (
                Phase::Data,
                "554 5.5.1 no valid recipients",
                (Failed, Transaction, "5.5.1"),
            ),
            (
                Phase::FinalDot,
                "452 4.3.1 full",
                (Deferred, Transaction, "4.3.1"),
            ),
            (
                Phase::FinalDot,
                "554 5.6.0 spam",
                (Failed, Transaction, "5.6.0"),
            ),
            (
                Phase::FinalDot,
                "552 5.3.4 too big",
                (Failed, Transaction, "5.3.4"),
            ),
        ] {
            check_reply(phase, reply, expected);
        }
    }

    #[test]
    fn ends_of_sessions() {
        use Disposition::{Deferred, Failed};
        use Scope::{Destination, Host, Transaction};

        let refused = |text: &str| FailureCause::Refused(text.parse().unwrap());
        for (phase, cause, expected, expected_of_last) in [
            (
                Phase::Greeting,
                refused("421 4.3.2 busy"),
                (Deferred, Host, "4.3.2"),
                None,
            ),
            (
                Phase::Greeting,
                refused("450 wait"),
                (Deferred, Host, "4.0.0"),
                None,
            ),
            (
                Phase::Greeting,
                refused("554 5.7.1 go away"),
                (Deferred, Host, "4.7.1"),
                Some((Failed, Destination, "5.7.1")),
            ),
            (
                Phase::Greeting,
                refused("521 no mail here"),
                (Deferred, Host, "4.0.0"),
                Some((Failed, Destination, "5.0.0")),
            ),
            (
                Phase::Helo,
                refused("550 5.7.1 bad name"),
                (Deferred, Host, "4.7.1"),
                Some((Failed, Destination, "5.7.1")),
            ),
            (
                Phase::StartTls,
                refused("454 4.7.0 no"),
                (Deferred, Host, "4.7.0"),
                None,
            ),
            (
                Phase::StartTls,
                refused("554 5.7.0 no"),
                (Deferred, Host, "4.7.0"),
                None,
            ),
            (
                Phase::StartTls,
                FailureCause::TlsUnavailable,
                (Deferred, Host, "4.7.4"),
                None,
            ),
            (
                Phase::TlsHandshake,
                FailureCause::TlsFailed,
                (Deferred, Host, "4.7.5"),
                None,
            ),
            (
                Phase::Auth,
                refused("535 5.7.8 wrong"),
                (Deferred, Destination, "4.7.8"),
                None,
            ),
            (
                Phase::Auth,
                FailureCause::CredentialsInClear,
                (Deferred, Destination, "4.7.0"),
                None,
            ),
            (
                Phase::Auth,
                FailureCause::AuthenticationUnavailable,
                (Deferred, Destination, "4.7.0"),
                None,
            ),
            (
                Phase::Mail,
                refused("421 4.7.0 too fast"),
                (Deferred, Host, "4.7.0"),
                None,
            ),
            (
                Phase::Rcpt,
                FailureCause::Closed,
                (Deferred, Host, "4.4.2"),
                None,
            ),
            (
                Phase::Data,
                FailureCause::TimedOut,
                (Deferred, Host, "4.4.2"),
                None,
            ),
            (
                Phase::Content,
                FailureCause::Closed,
                (Deferred, Host, "4.4.2"),
                None,
            ),
            (
                Phase::Ehlo,
                FailureCause::Violation(Violation::UnexpectedReply),
                (Deferred, Host, "4.5.0"),
                None,
            ),
            (
                Phase::FinalDot,
                refused("421 4.3.0 down"),
                (Deferred, Host, "4.3.0"),
                None,
            ),
            (
                Phase::FinalDot,
                FailureCause::Closed,
                (Deferred, Transaction, "4.4.2"),
                None,
            ),
            (
                Phase::FinalDot,
                FailureCause::TimedOut,
                (Deferred, Transaction, "4.4.2"),
                None,
            ),
            (
                Phase::FinalDot,
                FailureCause::Violation(Violation::UnexpectedReply),
                (Deferred, Transaction, "4.4.2"),
                None,
            ),
        ] {
            let event = Event::Session {
                phase,
                cause: &cause,
            };
            check(event, false, expected);
            check(event, true, expected_of_last.unwrap_or(expected));
        }
    }

    #[test]
    fn what_does_not_get_as_far() {
        use Disposition::{Deferred, Failed};
        use Scope::{Destination, Host, Recipient, Transaction};

        let domain = HostName::parse("example.org").unwrap();
        let no_domain = ResolveFailure::NoSuchDomain {
            domain: domain.clone(),
        };
        let null_mx = ResolveFailure::NullMx {
            domain: domain.clone(),
        };
        let no_smarthost = ResolveFailure::SmarthostNotFound { host: domain };
        for (event, expected) in [
            (Event::Connect, (Deferred, Host, "4.4.1")),
            (Event::Resolve(&no_domain), (Failed, Destination, "5.1.2")),
            (Event::Resolve(&null_mx), (Failed, Destination, "5.1.10")),
            (
                Event::Resolve(&no_smarthost),
                (Deferred, Destination, "4.4.4"),
            ),
            (
                Event::Unsendable(Unsendable::EightBit),
                (Failed, Transaction, "5.6.3"),
            ),
            (
                Event::Unsendable(Unsendable::TooLarge { limit: 1 }),
                (Failed, Transaction, "5.3.4"),
            ),
            (Event::Malformed, (Failed, Transaction, "5.6.0")),
            (Event::Dropped, (Failed, Recipient, "5.7.1")),
            (Event::Expired, (Failed, Recipient, "4.4.7")),
        ] {
            for is_last in [false, true] {
                check(event, is_last, expected);
            }
        }
    }
}
