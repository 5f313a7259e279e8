//! The worker against the model of the queue, with calls that go wrong in between.
//!
//! Time is tokio's paused one, for the worker and for the model: what waits 30 s takes no time.

mod commit;
mod dispatch;
mod expiry;
mod faulty;
mod lease;
mod world;
