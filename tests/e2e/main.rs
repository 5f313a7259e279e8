//! End-to-end tests, one module a tier: `local` runs the real binary on loopback beside real peers,
//! `cluster` runs inside a node's network namespace of the test cluster (`cargo xtask test --tier
//! cluster` arranges that).

mod cluster;
mod eventually;
mod local;
