//! Tests of what the crate shows to others: tables, transcripts, laws.

mod address;
mod command;
mod content;
mod laws;
mod reply;
mod smuggling;
mod transcript;
