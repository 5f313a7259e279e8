use std::sync::Arc;

use queue::record::Record;
use queue::worker::{Claim, Grant};
use smtp::ForwardPath;
use smtp::client::{FailureCause, Finished, Phase, RecipientOutcome};
use telemetry::Span;
use tokio_util::sync::CancellationToken;

use super::connect::{Failure, Hosts};
use super::connection::{Connection, Guard, Transacted};
use super::disposition::{Disposition, Event, Scope, verdict};
use super::load::{Load, load};
use super::report::{Said, Told, recipients, report};
use super::{Inner, Settings, trace};
use crate::routing::Target;

/// Works off a grant: one task after the other, over one connection as long as it lasts.
pub(super) async fn run(inner: &Arc<Inner>, mut grant: Grant) {
    let settings = inner.settings();
    let fenced = grant.fenced();
    let mut agent = Agent {
        inner,
        settings: &settings,
        fenced: &fenced,
        connection: None,
    };
    while let Some(claim) = grant.take() {
        // Dropped, it goes back.
        if inner.draining.is_cancelled() || fenced.is_cancelled() || !claim.may_start() {
            continue;
        }
        agent.attempt(&mut grant, claim).await;
    }
    agent.leave();
}

struct Agent<'a> {
    inner: &'a Arc<Inner>,
    settings: &'a Settings,
    fenced: &'a CancellationToken,
    /// What the task before left, and where it leads.
    connection: Option<(Target, Connection)>,
}

impl Agent<'_> {
    async fn attempt(&mut self, grant: &mut Grant, claim: Claim) {
        let Some((mut claim, mut load)) = load(self.inner, self.settings, claim).await else {
            return;
        };
        if claim.expires_in().is_zero() {
            return load.expire(self.inner, self.settings, claim).await;
        }
        let domain = load.domain();
        let target = self.settings.routes.resolve(&grant.queue.route, &domain);
        let mut hosts = Hosts::new(self.inner, self.settings, &target);
        let mut told = Vec::with_capacity(load.open.len());
        let mut open = std::mem::take(&mut load.open);
        let mut last_attempt = load.trace;
        let mut withheld = false;
        while !open.is_empty() {
            let rest = open.split_off(open.len().min(self.settings.recipients_per_transaction));
            let batch = std::mem::replace(&mut open, rest);
            let mut span = trace::start(&claim, &load, &domain, batch.len(), &self.settings.pod);
            last_attempt = Some(span.context());
            let (connection, is_reused) = match self.connection(&target, &mut hosts).await {
                Ok(connection) => connection,
                Err((failure, verdict)) => {
                    trace::failure(&mut span, &failure);
                    let said = Arc::new(Said::Failure(failure));
                    let all = batch.iter().chain(&open);
                    told.extend(all.map(|(index, _)| Told::new(*index, verdict, &said)));
                    open.clear();
                    break;
                }
            };
            trace::peer(&mut span, &connection);
            grant.begin(&mut claim);
            let step = Step {
                hosts: &mut hosts,
                target: &target,
                span,
                is_reused,
            };
            let before = told.len();
            match self
                .transact(step, connection, &claim, &load, batch, &mut told)
                .await
            {
                Transaction::Over(again) => open.splice(..0, again).for_each(drop),
                Transaction::Withheld => withheld = true,
                Transaction::Unreadable(unread, said) => {
                    let all = unread.iter().chain(&open);
                    let verdict = verdict(Event::Unreadable, true);
                    told.extend(all.map(|(index, _)| Told::new(*index, verdict, &said)));
                    open.clear();
                }
            }
            // So that of one transaction at most it is in doubt who has the message.
            let has_more = !withheld && !open.is_empty();
            if has_more && !note_delivered(&claim, &load.record, &told[before..]).await {
                withheld = true;
            }
            if withheld {
                break;
            }
        }
        if withheld && told.is_empty() {
            // Nothing has happened that anybody need know of: the claim goes back.
            return;
        }
        let record = &load.record;
        report(
            self.inner,
            self.settings,
            claim,
            record,
            told,
            withheld,
            last_attempt,
        )
        .await;
    }

    /// Sends the message to `batch`.
    async fn transact(
        &mut self,
        mut step: Step<'_, '_>,
        mut connection: Connection,
        claim: &Claim,
        load: &Load,
        batch: Vec<(u16, ForwardPath)>,
        told: &mut Vec<Told>,
    ) -> Transaction {
        self.inner.metrics.transactions.inc();
        let transaction = smtp::client::Transaction {
            reverse_path: load.reverse_path.clone(),
            recipients: batch.iter().map(|(_, path)| path.clone()).collect(),
            content: load.content.clone(),
        };
        let guard = Guard {
            claim,
            record: &load.record,
            fenced: self.fenced,
        };
        match connection.transact(transaction, guard).await {
            Transacted::Finished(Finished { recipients }) => {
                let again = tell(&connection, batch, recipients, &mut step.span, told);
                let may_go_on = connection.is_ready()
                    && connection.sent() < self.settings.messages_per_connection;
                if may_go_on {
                    self.connection = Some((step.target.clone(), connection));
                } else {
                    tokio::spawn(connection.quit());
                }
                Transaction::Over(again)
            }
            Transacted::Failed(failure) => {
                Transaction::Over(self.session_failed(step, &connection, failure, batch, told))
            }
            Transacted::Unreadable(why) => {
                let queue_id = claim.handle().task.message;
                tracing::error!(%queue_id, error = why, "the content of a message cannot be read");
                step.span.fail(&why);
                Transaction::Unreadable(batch, Arc::new(Said::Words(why)))
            }
            Transacted::Withheld => {
                self.inner.metrics.withheld.inc();
                step.span
                    .fail("the claim was not certain any more, the message was withheld");
                Transaction::Withheld
            }
        }
    }

    /// The session ended in the transaction. Who was answered before stays answered; for the
    /// others it depends on how far the failure reaches.
    fn session_failed(
        &self,
        mut step: Step<'_, '_>,
        connection: &Connection,
        mut failure: smtp::client::Failure,
        batch: Vec<(u16, ForwardPath)>,
        told: &mut Vec<Told>,
    ) -> Vec<(u16, ForwardPath)> {
        let host: Arc<str> = connection.host().to_string().into();
        let outcomes = std::mem::take(&mut failure.recipients);
        let mut outcomes = outcomes
            .into_iter()
            .chain(std::iter::repeat(RecipientOutcome::Undecided));
        let mut undecided = Vec::new();
        for (index, path) in batch {
            match outcomes.next() {
                Some(RecipientOutcome::Refused { phase, reply }) => {
                    let verdict = verdict(
                        Event::Reply {
                            phase,
                            reply: &reply,
                        },
                        true,
                    );
                    // A peer that is full and then goes away: they are tried with the others.
                    if verdict.scope == Scope::Recipient {
                        let said = Arc::new(Said::Reply {
                            reply,
                            host: Arc::clone(&host),
                        });
                        told.push(Told::new(index, verdict, &said));
                    } else {
                        undecided.push((index, path));
                    }
                }
                _ => undecided.push((index, path)),
            }
        }
        // It had been closed, or was being closed, before the transaction began: a peer may end
        // an idle connection whenever it likes, and that says nothing about the mail.
        let was_stale = step.is_reused
            && matches!(failure.phase, Phase::Idle | Phase::Rset | Phase::Mail)
            && match &failure.cause {
                FailureCause::Closed => true,
                FailureCause::Refused(reply) => {
                    reply.code() == smtp::ReplyCode::SERVICE_NOT_AVAILABLE
                }
                _ => false,
            };
        let failure = Arc::new(Failure::session(
            connection.host(),
            connection.address(),
            failure,
        ));
        trace::failure(&mut step.span, &failure);
        if was_stale {
            return undecided;
        }
        let verdict = failure.verdict(true);
        if verdict.scope == Scope::Host {
            let is_about_host = failure.reply().is_some();
            step.hosts
                .gave_up(connection.address(), &failure, is_about_host);
            return undecided;
        }
        let said = Arc::new(Said::Failure(failure));
        told.extend(
            undecided
                .into_iter()
                .map(|(index, _)| Told::new(index, verdict, &said)),
        );
        Vec::new()
    }

    /// The connection of the task before, one out of the pool, or a new one; and whether it has
    /// been used.
    async fn connection(
        &mut self,
        target: &Target,
        hosts: &mut Hosts<'_>,
    ) -> Result<(Connection, bool), (Arc<Failure>, super::disposition::Verdict)> {
        if let Some((to, connection)) = self.connection.take() {
            if to == *target {
                return Ok((connection, true));
            }
            self.keep(&to, connection);
        }
        let pool = &self.inner.pool;
        let pooled = pool
            .key(target, self.settings)
            .and_then(|key| pool.take(&key));
        if let Some(connection) = pooled.filter(|connection| hosts.may_use(connection.address())) {
            return Ok((connection, true));
        }
        hosts.connect().await.map(|connection| (connection, false))
    }

    fn leave(&mut self) {
        if let Some((target, connection)) = self.connection.take() {
            self.keep(&target, connection);
        }
    }

    fn keep(&self, target: &Target, connection: Connection) {
        let pool = &self.inner.pool;
        let left = match pool.key(target, self.settings) {
            Some(key) => pool.put(key, connection),
            None => Some(connection),
        };
        if let Some(connection) = left {
            tokio::spawn(connection.quit());
        }
    }
}

/// Has the queue note who has the message. False when the claim is not certain any more.
async fn note_delivered(claim: &Claim, record: &Record, told: &[Told]) -> bool {
    let delivered: Vec<u16> = told
        .iter()
        .filter(|told| told.verdict.disposition == Disposition::Delivered)
        .map(|told| told.recipient)
        .collect();
    delivered.is_empty() || claim.delivered(delivered, recipients(claim, record)).await
}

/// How a transaction ended.
enum Transaction {
    /// These are to be tried again at once; the others were told.
    Over(Vec<(u16, ForwardPath)>),
    /// The claim is not certain any more.
    Withheld,
    /// The content could not be read to its end, so nobody has the message; and why.
    Unreadable(Vec<(u16, ForwardPath)>, Arc<Said>),
}

/// One transaction's surroundings.
struct Step<'h, 'a> {
    hosts: &'h mut Hosts<'a>,
    target: &'h Target,
    span: Span,
    is_reused: bool,
}

/// Notes what each recipient was answered; returns those the transaction had no room for.
fn tell(
    connection: &Connection,
    batch: Vec<(u16, ForwardPath)>,
    outcomes: Vec<RecipientOutcome>,
    span: &mut Span,
    told: &mut Vec<Told>,
) -> Vec<(u16, ForwardPath)> {
    let host: Arc<str> = connection.host().to_string().into();
    let before = told.len();
    let mut no_room = Vec::new();
    for ((index, path), outcome) in batch.into_iter().zip(outcomes) {
        let (verdict, said) = match outcome {
            RecipientOutcome::Accepted(reply) => {
                let event = Event::Reply {
                    phase: Phase::FinalDot,
                    reply: &reply,
                };
                (
                    verdict(event, true),
                    Said::Reply {
                        reply,
                        host: Arc::clone(&host),
                    },
                )
            }
            RecipientOutcome::Refused { phase, reply } => {
                let verdict = verdict(
                    Event::Reply {
                        phase,
                        reply: &reply,
                    },
                    true,
                );
                let said = Said::Reply {
                    reply,
                    host: Arc::clone(&host),
                };
                if phase == Phase::Rcpt && verdict.scope == Scope::Transaction {
                    no_room.push((Told::new(index, verdict, &Arc::new(said)), path));
                    continue;
                }
                (verdict, said)
            }
            RecipientOutcome::Unsendable(unsendable) => {
                let words = Said::Words(unsendable.to_string());
                (verdict(Event::Unsendable(unsendable), true), words)
            }
            // A finished transaction has decided all; a later version may know more outcomes.
            _ => {
                let event = Event::Session {
                    phase: Phase::Idle,
                    cause: &FailureCause::Closed,
                };
                (
                    verdict(event, true),
                    Said::Words("nothing was said about it".to_owned()),
                )
            }
        };
        told.push(Told::new(index, verdict, &Arc::new(said)));
    }
    // RFC 5321 §4.5.3.1.10: the rest goes at once in another transaction, as long as each of them
    // takes somebody; a peer that has no room for anyone is just busy.
    if told.len() == before {
        told.extend(no_room.drain(..).map(|(told, _)| told));
    }
    if let Some(first) = told.get(before) {
        trace::answer(span, first);
    }
    no_room
        .into_iter()
        .map(|(told, path)| (told.recipient, path))
        .collect()
}
