//! The data plane: it accepts messages over SMTP, keeps them in the delivery queue, and delivers
//! them to their next hops.

pub mod routing;
