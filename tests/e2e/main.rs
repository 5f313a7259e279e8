//! End-to-end tests, by tier.
