//! The sending side of a connection, as a value.
//!
//! A driver does, for one connection:
//!
//! 1. Connect, make the handshake if TLS is implicit, and [`Session::new`].
//! 2. Append what is read to one buffer, call [`Session::handle_input`] with it, then take all of
//!    [`Session::poll_output`]:
//!    * [`Output::Write`]: collect and write. Consecutive ones belong into one vectored write.
//!    * [`Output::StartTls`]: make the handshake, then [`Session::handle_tls_established`] or
//!      [`Session::handle_tls_failed`].
//!    * [`Output::Event`]: [`Event::Ready`] and [`Event::Finished`] allow the next
//!      [`Session::send`]. [`Event::Content`] asks for content that is sent piece by piece. At [`Event::FinalDot`] decide whether the message may still be sent, and
//!      call [`Session::release_final_dot`] or [`Session::withhold`] before the collected octets are
//!      written. [`Event::Failed`] is the last event.
//!    * [`Output::Close`]: close the connection.
//! 3. Call [`Session::handle_timeout`] at [`Session::deadline`] and [`Session::handle_closed`] at
//!    the end of the stream or an error of it.

mod capabilities;
mod config;
mod event;
mod session;
mod setup;
mod transaction;

pub use capabilities::{Capabilities, SizeLimit};
pub use config::{ClearTextAuthentication, Config, Timeouts, Tls};
pub use event::{
    Event, Failure, FailureCause, Finished, Output, Payload, Phase, RecipientOutcome, Transaction,
    Unsendable, Violation,
};
pub use session::{SendError, Session};
