//! Two queues to which the same happens, and the workers that use them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use queue::id::{Call, Handle, MessageId, SlotId, WorkerId};
use queue::model::Remains;
use queue::operation::{
    Act, Action, Beat, Counts, HeldExpiry, Limits, List, Next, NextReply, PlaceName, Rate,
    Resolved, STAGED_FOR, Seen, Suspension, Taken, Then,
};
use queue::record::NewMessage;
use queue::{Queue, QueueError};

use super::step::{Damage, Fate, LANES, PROCESSES, SCOPES, Shape, Speed, Step};
use crate::harness::{Harness, Model};
use crate::redis_fixture::{claim, handles_of, slots, tasks};

mod calls;

use calls::{all_delivered, notice_of, scope_number};

pub(super) struct World<'a, T> {
    model: &'a Model,
    other: &'a T,
    workers: Vec<Worker>,
    /// Replaced, but they do not know.
    former: Vec<Worker>,
    messages: Vec<NewMessage>,
    /// In the call that is being made.
    notifications: Vec<NewMessage>,
    ids: u64,
    generation: u64,
}

/// All tasks, however the pages of the back end end.
async fn pages(queue: &dyn Queue, mut list: List) -> Result<Vec<Seen>, QueueError> {
    let mut all = Vec::new();
    loop {
        let page = queue.list(&list).await?;
        all.extend(page.tasks);
        match page.next {
            Some(next) => list.after = Some(next),
            None => break,
        }
    }
    all.sort_by(|a, b| a.handle.cmp(&b.handle));
    let handles: Vec<_> = all.iter().map(|seen| seen.handle.clone()).collect();
    let looked = queue.look(&handles).await?;
    assert!(looked.into_iter().eq(all.iter().cloned().map(Some)));
    Ok(all)
}

struct Worker {
    id: WorkerId,
    lanes: [u64; LANES as usize],
    claimed: Vec<Handle>,
    slots: Vec<SlotId>,
    last: Option<Sent>,
}

#[derive(Clone)]
enum Sent {
    Enqueue(Call, Vec<NewMessage>),
    Next(Next),
}

impl<'a, T: Harness> World<'a, T> {
    pub(super) fn new(model: &'a Model, other: &'a T) -> Self {
        Self {
            model,
            other,
            workers: Vec::new(),
            former: Vec::new(),
            messages: Vec::new(),
            notifications: Vec::new(),
            ids: 0,
            generation: 1,
        }
    }

    pub(super) async fn run(mut self, steps: Vec<Step>) {
        for _ in 0..PROCESSES {
            let worker = self.register().await;
            self.workers.push(worker);
        }
        self.limit(2, None, None, false).await;
        for step in steps {
            self.step(step).await;
            self.both(async |queue| queue.counts().await).await;
        }
        self.compare_remains().await;
        self.both(async |queue| queue.journal(None, u16::MAX).await)
            .await;
        self.finish().await;
    }

    /// Asks both; the answers are equal.
    async fn both<R: PartialEq + std::fmt::Debug>(
        &self,
        ask: impl AsyncFn(Arc<dyn Queue>) -> Result<R, QueueError>,
    ) -> R {
        let expected = ask(self.model.queue()).await.expect("the model answers");
        let found = ask(self.other.queue()).await.expect("a reply");
        assert_eq!(found, expected, "the model's answer is on the right");
        found
    }

    async fn compare_remains(&self) -> Remains {
        let (mut expected, found) = (self.model.remains().await, self.other.remains().await);
        // A store has rows of its own kind, and none without messages.
        if expected.messages > 0 && found.rows >= expected.rows {
            expected.rows = found.rows;
        }
        // An empty queue that will be looked at once more counts in one and not in the other.
        if (found.queues..=found.queues + found.wakes).contains(&expected.queues) {
            expected.queues = found.queues;
        }
        assert_eq!(found, expected, "what the model keeps is on the right");
        found
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Enqueue {
                by,
                lane,
                messages,
                fate,
            } => self.enqueue(by, lane, &messages, fate).await,
            Step::Body {
                by,
                lane,
                message,
                chunks,
                damage,
                fate,
            } => {
                let message = self.large(&message, chunks);
                self.stage(&message, damage).await;
                self.commit(by, lane, vec![message], fate).await;
            }
            Step::Next {
                by,
                lane,
                settlements,
                releases,
                claim,
                fate,
            } => {
                let mut settlements: Vec<_> = settlements
                    .into_iter()
                    .filter_map(|(pick, outcome)| self.settlement(by, &pick, &outcome))
                    .collect();
                let notifications: Vec<_> = settlements
                    .iter()
                    .filter_map(|settlement| Some(settlement.notification.as_ref()?.id))
                    .collect();
                // Nobody can have delivered what the same call enqueues.
                settlements.retain(|of| !notifications.contains(&of.handle.task.message));
                let releases = releases
                    .into_iter()
                    .filter_map(|slot| self.slot(by, slot))
                    .collect();
                let claim = claim.map(|wanted| self.claim(by, wanted));
                let next = Next {
                    call: self.call(by, lane),
                    settlements,
                    releases,
                    claim,
                };
                self.send(by, next, fate).await;
                self.messages.append(&mut self.notifications);
            }
            Step::Again { by } => match self.worker(by).last.clone() {
                Some(Sent::Next(next)) => self.next(by, next).await,
                Some(Sent::Enqueue(call, messages)) => self.submit(call, &messages).await,
                None => {}
            },
            Step::Resolve {
                by,
                lane,
                calls_ago,
            } => {
                let worker = self.worker(by);
                let n = worker.lanes[usize::from(lane)].saturating_sub(calls_ago.into());
                let call = Call {
                    worker: worker.id,
                    lane: lane.into(),
                    n: n.max(1),
                };
                self.resolve(by, call).await;
            }
            Step::Begin { by, handles } => {
                let handles: Vec<_> = handles
                    .iter()
                    .filter_map(|pick| self.handle(by, pick))
                    .collect();
                let id = self.worker(by).id;
                self.both(async |queue| queue.begin(id, &handles).await)
                    .await;
            }
            Step::Check { by, handle } => {
                if let Some(handle) = self.handle(by, &handle) {
                    let id = self.worker(by).id;
                    self.both(async |queue| queue.check(id, &handle).await)
                        .await;
                }
            }
            Step::Abort {
                by,
                lane,
                message,
                complete,
            } => {
                if !self.messages.is_empty() {
                    let message = message.get(&self.messages);
                    let (id, mut handles) = (message.id, handles_of(message));
                    if !complete {
                        handles.pop();
                    }
                    let call = self.call(by, lane);
                    self.both(async |queue| queue.abort(call, id, &handles).await)
                        .await;
                }
            }
            Step::Expire { by, lane, max } => self.expire(by, lane, max).await,
            Step::Read { message } => {
                if !self.messages.is_empty() {
                    let id = message.get(&self.messages).id;
                    self.read(id).await;
                }
            }
            Step::Beat { by } => self.beat(by).await,
            Step::Restart { by } => {
                let worker = self.register().await;
                let old = std::mem::replace(&mut self.workers[usize::from(by)], worker);
                self.former.push(old);
            }
            Step::Limit {
                default,
                site,
                rate,
                old,
                keep_held,
            } => {
                if old {
                    self.generation -= 1;
                }
                self.limit(default, site, rate, keep_held).await;
            }
            Step::Act { acts } => {
                let mut acts: Vec<_> = acts
                    .iter()
                    .filter_map(|(pick, deed)| self.act(pick, *deed))
                    .collect();
                let notices: Vec<_> = acts.iter().filter_map(notice_of).collect();
                // Nobody knows of what the same call enqueues.
                acts.retain(|act| !notices.contains(&act.handle.task.message));
                self.both(async |queue| queue.act(&acts).await).await;
                self.messages.append(&mut self.notifications);
            }
            Step::Suspend { scope, lasts_ms } => {
                let suspension = Suspension {
                    scope: scope_number(scope),
                    lasts: lasts_ms.map(Duration::from_millis),
                    reason: format!("for {lasts_ms:?}"),
                };
                self.both(async |queue| queue.suspend(&suspension).await)
                    .await;
                self.both(async |queue| queue.suspensions().await).await;
            }
            Step::Resume { scope } => {
                let scope = scope_number(scope);
                self.both(async |queue| queue.resume(&scope).await).await;
            }
            Step::Hasten { site } => {
                let route = format!("mx:{site}.example");
                self.both(async |queue| queue.hasten(&route, 1000).await)
                    .await;
            }
            Step::List { place, looks } => {
                let list = List {
                    place: place.map(|place| PlaceName::ALL[usize::from(place)]),
                    looks,
                    ..List::default()
                };
                self.both(async |queue| pages(&*queue, list.clone()).await)
                    .await;
            }
            Step::Pass { ms } => self.model.pass(Duration::from_millis(ms)),
            Step::JumpBack { ms } => {
                let clock = self.model.clock();
                clock.set(clock.now() - ms);
            }
        }
    }

    async fn register(&mut self) -> Worker {
        let id = WorkerId::from_octets(u128::from(self.next_id()).to_be_bytes());
        self.both(async |queue| queue.register(id).await).await;
        Worker {
            id,
            lanes: [0; LANES as usize],
            claimed: Vec::new(),
            slots: Vec::new(),
            last: None,
        }
    }

    async fn enqueue(&mut self, by: u8, lane: u8, shapes: &[Shape], fate: Fate) {
        let messages: Vec<_> = shapes.iter().map(|shape| self.message(shape)).collect();
        self.commit(by, lane, messages, fate).await;
    }

    async fn stage(&self, message: &NewMessage, damage: Damage) {
        let first = u32::from(damage == Damage::Missing);
        for number in first..message.header.body.chunks {
            let chunk = || Bytes::from(vec![number as u8; 3]);
            self.both(async |queue| queue.stage(message.id, number, chunk()).await)
                .await;
        }
        match damage {
            Damage::None | Damage::Missing => {}
            Damage::GivenUp => {
                self.both(async |queue| queue.unstage(message.id).await)
                    .await;
            }
            // By more than a clock goes back in a schedule.
            Damage::Overdue => self.model.pass(STAGED_FOR + Duration::from_secs(600)),
        }
    }

    /// Nothing of a group happens when one lacks chunks: that is an answer, too.
    async fn submit(&self, call: Call, messages: &[NewMessage]) {
        self.both(async |queue| match queue.enqueue(call, messages).await {
            Ok(taken) => Ok(Ok(taken)),
            Err(QueueError::Incomplete(message)) => Ok(Err(message)),
            Err(error) => Err(error),
        })
        .await
        .map_or_else(drop, drop);
    }

    async fn commit(&mut self, by: u8, lane: u8, messages: Vec<NewMessage>, fate: Fate) {
        self.messages.extend(messages.iter().cloned());
        let call = self.call(by, lane);
        self.worker(by).last = Some(Sent::Enqueue(call, messages.clone()));
        if !matches!(fate, Fate::Late) {
            self.submit(call, &messages).await;
        }
        if !matches!(fate, Fate::Answered) {
            for message in &messages {
                let handles = handles_of(message);
                self.both(async |queue| queue.abort(call, message.id, &handles).await)
                    .await;
            }
        }
        if matches!(fate, Fate::Late) {
            self.submit(call, &messages).await;
        }
    }

    async fn send(&mut self, by: u8, next: Next, fate: Fate) {
        self.worker(by).last = Some(Sent::Next(next.clone()));
        let call = next.call;
        match fate {
            Fate::Answered => self.next(by, next).await,
            Fate::ReplyLost => {
                self.both(async |queue| queue.next(&next).await).await;
                self.resolve(by, call).await;
            }
            Fate::Late => {
                self.resolve(by, call).await;
                self.next(by, next).await;
            }
        }
    }

    async fn next(&mut self, by: u8, next: Next) {
        let taken = self.both(async |queue| queue.next(&next).await).await;
        if let Taken::Ran(reply) = taken {
            self.note(by, &reply);
        }
    }

    async fn resolve(&mut self, by: u8, call: Call) {
        let resolved = self.both(async |queue| queue.resolve(call).await).await;
        if let Resolved::Ran(reply) = resolved {
            self.note(by, &reply);
        }
    }

    /// A worker keeps what it was given.
    fn note(&mut self, by: u8, reply: &NextReply) {
        let worker = self.worker(by);
        for claimed in tasks(reply).into_iter().chain(reply.named.clone()) {
            if !worker.claimed.contains(&claimed.handle) {
                worker.claimed.push(claimed.handle);
            }
        }
        for slot in slots(reply) {
            if !worker.slots.contains(&slot) {
                worker.slots.push(slot);
            }
        }
    }

    async fn expire(&mut self, by: u8, lane: u8, max: u16) {
        let expiring = self.both(async |queue| queue.expiring(max).await).await;
        let expired = self
            .messages
            .iter()
            .filter(|message| expiring.contains(&message.id));
        let mut wanted = claim(0, 1);
        wanted.by_name = expired.flat_map(handles_of).collect();
        let next = Next {
            call: self.call(by, lane),
            settlements: Vec::new(),
            releases: Vec::new(),
            claim: Some(wanted),
        };
        self.next(by, next).await;
    }

    async fn read(&self, id: MessageId) {
        self.other.written().await;
        self.both(async |queue| {
            let records = queue.read(&[id]).await?;
            let octets = records.into_iter().map(|record| {
                record.map(|record| record.map(|record| (record.header, record.content.concat())))
            });
            let chunks = [
                queue.read_chunk(id, 0).await?,
                queue.read_chunk(id, 1).await?,
            ];
            Ok((octets.collect::<Vec<_>>(), chunks))
        })
        .await;
    }

    async fn beat(&mut self, by: u8) {
        let id = self.worker(by).id;
        let beat = self.both(async |queue| queue.beat(id).await).await;
        if beat == Beat::Reaped && by < PROCESSES {
            let worker = self.register().await;
            let old = std::mem::replace(&mut self.workers[usize::from(by)], worker);
            self.former.push(old);
        }
    }

    async fn limit(
        &mut self,
        default: u32,
        site: Option<(u8, u32)>,
        speed: Option<Speed>,
        keep_held: bool,
    ) {
        self.generation += 1;
        let rate = speed.map(|speed| Rate {
            messages: speed.messages,
            per: Duration::from_millis(speed.per_ms),
            burst: speed.burst,
        });
        let of_one = speed.and_then(|speed| speed.site);
        let limits = Limits {
            generation: self.generation,
            concurrency_default: default,
            concurrency: site
                .map(|(number, limit)| (format!("mx:{number}.example"), limit))
                .into_iter()
                .collect(),
            rate_default: rate.filter(|_| of_one.is_none()),
            rates: of_one
                .zip(rate)
                .map(|(number, rate)| (format!("mx:{number}.example"), rate))
                .into_iter()
                .collect(),
            weights: vec![("t0".to_owned(), default.max(1))],
            held: match keep_held {
                true => HeldExpiry::Keep,
                false => HeldExpiry::Expire,
            },
        };
        self.both(async |queue| queue.set_limits(&limits).await)
            .await;
    }

    /// Nothing is held any more.
    async fn release_all(&self) {
        let handles = self.messages.iter().flat_map(handles_of);
        let acts: Vec<_> = handles
            .map(|handle| Act {
                handle,
                action: Action::Release,
            })
            .collect();
        self.both(async |queue| queue.act(&acts).await).await;
    }

    /// One new worker is left: it finds the others dead and delivers everything. Nothing remains.
    async fn finish(&mut self) {
        self.limit(20, None, None, false).await;
        for scope in (0..SCOPES).map(scope_number) {
            self.both(async |queue| queue.resume(&scope).await).await;
        }
        let heir = self.register().await;
        self.workers = vec![heir];
        for round in 0.. {
            assert!(
                round < 2_000,
                "mail sleeps: {:?}",
                self.compare_remains().await
            );
            self.model.pass(Duration::from_secs(5));
            self.beat(0).await;
            let next = Next {
                call: self.call(0, 0),
                settlements: Vec::new(),
                releases: Vec::new(),
                claim: Some(claim(50, 50)),
            };
            self.release_all().await;
            let taken = self.both(async |queue| queue.next(&next).await).await;
            let Taken::Ran(reply) = taken else {
                panic!("{taken:?}")
            };
            let settle = Next {
                call: self.call(0, 0),
                settlements: tasks(&reply)
                    .iter()
                    .map(|task| all_delivered(&task.handle))
                    .collect(),
                releases: slots(&reply),
                claim: None,
            };
            self.next(0, settle).await;
            let counts = self.both(async |queue| queue.counts().await).await;
            // After twenty beats the others have been found dead.
            if round > 20 && counts == Counts::default() && reply.then == Then::Empty {
                break;
            }
        }
        // Chunks whose messages never came.
        self.model.pass(STAGED_FOR * 2);
        self.beat(0).await;
        let left = self.compare_remains().await;
        let nothing = Remains {
            workers: 1,
            ..Remains::default()
        };
        assert_eq!(left, nothing, "it is left for ever");
    }
}
