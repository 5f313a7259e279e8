use crate::reply::Reply;
use crate::sasl::Mechanism;

/// What the peer offered in its reply to EHLO; nothing after HELO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// The mechanisms of AUTH (RFC 4954) that are known here, best first.
    pub auth: Vec<Mechanism>,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status_codes: bool,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// SIZE (RFC 1870).
    pub size: Option<SizeLimit>,
    /// SMTPUTF8 (RFC 6531).
    pub smtp_utf8: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
}

/// What SIZE says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeLimit {
    /// No fixed limit is known.
    Unknown,
    /// The largest message in octets.
    Octets(u64),
}

impl Capabilities {
    pub(super) fn parse(reply: &Reply) -> Self {
        let mut capabilities = Self::default();
        // RFC 5321 §4.1.1.1: the first line has the peer's name.
        for line in reply.lines().skip(1) {
            capabilities.line(line);
        }
        capabilities.auth.sort_unstable();
        capabilities.auth.dedup();
        capabilities
    }

    fn line(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let Some(keyword) = words.next() else {
            return;
        };
        let is = |name: &str| keyword.eq_ignore_ascii_case(name);
        if is("PIPELINING") {
            self.pipelining = true;
        } else if is("SIZE") {
            // RFC 1870 §4: no number, and zero, mean no fixed limit.
            let limit = words
                .next()
                .and_then(|word| word.parse().ok())
                .filter(|limit| *limit > 0);
            self.size = Some(limit.map_or(SizeLimit::Unknown, SizeLimit::Octets));
        } else if is("8BITMIME") {
            self.eight_bit_mime = true;
        } else if is("ENHANCEDSTATUSCODES") {
            self.enhanced_status_codes = true;
        } else if is("STARTTLS") {
            self.starttls = true;
        } else if is("AUTH") {
            self.auth
                .extend(words.filter_map(|word| word.parse::<Mechanism>().ok()));
        } else if is("SMTPUTF8") {
            self.smtp_utf8 = true;
        } else if is("CHUNKING") {
            self.chunking = true;
        } else if is("DSN") {
            self.dsn = true;
        } else if is("REQUIRETLS") {
            self.require_tls = true;
        }
    }
}
