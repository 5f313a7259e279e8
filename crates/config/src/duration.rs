//! Durations as Kubernetes writes them (GEP-2257): `1h30m`, `500ms`; at most four parts, no
//! fractions, no sign. Use as `#[serde(with = "duration")]`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

/// Reads a GEP-2257 duration: `^([0-9]{1,5}(h|m|s|ms)){1,4}$`.
///
/// # Errors
/// Says what is wrong and shows the form to write.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let malformed = || DurationError(text.chars().take(40).collect());
    let mut rest = text;
    let mut total = Duration::ZERO;
    for _ in 0..4 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=5).contains(&digits) {
            return Err(malformed());
        }
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| malformed())?;
        let (unit, tail) = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)]
            .into_iter()
            .find_map(|(unit, ms)| Some((ms, tail.strip_prefix(unit)?)))
            .ok_or_else(malformed)?;
        total += Duration::from_millis(number * unit);
        rest = tail;
        if rest.is_empty() {
            return Ok(total);
        }
    }
    Err(malformed())
}

/// Writes the shortest GEP-2257 form of whole milliseconds; what is finer is cut off.
pub fn format(duration: Duration) -> String {
    let mut ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if ms >= size {
            text.push_str(&format!("{}{unit}", ms / size));
            ms %= size;
        }
    }
    text
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write it as 500ms, 30s, 5m or 120h, also joined as 1h30m")]
pub struct DurationError(String);

pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

/// A duration that need not be said. Use as `#[serde(with = "duration::optional", default)]`.
pub mod optional {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let duration = text.map(|text| super::parse(&text)).transpose();
        duration.map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{format, parse};

    #[test]
    fn durations() {
        for (text, ms) in [
            ("0s", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("120h", 432_000_000),
            ("1h1m1s1ms", 3_661_001),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
            assert_eq!(
                format(Duration::from_millis(ms)),
                if ms == 0 { "0s" } else { text }
            );
        }
        for text in [
            "",
            "5",
            "1.5h",
            "-1s",
            "1d",
            "123456s",
            "1h1h1h1h1h",
            "s",
            " 1s",
            "1s\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn written_form_is_read_back(ms in 0_u64..99_999 * 3_600_000) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }
    }
}
