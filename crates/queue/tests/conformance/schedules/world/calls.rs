//! What the workers of a schedule say.

use std::time::Duration;

use bytes::Bytes;
use proptest::sample::Index;
use queue::id::{Call, Handle, MessageId, QueueId, Scope, SlotId};
use queue::operation::{Act, Action, Claim, Notice, Rest, Settlement};
use queue::record::{CHUNK, NewMessage};

use super::super::step::{self, Deed, Outcome, PROCESSES, Pick, QUEUES, SITES, Shape, Wanted};
use super::{Worker, World};
use crate::harness::Harness;
use crate::redis_fixture::{delivered, handles_of, message};

impl<T: Harness> World<'_, T> {
    pub(super) fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    pub(super) fn worker(&mut self, by: u8) -> &mut Worker {
        match self.former.last_mut() {
            Some(former) if by == PROCESSES => former,
            _ => &mut self.workers[usize::from(by % PROCESSES)],
        }
    }

    pub(super) fn call(&mut self, by: u8, lane: u8) -> Call {
        let worker = self.worker(by);
        let n = &mut worker.lanes[usize::from(lane)];
        *n += 1;
        Call {
            worker: worker.id,
            lane: lane.into(),
            n: *n,
        }
    }

    pub(super) fn handle(&mut self, by: u8, pick: &Pick) -> Option<Handle> {
        let own = &self.worker(by).claimed;
        if pick.own && !own.is_empty() {
            return Some(pick.index.get(own).clone());
        }
        let all: Vec<_> = self.messages.iter().flat_map(handles_of).collect();
        (!all.is_empty()).then(|| pick.index.get(&all).clone())
    }

    pub(super) fn slot(&mut self, by: u8, index: Index) -> Option<SlotId> {
        let slots = &mut self.worker(by).slots;
        if slots.is_empty() {
            return None;
        }
        let index = index.index(slots.len());
        // Some are released again.
        Some(match index % 4 {
            0 => slots[index],
            _ => slots.swap_remove(index),
        })
    }

    pub(super) fn settlement(
        &mut self,
        by: u8,
        pick: &Pick,
        outcome: &Outcome,
    ) -> Option<Settlement> {
        let handle = self.handle(by, pick)?;
        self.worker(by).claimed.retain(|claimed| *claimed != handle);
        let recipients = recipients_of(&handle);
        let bits = |set: u8| (0..recipients).filter(|k| set >> k & 1 == 1).collect();
        let notification = outcome.notify.then(|| self.notification(&handle));
        Some(Settlement {
            handle,
            delivered: bits(outcome.delivered),
            failed: bits(outcome.failed),
            recipients,
            rest: match outcome.rest {
                step::Rest::None => Rest::None,
                step::Rest::GivenBack => Rest::GivenBack,
                step::Rest::Held => Rest::Held {
                    reason: "unreadable".to_owned(),
                },
                step::Rest::Kept => Rest::Kept,
                step::Rest::Deferred(ms) => Rest::Deferred {
                    due_in: Duration::from_millis(ms),
                    notes: Bytes::from(format!("{ms}")),
                },
            },
            notification,
            journal: Bytes::from(format!("{} {outcome:?}", pick.own)),
        })
    }

    pub(super) fn act(&mut self, pick: &Pick, deed: Deed) -> Option<Act> {
        let handle = self.handle(0, pick)?;
        let action = match deed {
            Deed::Retry => Action::Retry,
            Deed::Hold => Action::Hold {
                reason: "looked at".to_owned(),
            },
            Deed::Release => Action::Release,
            Deed::Drop => Action::Drop { notice: None },
            Deed::DropTelling(resolved) => Action::Drop {
                notice: Some(Notice {
                    message: self.notification(&handle),
                    resolved,
                }),
            },
        };
        Some(Act { handle, action })
    }

    /// Its id derives from the task it is about.
    fn notification(&mut self, about: &Handle) -> NewMessage {
        let mut octets = about.task.message.octets();
        octets[6] = 0xdd;
        octets[7] = octets[7].wrapping_add(about.task.ordinal as u8 + 1);
        let mut notification = message(&["sender.example"]);
        notification.id = MessageId::from_octets(octets);
        let mut known = self.messages.iter().chain(&self.notifications);
        if !known.any(|known| known.id == notification.id) {
            self.notifications.push(notification.clone());
        }
        notification
    }

    pub(super) fn claim(&mut self, by: u8, wanted: Wanted) -> Claim {
        let by_name = wanted.by_name.iter();
        let by_name = by_name.filter_map(|pick| self.handle(by, pick)).collect();
        let withheld = self.former.iter().filter(|_| wanted.withhold);
        let withheld = withheld
            .flat_map(|worker| &worker.claimed)
            .map(|handle| handle.task)
            .collect();
        Claim {
            grants: wanted.grants,
            tasks_per_grant: wanted.tasks_per_grant,
            withheld,
            by_name,
        }
    }

    pub(super) fn message(&mut self, shape: &Shape) -> NewMessage {
        let mut new = message(&vec!["example.net"; shape.queues.len()]);
        let random = self.next_id();
        new.id = MessageId::new(START, {
            let mut octets = [0; 10];
            octets[2..].copy_from_slice(&random.to_be_bytes());
            octets
        });
        new.header.lifetime_ms = shape.lifetime_ms;
        for (task, queue) in new.header.tasks.iter_mut().zip(&shape.queues) {
            task.queue = queue_number(*queue);
        }
        new
    }

    pub(super) fn large(&mut self, shape: &Shape, chunks: u8) -> NewMessage {
        let mut large = self.message(shape);
        large.content = Vec::new();
        let body = &mut large.header.body;
        body.chunks = chunks.into();
        body.stored = u64::from(chunks) * CHUNK as u64;
        large
    }
}

pub(super) fn notice_of(act: &Act) -> Option<MessageId> {
    match &act.action {
        Action::Drop { notice } => Some(notice.as_ref()?.message.id),
        _ => None,
    }
}

pub(super) fn all_delivered(handle: &Handle) -> Settlement {
    let recipients = recipients_of(handle);
    Settlement {
        delivered: (0..recipients).collect(),
        recipients,
        ..delivered(handle)
    }
}

fn recipients_of(handle: &Handle) -> u16 {
    1 + handle.task.ordinal % 3
}

/// Two tenants at three sites, and of each tenant a second queue at the first site.
fn queue_number(number: u8) -> QueueId {
    assert!(number < QUEUES);
    QueueId {
        tenant: format!("t{}", number % 2),
        class: if number < 6 {
            String::new()
        } else {
            "bulk".into()
        },
        egress: String::new(),
        route: format!("mx:{}.example", number / 2 % SITES),
    }
}

pub(super) fn scope_number(number: u8) -> Scope {
    match number {
        0 => Scope::All,
        1 | 2 => Scope::Tenant(format!("t{}", number - 1)),
        site => Scope::Site(format!("mx:{}.example", site - 3)),
    }
}

const START: u64 = 1_700_000_000_000;
