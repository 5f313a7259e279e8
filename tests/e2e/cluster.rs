//! The product on a real Kubernetes: real chart, real RBAC, real image, real Redis, a real
//! Collector. These tests run inside the node's network namespace, one after the other, in the
//! order of their names: `uninstall` is the last, all others leave a working relay.

pub(crate) mod accounts;
mod credentials;
mod durability;
mod endings;
mod exchangers;
pub(crate) mod fleet;
pub(crate) mod kubernetes;
mod listeners;
mod log_lines;
mod nodes;
mod operations;
mod operator;
mod resources;
mod samples;
pub(crate) mod trace;
pub(crate) mod traffic;
mod uninstall;
