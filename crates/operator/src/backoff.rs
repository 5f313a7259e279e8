//! How long to leave an object alone after it failed.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

/// Failures in a row, by UID of the object.
#[derive(Default)]
pub(crate) struct Backoff {
    failures: Mutex<HashMap<String, u32>>,
}

impl Backoff {
    /// Counts one more failure; how long to wait: doubles from half a second to a minute, with up to
    /// a quarter of jitter so that objects that failed together do not come back together.
    pub(crate) fn failed(&self, object: &str, jitter: u8) -> Duration {
        let mut failures = self.lock();
        let count = failures.entry(object.to_owned()).or_default();
        *count = count.saturating_add(1);
        let base = (FIRST * 2_u32.saturating_pow((*count - 1).min(16))).min(LONGEST);
        base + base * u32::from(jitter) / 1024
    }

    pub(crate) fn succeeded(&self, object: &str) {
        self.lock().remove(object);
    }

    /// Keeps only the objects of which `lives` is true.
    pub(crate) fn retain(&self, lives: impl Fn(&str) -> bool) {
        self.lock().retain(|object, _| lives(object));
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, u32>> {
        self.failures
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;

    #[test]
    fn doubles_up_to_a_minute_and_forgets() {
        let backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.failed("a", 0).as_millis()).collect();
        assert_eq!(
            waits,
            [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]
        );
        assert_eq!(
            backoff.failed("b", 0),
            Duration::from_millis(500),
            "each object for itself"
        );
        backoff.succeeded("a");
        let jittered = backoff.failed("a", 255);
        assert!(jittered > Duration::from_millis(500) && jittered < Duration::from_millis(625));
        for _ in 0..100 {
            backoff.failed("c", 0);
        }
        assert_eq!(backoff.failed("c", 0), Duration::from_secs(60));
        backoff.retain(|object| object == "b");
        assert_eq!(backoff.failed("c", 0), Duration::from_millis(500), "gone");
        assert_eq!(
            backoff.failed("b", 0),
            Duration::from_secs(1),
            "still there"
        );
    }
}
