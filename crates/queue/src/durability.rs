//! What the back end promises when it confirms a write, checked, not trusted.

/// The level in force, or why it is not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Every confirmed write has been synced to stable storage.
    Fsync,
    /// The declared level is not met: `reason` is a condition reason (`AofOff`, `NotFsyncAlways`,
    /// `FsyncPausedOnRewrite`, `Evicting`, `FailoverCanLose`, `NotVerified`), `remedy` a sentence that says what to do.
    Unmet {
        reason: &'static str,
        remedy: String,
    },
    /// Not asked yet, or the back end does not answer.
    Unknown,
}
