//! The real binary over real TCP on loopback, with real peers: Redis, Postfix, swaks, smtplib.

mod clients;
mod command_line;
mod demo;
mod durability;
mod limits;
mod login;
mod postfix;
mod process;
mod queue;
mod records;
mod secrets;
mod site;
