//! Real relays on a real Redis, broken: under load by a fixed plan.

mod soak;
