//! What an administrator does to tasks. Repeated, it changes nothing more.

use super::Scheduler;
use super::state::{Ms, Place};
use crate::id::TaskId;
use crate::operation::{Act, Acted, Action, Notice};
use crate::record::NewMessage;

impl Scheduler {
    /// In order. Returns what became of each, and the notices to be inserted.
    pub fn act<'a>(&mut self, now: Ms, acts: &'a [Act]) -> (Vec<Acted>, Vec<&'a NewMessage>) {
        let mut notices = Vec::new();
        let acted = acts
            .iter()
            .map(|act| {
                let acted = self.act_on(now, act);
                if let Action::Drop {
                    notice: Some(notice),
                } = &act.action
                    && acted == Acted::Done
                {
                    notices.push(&notice.message);
                }
                acted
            })
            .collect();
        (acted, notices)
    }

    fn act_on(&mut self, now: Ms, act: &Act) -> Acted {
        let task = act.handle.task;
        let known = self.tasks.get(&task);
        let Some(known) = known.filter(|known| *known.queue.id() == act.handle.queue) else {
            return Acted::Missing;
        };
        let place = known.place;
        match &act.action {
            Action::Retry => self.retry(now, task, place),
            Action::Hold { reason } => self.hold_on_request(now, task, place, reason),
            Action::Release => self.release(now, task, place),
            Action::Drop { notice } => self.drop_on_request(now, task, place, notice.as_ref()),
        }
    }

    fn retry(&mut self, now: Ms, task: TaskId, place: Place) -> Acted {
        match place {
            Place::Waiting { due } if due > now => {
                self.take_waiting(task);
                self.let_wait(now, task);
                Acted::Done
            }
            _ => Acted::Unchanged,
        }
    }

    fn hold_on_request(&mut self, now: Ms, task: TaskId, place: Place, reason: &str) -> Acted {
        let is_ordered = self.state_of(task).hold.is_some();
        match place {
            Place::Held { .. } => Acted::Unchanged,
            Place::Claimed { .. } if is_ordered => Acted::Unchanged,
            Place::Claimed { .. } => {
                self.state_of(task).hold = Some(reason.to_owned());
                self.state_changed(task, now);
                Acted::Pending
            }
            Place::Waiting { .. } => {
                self.take_waiting(task);
                self.state_of(task).hold = Some(reason.to_owned());
                self.hold(now, task);
                Acted::Done
            }
        }
    }

    fn release(&mut self, now: Ms, task: TaskId, place: Place) -> Acted {
        if self.state_of(task).hold.take().is_none() {
            return Acted::Unchanged;
        }
        self.clear_suspicion(task);
        if self.take_held(task) {
            self.let_wait(now, task);
        } else if let Place::Claimed { .. } = place {
            self.state_changed(task, now);
        }
        Acted::Done
    }

    /// A notice names whom the task is open for. Of a claimed task, and of one of which somebody has
    /// been delivered since, that is not known.
    fn drop_on_request(
        &mut self,
        now: Ms,
        task: TaskId,
        place: Place,
        notice: Option<&Notice>,
    ) -> Acted {
        let resolved = self.state_of(task).resolved.len();
        if notice.is_some_and(|notice| usize::from(notice.resolved) != resolved) {
            return Acted::Refused;
        }
        match place {
            Place::Claimed { .. } if notice.is_some() => Acted::Refused,
            Place::Claimed { .. } => {
                let state = self.state_of(task);
                if std::mem::replace(&mut state.dropped, true) {
                    return Acted::Unchanged;
                }
                self.state_changed(task, now);
                Acted::Pending
            }
            Place::Held { .. } | Place::Waiting { .. } => {
                if !self.take_waiting(task) {
                    self.take_held(task);
                }
                self.end(task);
                Acted::Done
            }
        }
    }

    /// Due now.
    fn let_wait(&mut self, now: Ms, task: TaskId) {
        if let Some(known) = self.tasks.get(&task) {
            let queue = known.queue.clone();
            self.wait(&queue, task, now);
            self.state_changed(task, now);
        }
    }
}
