//! A route leads somewhere else: what waits for its next attempt need not wait any longer.

use super::Scheduler;
use super::state::{Ms, QueueRef};
use crate::id::TaskId;

impl Scheduler {
    /// Makes up to `max` tasks of `route` due that are not, queue by queue; how many.
    pub fn hasten(&mut self, now: Ms, route: &str, max: u16) -> u16 {
        let mut queues: Vec<QueueRef> = self
            .queues
            .values()
            .filter(|waiting| waiting.name.site() == route)
            .map(|waiting| waiting.name.clone())
            .collect();
        queues.sort_unstable();
        let mut hastened = 0;
        for queue in queues {
            for task in self.not_due(now, &queue, usize::from(max - hastened)) {
                self.take_waiting(task);
                self.wait(&queue, task, now);
                self.state_changed(task, now);
                hastened += 1;
            }
        }
        hastened
    }

    fn not_due(&self, now: Ms, queue: &QueueRef, max: usize) -> Vec<TaskId> {
        let waiting = self.queues.get(queue.id());
        let tasks = waiting.into_iter().flat_map(|waiting| &waiting.tasks);
        tasks
            .filter(|(due, _)| *due > now)
            .map(|(_, task)| *task)
            .take(max)
            .collect()
    }
}
