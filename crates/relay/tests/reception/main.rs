//! Clients over real TCP and TLS against a relay whose queue is the model.

mod admin;
mod client;
mod drain;
mod gate;
mod large;
mod limits;
mod message;
mod policy;
mod queue_trouble;
mod reload;
mod tls;
mod world;
