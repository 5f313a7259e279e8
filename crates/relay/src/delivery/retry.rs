use std::time::Duration;

pub use config::queue::Retry;

/// The pause after `attempts` attempts have been deferred before this one: each time twice as long,
/// to a maximum, and never past the message's expiry: what is due then is not tried again but
/// returned. `spread` in 0..=1 sets it apart by up to a fifth, so that mail deferred together does
/// not come back together.
pub(super) fn pause(retry: Retry, attempts: u32, expires_in: Duration, spread: f64) -> Duration {
    let doubled = retry
        .initial
        .saturating_mul(2u32.saturating_pow(attempts.min(31)));
    let factor = 0.8 + 0.4 * spread.clamp(0.0, 1.0);
    doubled.min(retry.max).mul_f64(factor).min(expires_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_maximum_and_end_at_expiry() {
        let retry = Retry {
            initial: Duration::from_secs(60),
            max: Duration::from_secs(3600),
        };
        let day = Duration::from_secs(86_400);
        for (attempts, expires_in, spread, expected) in [
            (0, day, 0.5, 60),
            (1, day, 0.5, 120),
            (5, day, 0.5, 1920),
            (6, day, 0.5, 3600),
            (u32::MAX, day, 0.5, 3600),
            (0, day, 0.0, 48),
            (0, day, 1.0, 72),
            (6, day, 1.0, 4320),
            (6, Duration::from_secs(100), 1.0, 100),
            (0, Duration::ZERO, 0.5, 0),
        ] {
            let pause = pause(retry, attempts, expires_in, spread);
            assert_eq!(
                pause.as_millis(),
                expected * 1000,
                "{attempts} {expires_in:?} {spread}"
            );
        }
    }
}
