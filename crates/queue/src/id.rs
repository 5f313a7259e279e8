//! Names of things in the queue, in the exact form they have as keys and members.

/// Message id: 16 octets, ordered by time (48-bit milliseconds, 80 random bits), written as 26
/// characters of Crockford's base 32 in lower case. It is also the queue id a client sees after
/// `250` and the id in `Received`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId([u8; 16]);

/// One task: a message, one recipient domain, one route. Written `<mid>.<k>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TaskId {
    pub message: MessageId,
    pub ordinal: u16,
}

/// The queue a task waits in: `tenant|class|egress|route`, each part percent-encoded where it
/// holds `|`, `%` or a control character; parts may be empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QueueId {
    pub tenant: String,
    pub class: String,
    pub egress: String,
    /// `mx:<domain>` or `rule:<MailRoute>/<rule>`: a name resolved at each attempt, never a host.
    pub route: String,
}

/// What a claim set holds: `<tid>|<qid>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Handle {
    pub task: TaskId,
    pub queue: QueueId,
}

/// One process start: 128 random bits in hex. Never the pod's name: a restarted container must not
/// inherit claims it does not know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId([u8; 16]);

/// A connection slot taken at a site: written `<lane>.<n>.<i>`, unique within its worker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotId {
    pub lane: u16,
    pub n: u64,
    pub index: u16,
}

/// Position of a call in its lane (one lane = one strictly sequential caller).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Call {
    pub worker: WorkerId,
    pub lane: u16,
    /// Starts at 1 and grows by one with each call of the lane.
    pub n: u64,
}
