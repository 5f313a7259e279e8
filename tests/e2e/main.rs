//! End-to-end tests, one module a tier: `local` runs the real binary on loopback beside real peers,
//! `crash` breaks several of them and their Redis, `cluster` and `chaos` run inside a node's network
//! namespace of the test cluster (`cargo xtask test --tier cluster` and `chaos` arrange that).
#![allow(
    clippy::print_stdout,
    reason = "figures of a run are shown with its test"
)]

mod chaos;
mod cluster;
mod crash;
mod local;

use kurier_test::{eventually, http};
