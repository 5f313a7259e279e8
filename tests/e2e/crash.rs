//! Real relays on a real Redis, broken: step by step, and under load by a fixed plan.

mod matrix;
mod soak;
