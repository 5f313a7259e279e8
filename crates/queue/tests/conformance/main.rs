//! One suite for all back ends of the queue, and what only a real Redis can show.

mod redis_ambiguity;
mod redis_cycle;
mod redis_durability;
mod redis_fixture;
mod redis_full;
mod redis_outage;
mod redis_proxy;
mod redis_server;
mod redis_tls;
