use std::fmt;
use std::str::FromStr;

/// Where a page of tasks ended. What it says is the business of the back end that wrote it; its written
/// form can stand in a URL as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cursor {
    pub(crate) part: Part,
    /// The queue, or the worker.
    pub(crate) of: String,
    /// Behind this member, by its score; at the beginning of `of` when it is empty.
    pub(crate) score: u64,
    pub(crate) member: String,
}

/// In the order in which they are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Waiting,
    Held,
    Claimed,
}

/// A text that is not the written form of a cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not where a page of this list ends")]
pub struct NoCursor;

impl Part {
    pub(crate) fn letter(self) -> &'static str {
        match self {
            Self::Waiting => "w",
            Self::Held => "h",
            Self::Claimed => "c",
        }
    }

    pub(crate) fn from_letter(letter: &str) -> Option<Self> {
        [Self::Waiting, Self::Held, Self::Claimed]
            .into_iter()
            .find(|part| part.letter() == letter)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names in the queue have no control characters.
        let letter = self.part.letter();
        let plain = format!("{letter}\n{}\n{}\n{}", self.score, self.of, self.member);
        plain.bytes().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let digits: Option<Vec<u8>> = text
            .chars()
            .map(|digit| Some(u8::try_from(digit.to_digit(16)?).unwrap_or(0)))
            .collect();
        let octets = digits.ok_or(NoCursor)?;
        let octets = octets
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |octet, digit| octet << 4 | digit));
        let plain = String::from_utf8(octets.collect()).map_err(|_| NoCursor)?;
        let mut fields = plain.split('\n');
        let mut field = || fields.next().ok_or(NoCursor);
        let cursor = Self {
            part: Part::from_letter(field()?).ok_or(NoCursor)?,
            score: field()?.parse().map_err(|_| NoCursor)?,
            of: field()?.to_owned(),
            member: field()?.to_owned(),
        };
        fields.next().is_none().then_some(cursor).ok_or(NoCursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read_back() {
        for (part, of, member) in [
            (Part::Waiting, "t|||mx:b\u{fc}cher.example", "01.0"),
            (Part::Held, "", "01.0|t|||mx:a"),
            (Part::Claimed, "00ff", ""),
        ] {
            let cursor = Cursor {
                part,
                of: of.to_owned(),
                score: 1 << 50,
                member: member.to_owned(),
            };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", "7", "77", "zz", "770a310a61", "770a310a0a0a"] {
            assert_eq!(text.parse::<Cursor>(), Err(NoCursor), "{text}");
        }
    }
}
