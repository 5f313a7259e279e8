//! What there is, page by page. Looks, and changes nothing.

use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use super::Scheduler;
use super::state::{Ms, Place, QueueRef};
use crate::id::{Handle, TaskId, WorkerId};
use crate::operation::{Cursor, List, Page, Part, PlaceName, Seen};

impl Scheduler {
    /// Tasks that wait, by queue and when they are due; then held ones, by since when; then claimed
    /// ones, by worker and deadline.
    pub fn list(&self, now: Ms, list: &List) -> Page {
        let mut walk = Walk {
            scheduler: self,
            list,
            now,
            looks: usize::from(list.looks.clamp(1, 1000)),
            tasks: Vec::new(),
        };
        let next = walk.run();
        Page {
            tasks: walk.tasks,
            next,
        }
    }

    pub fn look(&self, now: Ms, handles: &[Handle]) -> Vec<Option<Seen>> {
        let look = |handle: &Handle| {
            let seen = self.seen(now, handle.task)?;
            (seen.handle == *handle).then_some(seen)
        };
        handles.iter().map(look).collect()
    }

    fn seen(&self, now: Ms, task: TaskId) -> Option<Seen> {
        use crate::operation::Place as Shown;
        let known = self.tasks.get(&task)?;
        let ms = Duration::from_millis;
        let place = match known.place {
            Place::Waiting { due } if due > now => Shown::Deferred {
                due_in: ms(due - now),
            },
            Place::Waiting { due } => Shown::Ready {
                since: ms(now - due),
            },
            Place::Held { since } => Shown::Held {
                since: ms(now.saturating_sub(since)),
            },
            Place::Claimed { by, begun, .. } => Shown::InFlight { by, begun },
        };
        Some(Seen {
            handle: Handle::new(task, known.queue.id().clone()),
            place,
            state: known.state.as_deref().cloned().unwrap_or_default(),
        })
    }
}

/// One page in the making.
struct Walk<'a> {
    scheduler: &'a Scheduler,
    list: &'a List,
    now: Ms,
    looks: usize,
    tasks: Vec<Seen>,
}

impl Walk<'_> {
    /// Where it stops; `None` at the end.
    fn run(&mut self) -> Option<Cursor> {
        let after = self.list.after.as_ref();
        let part = after.map_or(Part::Waiting, |after| after.part);
        let of = |wanted: Part| after.filter(|after| after.part == wanted);
        let has = |names: &[PlaceName]| self.list.place.is_none_or(|name| names.contains(&name));
        let (waiting, held, claimed) = (
            has(&[PlaceName::Ready, PlaceName::Deferred]),
            has(&[PlaceName::Held]),
            has(&[PlaceName::InFlight]),
        );
        if waiting && part == Part::Waiting {
            let stopped = self.waiting(of(Part::Waiting));
            if stopped.is_some() {
                return stopped;
            }
        }
        if held && part != Part::Claimed {
            let stopped = self.held(of(Part::Held));
            if stopped.is_some() {
                return stopped;
            }
        }
        claimed.then(|| self.claimed(of(Part::Claimed))).flatten()
    }

    fn waiting(&mut self, after: Option<&Cursor>) -> Option<Cursor> {
        let from = after.map_or("", |after| &after.of);
        let queues = self.scheduler.queues.values();
        let mut names: Vec<&QueueRef> = queues
            .map(|queue| &queue.name)
            .filter(|name| name.text() >= from && self.wants(name))
            .collect();
        let more = names.len() > self.looks;
        if more {
            names.select_nth_unstable(self.looks);
            names.truncate(self.looks + 1);
        }
        names.sort_unstable();
        for name in names {
            if self.looks == 0 {
                return Some(cursor(Part::Waiting, name.text(), 0, String::new()));
            }
            let stopped = self.queue(name, after.filter(|after| after.of == name.text()));
            if stopped.is_some() {
                return stopped;
            }
            self.looks -= 1;
        }
        None
    }

    fn queue(&mut self, name: &QueueRef, after: Option<&Cursor>) -> Option<Cursor> {
        let waiting = self.scheduler.queues.get(name.id())?;
        let behind = after.and_then(|after| Some((after.score, task_of(&after.member)?)));
        let tasks = waiting
            .tasks
            .range((behind.map_or(Unbounded, Excluded), Unbounded));
        for (due, task) in tasks {
            let is_wanted = match self.list.place {
                Some(PlaceName::Ready) => *due <= self.now,
                Some(PlaceName::Deferred) => *due > self.now,
                _ => true,
            };
            if is_wanted && self.show(*task) {
                return Some(cursor(Part::Waiting, name.text(), *due, task.to_string()));
            }
        }
        None
    }

    fn held(&mut self, after: Option<&Cursor>) -> Option<Cursor> {
        let behind = after.and_then(|after| Some((after.score, task_of(&after.member)?)));
        let held = &self.scheduler.held;
        for (since, task) in held.range((behind.map_or(Unbounded, Excluded), Unbounded)) {
            if self.show(*task) {
                let member = self.handle(*task);
                return Some(cursor(Part::Held, "", *since, member));
            }
        }
        None
    }

    fn claimed(&mut self, after: Option<&Cursor>) -> Option<Cursor> {
        let first: Option<WorkerId> = after.and_then(|after| after.of.parse().ok());
        let workers = self.scheduler.workers.iter();
        for (worker, member) in
            workers.skip_while(|(worker, _)| first.is_some_and(|f| **worker < f))
        {
            let after = after.filter(|_| first == Some(*worker));
            let behind = after.and_then(|after| {
                let begun = after.score % 2 == 1;
                Some((after.score / 2, begun, task_of(&after.member)?))
            });
            let claims = &member.claims;
            for (deadline, begun, task) in
                claims.range((behind.map_or(Unbounded, Excluded), Unbounded))
            {
                if self.show(*task) {
                    let score = deadline * 2 + u64::from(*begun);
                    let of = worker.to_string();
                    return Some(cursor(Part::Claimed, &of, score, self.handle(*task)));
                }
            }
        }
        None
    }

    /// True when it was the last look.
    fn show(&mut self, task: TaskId) -> bool {
        let seen = self.scheduler.seen(self.now, task);
        let is_wanted = |seen: &Seen| {
            let known = self.scheduler.tasks.get(&seen.handle.task);
            known.is_some_and(|known| self.wants(&known.queue))
        };
        let seen = seen.filter(is_wanted);
        self.tasks.extend(seen);
        self.looks = self.looks.saturating_sub(1);
        self.looks == 0
    }

    fn wants(&self, queue: &QueueRef) -> bool {
        let (tenant, route) = (&self.list.tenant, &self.list.route);
        tenant
            .as_ref()
            .is_none_or(|tenant| queue.tenant() == tenant)
            && route
                .as_ref()
                .is_none_or(|route| queue.id().route == *route)
    }

    fn handle(&self, task: TaskId) -> String {
        let known = self.scheduler.tasks.get(&task);
        known.map_or_else(String::new, |known| {
            format!("{task}|{}", known.queue.text())
        })
    }
}

fn cursor(part: Part, of: &str, score: u64, member: String) -> Cursor {
    Cursor {
        part,
        of: of.to_owned(),
        score,
        member,
    }
}

fn task_of(member: &str) -> Option<TaskId> {
    member.split('|').next()?.parse().ok()
}
