//! What the back end promises when it confirms a write, checked, not trusted.

use std::fmt;

/// What a confirmed write is to be worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Level {
    /// In the memory of one server: lost with it.
    Memory,
    /// Synced to stable storage, of a server whose place no other takes.
    #[default]
    Fsync,
    /// In the memory of the primary and of `acks` replicas, which are all that may take its place.
    Replicated { acks: u8 },
    /// Synced to the stable storage of the primary and of `acks` replicas, which are all that may take
    /// its place.
    FsyncReplicated { acks: u8 },
}

impl Level {
    /// How many replicas confirm each write.
    pub fn acks(self) -> u8 {
        match self {
            Self::Memory | Self::Fsync => 0,
            Self::Replicated { acks } | Self::FsyncReplicated { acks } => acks,
        }
    }

    pub(crate) fn is_synced(self) -> bool {
        matches!(self, Self::Fsync | Self::FsyncReplicated { .. })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "Memory",
            Self::Fsync => "Fsync",
            Self::Replicated { .. } => "Replicated",
            Self::FsyncReplicated { .. } => "FsyncReplicated",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The level in force, or why it is not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Durability {
    /// The declared level is met by every confirmed write.
    Verified(Level),
    /// The declared level is not met: `reason` is a condition reason (`AofOff`, `NotFsyncAlways`,
    /// `FsyncPausedOnRewrite`, `Evicting`, `FailoverCanLose`, `TooFewReplicas`, `NotVerified`), `remedy`
    /// a sentence that says what to do.
    Unmet {
        reason: &'static str,
        remedy: String,
    },
    /// Not asked yet, or the back end does not answer.
    Unknown,
}

impl Durability {
    /// The level in force.
    pub fn verified(&self) -> Option<Level> {
        match self {
            Self::Verified(level) => Some(*level),
            Self::Unmet { .. } | Self::Unknown => None,
        }
    }
}
