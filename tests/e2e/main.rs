//! End-to-end tests, one module a tier: `local` runs the real binary on loopback beside real peers,
//! `cluster` and `chaos` run inside a node's network namespace of the test cluster (`cargo xtask test --tier
//! cluster` and `chaos` arrange that).

mod chaos;
mod cluster;
mod eventually;
mod http;
mod local;
