use super::Scheduler;

/// How much there is of everything that has an owner who must delete it. Limits, the virtual time
/// and the finishes of tenants are not counted: they stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Remains {
    /// Records and rows of a store.
    pub rows: usize,
    /// Messages, enqueued or not yet, that have chunks.
    pub bodies: usize,
    pub messages: usize,
    pub tasks: usize,
    pub expiries: usize,
    pub held: usize,
    pub queues: usize,
    pub wakes: usize,
    pub active_tenants: usize,
    pub blocked: usize,
    /// Notes of queues that a suspension has kept back.
    pub parked: usize,
    pub slots: usize,
    pub workers: usize,
}

impl Scheduler {
    pub fn remains(&self) -> Remains {
        Remains {
            rows: 0,
            bodies: 0,
            messages: self.messages.len(),
            tasks: self.tasks.len(),
            expiries: self.expiry.len(),
            held: self.held.len(),
            queues: self.queues.len(),
            workers: self.workers.len(),
            parked: self.suspensions.parked(),
            ..self.turn.remains()
        }
    }
}
