//! Patterns of strings. All are anchored; none lets CR, LF or NUL through (Go's `$` matches at the
//! end of the text only).

macro_rules! label {
    () => {
        "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
    };
}

macro_rules! domain {
    () => {
        concat!(label!(), r"(\.", label!(), ")*")
    };
}

macro_rules! atom {
    () => {
        "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
    };
}

/// RFC 5321 §2.3.5 domain name.
pub const HOSTNAME: &str = concat!("^", domain!(), "$");

/// A host name, or an address: digits, dots and colons.
pub const HOST: &str = concat!("^(", domain!(), "|[0-9A-Fa-f:.]+)$");

/// `example.com`, `*.example.com` or `*`.
pub const DOMAIN_PATTERN: &str = concat!(r"^(\*|(\*\.)?", domain!(), ")$");

/// `name@example.com`, `*@example.com`, `*@*.example.com` or `*`.
pub const SENDER_PATTERN: &str = concat!(
    r"^(\*|(\*|",
    atom!(),
    r"(\.",
    atom!(),
    r")*)@(\*|(\*\.)?",
    domain!(),
    "))$"
);

/// Name of an object: RFC 1123 subdomain.
pub const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// RFC 1123 label.
pub const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// Name of a Service port and of a container port.
pub const PORT_NAME: &str = "^[a-z]([-a-z0-9]*[a-z0-9])?$";

/// Key in a Secret.
pub const SECRET_KEY: &str = "^[-._a-zA-Z0-9]+$";

/// GEP-2257 duration.
pub const DURATION: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

/// Whole octets with an optional suffix.
pub const SIZE: &str = "^[0-9]{1,12}(k|M|G|Ki|Mi|Gi)?$";

/// CIDR notation; a rule looks closer.
pub const NETWORK: &str = "^[0-9A-Fa-f:.]+/[0-9]{1,3}$";

/// `http://HOST:PORT`.
pub const OTLP_ENDPOINT: &str = r"^http://[A-Za-z0-9._\[\]:-]+:[0-9]{1,5}/?$";

/// Names the queue in its store.
pub const QUEUE_ID: &str = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$";
