//! The product on a real Kubernetes: real chart, real RBAC, real image, real Redis, a real
//! Collector. These tests run inside the node's network namespace, one after the other, in the
//! order of their names: `a_` installs, `z_` uninstalls, those between leave a working relay.

mod accounts;
mod fleet;
mod kubernetes;
mod operations;
mod resources;
mod trace;
mod traffic;
