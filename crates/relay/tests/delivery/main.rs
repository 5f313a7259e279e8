//! Delivery over real TCP, from the model of the queue to a receiver that does what it is told.

mod durability;
mod fairness;
#[path = "../../../queue/tests/worker/faulty.rs"]
#[allow(dead_code, reason = "the worker's own tests use more of it")]
mod faulty;
mod hosts;
mod large;
mod name_server;
mod outcomes;
mod receiver;
mod tls;
mod world;
