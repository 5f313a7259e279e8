//! One suite for all back ends of the queue, and what only one of them can show.
//!
//! [`suite`] lists the tests that each back end must pass; [`harness`] is a back end with a clock that
//! stands still until a test moves it. [`schedules`] compares the back ends with the model, reply
//! by reply, under random schedules. `redis_*` are tests of a real server: durability, outages, a
//! network that fails.
#![allow(
    clippy::cast_possible_truncation,
    reason = "numbers of a test are small"
)]

mod caller;
mod clock;
mod embedded_file;
mod harness;
mod redis_ambiguity;
mod redis_cycle;
mod redis_durability;
mod redis_fixture;
mod redis_full;
mod redis_locate;
mod redis_outage;
mod redis_proxy;
mod redis_replicas;
mod redis_schema;
mod redis_server;
mod redis_tls;
mod redis_topology;
mod schedules;
mod suite;

suite::suite!(model: crate::harness::Model);
suite::suite!(embedded: crate::harness::Embedded);
suite::suite!(redis: crate::harness::Served);
suite::suite!(redis_behind_sentinels in turn: crate::redis_topology::Watched::start_by);
suite::suite!(redis_cluster in turn: crate::redis_topology::Cluster::start_by);
