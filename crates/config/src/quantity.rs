//! Sizes in octets as Kubernetes quantities: `25Mi`, `500k`, `1048576`; whole numbers only. Use as
//! `#[serde(with = "quantity")]`.

use serde::{Deserialize, Deserializer, Serializer, de};

/// Reads a size: digits and an optional suffix `k M G Ki Mi Gi`.
///
/// # Errors
/// Says what is wrong and shows the form to write.
pub fn parse(text: &str) -> Result<u64, QuantityError> {
    let malformed = || QuantityError(text.chars().take(40).collect());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let factor = UNITS
        .iter()
        .find_map(|&(unit, factor)| (unit == suffix).then_some(factor))
        .ok_or_else(malformed)?;
    let number: u64 = number.parse().map_err(|_| malformed())?;
    number.checked_mul(factor).ok_or_else(malformed)
}

/// Writes a size with the largest binary suffix that divides it.
pub fn format(octets: u64) -> String {
    UNITS
        .iter()
        .filter(|(unit, _)| unit.ends_with('i'))
        .find(|&&(_, factor)| octets >= factor && octets.is_multiple_of(factor))
        .map_or_else(
            || octets.to_string(),
            |(unit, factor)| format!("{}{unit}", octets / factor),
        )
}

/// Largest first, for [`format`].
const UNITS: [(&str, u64); 7] = [
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1000),
    ("", 1),
];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size: write a whole number of octets, or as 500k, 25Mi, 1Gi")]
pub struct QuantityError(String);

pub fn serialize<S: Serializer>(octets: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*octets))
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{format, parse};

    #[test]
    fn sizes() {
        for (text, octets) in [
            ("25Mi", 26_214_400),
            ("500k", 500_000),
            ("1G", 1_000_000_000),
            ("17", 17),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(octets), "{text}");
        }
        assert_eq!(format(26_214_400), "25Mi");
        assert_eq!(format(1500), "1500");
        for text in ["", "Mi", "1.5Mi", "-1", "1 Mi", "1mi", "99999999999999Gi"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn written_form_is_read_back(octets: u64) {
            prop_assert_eq!(parse(&format(octets)), Ok(octets));
        }
    }
}
