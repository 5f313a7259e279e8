//! What the end-to-end tests are made of, independent of the crates they test: a corpus of
//! messages that is a function of its index, a load client that logs the exact reply to each
//! message, a receiving SMTP server that logs what arrived, and a sink for the spans that a
//! Collector hands on, and the soak: several relays of one queue under load while things break. Each is a
//! mode of the program `kurier-test`, so that one image serves the cluster.
//!
//! Nothing here uses the `smtp` crate: an oracle that shares the code under test shares its faults.

pub mod collect;
pub mod corpus;
pub mod crash;
pub mod eventually;
mod gate;
pub mod http;
pub mod load;
pub mod process;
pub mod receive;
pub mod redis;
pub mod soak;
pub mod submit;
