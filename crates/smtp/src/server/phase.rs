use std::fmt;

/// What the session is about, as a phrase for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// The greeting is not written yet.
    Greeting,
    /// The client has not said EHLO.
    Hello,
    /// Between transactions.
    Idle,
    /// Within AUTH.
    Authentication,
    /// Between MAIL and DATA.
    Envelope,
    /// Between `354` and the end of the content.
    Content,
    /// An event awaits its answer.
    Answer,
    /// Between STARTTLS and the end of the handshake.
    TlsHandshake,
    /// Over.
    Closed,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greeting => "before the greeting",
            Self::Hello => "waiting for EHLO",
            Self::Idle => "between transactions",
            Self::Authentication => "in the AUTH exchange",
            Self::Envelope => "receiving the envelope",
            Self::Content => "receiving the message content",
            Self::Answer => "processing",
            Self::TlsHandshake => "in the TLS handshake",
            Self::Closed => "closed",
        })
    }
}

/// The protocols of RFC 5321 §4.4 and RFC 3848.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// HELO.
    Smtp,
    /// EHLO.
    Esmtp,
    /// EHLO and AUTH.
    Esmtpa,
    /// EHLO under TLS.
    Esmtps,
    /// EHLO and AUTH under TLS.
    Esmtpsa,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smtp => "SMTP",
            Self::Esmtp => "ESMTP",
            Self::Esmtpa => "ESMTPA",
            Self::Esmtps => "ESMTPS",
            Self::Esmtpsa => "ESMTPSA",
        })
    }
}
