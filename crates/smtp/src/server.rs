//! The receiving side of a connection, as a value.
//!
//! A driver does, for one connection:
//!
//! 1. [`Session::new`] when the connection is accepted, or when implicit TLS is established. Octets
//!    that the client sent before it heard the greeting go to [`Session::handle_input`] first: the
//!    session refuses such clients.
//! 2. Whenever octets come, append them to one buffer and call [`Session::handle_input`] with it,
//!    then take all of [`Session::poll_output`]:
//!    * [`Output::Event`]: answer it, at once or later, by [`Session::accept`],
//!      [`Session::answer`], [`Session::authentication_accepted`] or
//!      [`Session::authentication_refused`]; then call [`Session::handle_input`] again, since
//!      nothing is consumed while an event awaits its answer. Answering within the loop makes one
//!      `Write` of all replies to a pipelined group.
//!      Nor is anything read then, so a client that sends much waits too.
//!    * [`Output::Write`]: write it.
//!    * [`Output::StartTls`]: make the handshake, then [`Session::handle_tls_established`]; if it
//!      fails, drop the connection.
//!    * [`Output::Close`]: close the connection. Nothing follows.
//! 3. Call [`Session::handle_timeout`] at [`Session::deadline`], [`Session::handle_shutdown`] when
//!    the process is told to stop, and [`Session::handle_closed`] at the end of the stream.

mod authentication;
mod config;
mod content;
mod dialogue;
mod event;
mod phase;
mod replies;
mod session;

pub use config::{
    Authentication, ClearTextAuthentication, Config, ConnectionSecurity, StartTls, Timeouts,
};
pub use event::{
    Abandonment, AuthenticationRequest, Event, LargeMessage, MailRequest, Message, Output,
};
pub use phase::{Phase, Protocol};
pub use session::Session;
