use std::fmt;
use std::str::FromStr;

use bytes::{BufMut, BytesMut};

use super::Severity;

/// An enhanced mail system status code (RFC 3463).
///
/// ```abnf
/// status-code = class "." subject "." detail
/// class       = "2" / "4" / "5"
/// subject     = 1*3digit
/// detail      = 1*3digit
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnhancedStatus {
    class: StatusClass,
    subject: u16,
    detail: u16,
}

impl EnhancedStatus {
    /// A status code.
    ///
    /// # Panics
    ///
    /// If `subject` or `detail` is over 999; meant for constants. Text goes through `FromStr`.
    pub const fn new(class: StatusClass, subject: u16, detail: u16) -> Self {
        assert!(
            subject <= 999 && detail <= 999,
            "subject and detail have up to three digits"
        );
        Self {
            class,
            subject,
            detail,
        }
    }

    /// A status code of class 2.
    pub const fn success(subject: u16, detail: u16) -> Self {
        Self::new(StatusClass::Success, subject, detail)
    }

    /// A status code of class 4.
    pub const fn transient(subject: u16, detail: u16) -> Self {
        Self::new(StatusClass::PersistentTransient, subject, detail)
    }

    /// A status code of class 5.
    pub const fn permanent(subject: u16, detail: u16) -> Self {
        Self::new(StatusClass::Permanent, subject, detail)
    }

    /// The class.
    pub const fn class(self) -> StatusClass {
        self.class
    }

    /// The subject.
    pub const fn subject(self) -> u16 {
        self.subject
    }

    /// The detail.
    pub const fn detail(self) -> u16 {
        self.detail
    }

    pub(super) fn write_to(self, out: &mut BytesMut) {
        // Three bounded numbers; a formatter costs more than the rest of a reply.
        out.put_u8(self.class.digit());
        for number in [self.subject, self.detail] {
            out.put_u8(b'.');
            let digit = |value: u16| b'0' + u8::try_from(value % 10).unwrap_or(0);
            if number >= 100 {
                out.put_u8(digit(number / 100));
            }
            if number >= 10 {
                out.put_u8(digit(number / 10));
            }
            out.put_u8(digit(number));
        }
    }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}.{}",
            char::from(self.class.digit()),
            self.subject,
            self.detail
        )
    }
}

impl fmt::Debug for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EnhancedStatus {
    type Err = InvalidStatus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.');
        let class = match parts.next() {
            Some("2") => StatusClass::Success,
            Some("4") => StatusClass::PersistentTransient,
            Some("5") => StatusClass::Permanent,
            _ => return Err(InvalidStatus),
        };
        let mut number = || {
            let digits = parts.next().ok_or(InvalidStatus)?;
            let valid =
                (1..=3).contains(&digits.len()) && digits.bytes().all(|o| o.is_ascii_digit());
            if valid {
                digits.parse().map_err(|_| InvalidStatus)
            } else {
                Err(InvalidStatus)
            }
        };
        let (subject, detail) = (number()?, number()?);
        if parts.next().is_some() {
            return Err(InvalidStatus);
        }
        Ok(Self {
            class,
            subject,
            detail,
        })
    }
}

/// The class of an enhanced status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StatusClass {
    /// 2: done.
    Success,
    /// 4: may succeed later.
    PersistentTransient,
    /// 5: will not succeed.
    Permanent,
}

impl StatusClass {
    /// Whether a reply of this severity may carry a status of this class (RFC 2034 §4).
    pub(super) fn fits(self, severity: Severity) -> bool {
        match self {
            Self::Success => severity == Severity::PositiveCompletion,
            Self::PersistentTransient => severity == Severity::TransientNegative,
            Self::Permanent => severity == Severity::PermanentNegative,
        }
    }

    const fn digit(self) -> u8 {
        match self {
            Self::Success => b'2',
            Self::PersistentTransient => b'4',
            Self::Permanent => b'5',
        }
    }
}

/// A text that is not an enhanced status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an enhanced status code")]
pub struct InvalidStatus;
