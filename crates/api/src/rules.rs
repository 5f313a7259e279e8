//! Rules over several fields (CEL), checked by the API server before anything is stored.
//!
//! Each rule has an accepting and a refusing example in `tests/fixtures/cel`, applied to a real API
//! server. Strings and lists in them are bounded, which bounds their cost.

use serde_json::{Value, json};

/// Kubernetes makes child names of this one, among them a Service, whose names are DNS labels.
pub(crate) fn relay_root() -> Value {
    json!([{
        "rule": "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 40",
        "message": "the name becomes a Service's name: use at most 40 lower-case letters, digits and hyphens, beginning with a letter",
    }])
}

/// `<name>.<namespace>` is an SMTP user name, and the name of a route goes into queue keys.
pub(crate) fn attachment_root() -> Value {
    json!([{
        "rule": "size(self.metadata.name) <= 63",
        "message": "use a name of at most 63 characters",
    }])
}

/// The Service could not serve two listeners on one port.
pub(crate) fn listeners() -> Value {
    json!([{
        "rule": "self.all(a, self.exists_one(b, b.port == a.port))",
        "message": "each listener needs a port of its own",
    }])
}

/// Both at once contradict each other: whoever may relay by address must not have to authenticate.
pub(crate) fn listener() -> Value {
    json!([{
        "rule": "!(has(self.auth) && self.auth.required && has(self.allowedNetworks) && size(self.allowedNetworks) > 0)",
        "message": "allowedNetworks lets clients relay without AUTH: set auth.required to false, or leave allowedNetworks out",
    }])
}

/// Union of `type`.
pub(crate) fn listener_tls() -> Value {
    json!([{
        "rule": "self.type == 'SecretRef' ? has(self.secretRef) : !has(self.secretRef)",
        "message": "type SecretRef needs secretRef; with another type leave secretRef out",
    }])
}

/// RFC 4954 AUTH without a mechanism can never succeed.
pub(crate) fn auth() -> Value {
    json!([{
        "rule": "!self.required || size(self.mechanisms) > 0",
        "message": "auth.required needs at least one mechanism",
    }])
}

/// A wide range makes an open relay; one range has one spelling.
pub(crate) fn networks() -> Value {
    json!([
        {
            "rule": "self.all(n, isCIDR(n))",
            "message": "write an address range as 10.0.0.0/8 or fd00::/48",
        },
        {
            "rule": "self.all(n, !isCIDR(n) || cidr(n).prefixLength() >= (cidr(n).ip().family() == 4 ? 8 : 19))",
            "message": "so wide a range makes an open relay: at least /8 (IPv4) or /19 (IPv6)",
        },
        {
            "rule": "self.all(n, !isCIDR(n) || cidr(n) == cidr(n).masked())",
            "message": "bits are set behind the prefix: write the first address of the range",
        },
    ])
}

/// Union of `type`; mail waits under the id, so changing it would leave that mail behind.
pub(crate) fn queue() -> Value {
    json!([
        {
            "rule": "self.type == 'Redis' ? has(self.redis) : !has(self.redis)",
            "message": "type Redis needs redis",
        },
        {
            "rule": "has(self.id) == has(oldSelf.id) && (!has(self.id) || self.id == oldSelf.id)",
            "message": "queue.id is immutable: mail waits under it. Make another MailRelay for another queue",
        },
        {
            "rule": "duration(self.lifetime) >= duration('1s') && duration(self.lifetime) <= duration('720h')",
            "message": "queue.lifetime must be from 1s to 720h",
        },
        {
            "rule": "!has(self.delayNotice) || duration(self.delayNotice) < duration(self.lifetime)",
            "message": "queue.delayNotice must be shorter than queue.lifetime, which ends with a notification of its own",
        },
    ])
}

/// Union of `type`; two of its types have no member.
pub(crate) fn durability() -> Value {
    json!([
        {
            "rule": "self.type == 'Replicated' ? has(self.replicated) : !has(self.replicated)",
            "message": "type Replicated needs replicated; with another type leave replicated out",
        },
        {
            "rule": "self.type == 'FsyncReplicated' ? has(self.fsyncReplicated) : !has(self.fsyncReplicated)",
            "message": "type FsyncReplicated needs fsyncReplicated; with another type leave fsyncReplicated out",
        },
    ])
}

pub(crate) fn retry() -> Value {
    json!([
        {
            "rule": "duration(self.initial) > duration('0s')",
            "message": "retry.initial must not be zero",
        },
        {
            "rule": "duration(self.max) >= duration(self.initial)",
            "message": "retry.max must not be shorter than retry.initial",
        },
    ])
}

/// RFC 5321 §4.5.3.1.7 asks for at least 64 KiB.
pub(crate) fn message_size() -> Value {
    json!([{
        "rule": "quantity(self).compareTo(quantity('64Ki')) >= 0 && quantity(self).compareTo(quantity('50Mi')) <= 0",
        "message": "limits.messageSize must be from 64Ki to 50Mi",
    }])
}

/// Union of `type`.
pub(crate) fn authentication() -> Value {
    json!([{
        "rule": "self.type == 'Password' ? has(self.password) : !has(self.password)",
        "message": "type Password needs password",
    }])
}

/// Union of `type`.
pub(crate) fn action() -> Value {
    json!([{
        "rule": "self.type == 'Smarthost' ? has(self.smarthost) : !has(self.smarthost)",
        "message": "type Smarthost needs smarthost; with another type leave smarthost out",
    }])
}

/// Connections and messages of mail exchangers are limited for every destination alike.
pub(crate) fn rule() -> Value {
    json!([{
        "rule": "!has(self.limits) || self.action.type == 'Smarthost'",
        "message": "limits are of a smarthost: with another type leave them out",
    }])
}

pub(crate) fn rate() -> Value {
    json!([{
        "rule": "duration(self.per) >= duration('1ms') && duration(self.per) <= duration('24h')",
        "message": "rate.per must be from 1ms to 24h",
    }])
}
