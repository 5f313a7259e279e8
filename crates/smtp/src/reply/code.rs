use std::fmt;

use bytes::{BufMut, BytesMut};

/// A reply code, 200 to 599.
///
/// RFC 5321 §4.2 has second digits up to 5 only; receivers in use send `570` and the like, and the
/// first digit alone decides, so these are let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplyCode(u16);

impl ReplyCode {
    /// 220: service ready.
    pub const SERVICE_READY: Self = Self(220);
    /// 221: closing.
    pub const CLOSING: Self = Self(221);
    /// 235: authentication succeeded (RFC 4954).
    pub const AUTHENTICATED: Self = Self(235);
    /// 250: done.
    pub const OK: Self = Self(250);
    /// 334: continue the exchange (RFC 4954).
    pub const AUTH_CONTINUE: Self = Self(334);
    /// 354: send the content.
    pub const START_MAIL_INPUT: Self = Self(354);
    /// 421: not available, closing.
    pub const SERVICE_NOT_AVAILABLE: Self = Self(421);
    /// 450: mailbox not available for now.
    pub const MAILBOX_BUSY: Self = Self(450);
    /// 451: an error in processing; try again.
    pub const LOCAL_ERROR: Self = Self(451);
    /// 452: too little storage; try again.
    pub const INSUFFICIENT_STORAGE: Self = Self(452);
    /// 454: temporary authentication or TLS failure.
    pub const TEMPORARY_AUTH_FAILURE: Self = Self(454);
    /// 530: authentication required (RFC 4954) or STARTTLS first (RFC 3207).
    pub const AUTH_REQUIRED: Self = Self(530);
    /// 535: credentials refused.
    pub const AUTH_FAILED: Self = Self(535);
    /// 550: refused for good.
    pub const MAILBOX_UNAVAILABLE: Self = Self(550);
    /// 552: too large.
    pub const EXCEEDED_STORAGE: Self = Self(552);
    /// 553: address not allowed.
    pub const MAILBOX_NAME_NOT_ALLOWED: Self = Self(553);
    /// 554: the transaction failed.
    pub const TRANSACTION_FAILED: Self = Self(554);

    /// A code, if `code` is within 200 to 599.
    pub const fn new(code: u16) -> Option<Self> {
        if code >= 200 && code < 600 {
            Some(Self(code))
        } else {
            None
        }
    }

    /// The number.
    pub const fn value(self) -> u16 {
        self.0
    }

    /// What the first digit says.
    pub const fn severity(self) -> Severity {
        match self.0 / 100 {
            2 => Severity::PositiveCompletion,
            3 => Severity::PositiveIntermediate,
            4 => Severity::TransientNegative,
            _ => Severity::PermanentNegative,
        }
    }

    pub(super) fn write_to(self, out: &mut BytesMut) {
        let digit = |value: u16| b'0' + u8::try_from(value % 10).unwrap_or(0);
        out.put_slice(&[digit(self.0 / 100), digit(self.0 / 10), digit(self.0)]);
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The first digit of a reply code (RFC 5321 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// 2yz
    PositiveCompletion,
    /// 3yz
    PositiveIntermediate,
    /// 4yz
    TransientNegative,
    /// 5yz
    PermanentNegative,
}
