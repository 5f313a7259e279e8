//! From a client's commands to a message in the queue: what a session's events are answered with.
//!
//! In the order of a transaction: [`Conversation::mail`], [`Conversation::recipient`],
//! [`Conversation::data`], [`Conversation::message`]. All but the last only look at what is in
//! memory, so a session answers a pipelined batch without waiting. The last makes the message what
//! it will be for ever (trace fields, tasks, hash) and says 250 only once the queue has confirmed it.
//! A large message comes by [`Conversation::part`] instead, part by part, each put aside in the queue
//! before the next is read, and [`Conversation::large_message`].

mod intake;
mod upload;
mod uploads;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use jiff::Timestamp;
use message::TooManyHops;
use queue::durability::Durability;
use queue::id::TaskId;
use queue::record::{INLINE, NewMessage};
use queue::worker::{EnqueueError, Worker};
use smtp::server::{LargeMessage, MailRequest, Message, Protocol};
use smtp::{Content, Credentials, EnhancedStatus, ForwardPath, HeloName, Reply, ReplyCode};
use telemetry::span::{self, SpanName};
use telemetry::{Attribute, Span, TraceContext};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::active::{Active, ListenerPolicy};
use crate::admission::{self, Client, Refused, Standing};
use crate::delivery::{Outcome, OutcomeKind, Outcomes};
use crate::listener::TlsParameters;
use crate::listener::limits::Connections;
use crate::metrics::{Authentication, Metrics, Refusal};
use intake::{Envelope, Intake};
use upload::Upload;
use uploads::Reservation;
pub(crate) use uploads::Uploads;

/// What the connections share.
pub(crate) struct Reception {
    pub(crate) active: watch::Receiver<Arc<Active>>,
    pub(crate) worker: Worker,
    pub(crate) queue: watch::Receiver<queue::worker::Status>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) outcomes: Outcomes,
    pub(crate) metrics: Metrics,
    /// Idle sessions are told to go.
    pub(crate) drain: CancellationToken,
    /// All sessions end where they are.
    pub(crate) cut_off: CancellationToken,
    pub(crate) pod_name: String,
    pub(crate) uploads: Uploads,
}

impl Reception {
    fn is_filled_over(&self, percent: u8) -> bool {
        self.queue.borrow().fill > Some(percent)
    }

    pub(crate) fn active(&self) -> Arc<Active> {
        Arc::clone(&self.active.borrow())
    }

    pub(crate) fn listener(&self, name: &str) -> Option<Arc<ListenerPolicy>> {
        self.active.borrow().listener(name).map(Arc::clone)
    }
}

/// One connection's part.
pub(crate) struct Conversation {
    reception: Arc<Reception>,
    listener: Arc<str>,
    client: Client,
    peer: SocketAddr,
    tls: Option<TlsParameters>,
    transaction: Option<Transaction>,
}

/// What was decided when the transaction was opened holds until its end.
struct Transaction {
    began: SystemTime,
    active: Arc<Active>,
    policy: Arc<ListenerPolicy>,
    standing: Standing,
    declared_size: Option<u64>,
    data: Option<OpenData>,
    /// Room for a large message.
    reservation: Option<Reservation>,
    /// What of one has come.
    upload: Option<Upload>,
}

impl Conversation {
    pub(crate) fn new(
        reception: Arc<Reception>,
        listener: Arc<str>,
        peer: SocketAddr,
        tls: Option<TlsParameters>,
    ) -> Self {
        let client = Client::new(peer.ip());
        Self {
            reception,
            listener,
            client,
            peer,
            tls,
            transaction: None,
        }
    }

    /// What was said in clear is forgotten (RFC 3207 §4.2).
    pub(crate) fn secured(&mut self, tls: Option<TlsParameters>) {
        self.client = Client::new(self.peer.ip());
        self.tls = tls;
        self.transaction = None;
    }

    /// While content is awaited: how much of it the client announced, or the size of a small one.
    pub(crate) fn expected_octets(&self) -> Option<usize> {
        let transaction = self.transaction.as_ref()?;
        transaction.data.as_ref()?;
        let declared = transaction
            .declared_size
            .and_then(|size| usize::try_from(size).ok());
        Some(declared.map_or(UNDECLARED, |size| size.saturating_add(DATA_OVERHEAD)))
    }

    pub(crate) async fn authenticate(
        &mut self,
        credentials: &Credentials,
    ) -> Result<String, Reply> {
        let name = &credentials.authentication_identity;
        // RFC 4616 §2: acting as somebody else needs a right that nobody has here.
        let as_oneself = credentials
            .authorization_identity
            .as_ref()
            .is_none_or(|other| other == name);
        let active = self.reception.active();
        let verified = active
            .credentials
            .verify(name, credentials.secret.expose())
            .await;
        match verified.filter(|_| as_oneself) {
            Some(credential) => {
                self.reception
                    .metrics
                    .authentications
                    .inc(Authentication::Accepted);
                let identity = credential.username.clone();
                self.client.authenticate(credential);
                Ok(identity)
            }
            None => {
                self.reception
                    .metrics
                    .authentications
                    .inc(Authentication::Refused);
                tracing::warn!(client = %self.peer.ip(), listener = &*self.listener, "authentication refused");
                // RFC 4954 §6
                let status = EnhancedStatus::permanent(7, 8);
                Err(Reply::new(
                    ReplyCode::AUTH_FAILED,
                    Some(status),
                    "Credentials are invalid",
                ))
            }
        }
    }

    pub(crate) fn mail(&mut self, request: &MailRequest) -> Reply {
        let active = self.reception.active();
        let Some(policy) = active.listener(&self.listener).map(Arc::clone) else {
            return unavailable("The service is going away");
        };
        let standing = self.client.standing(&active, &policy);
        if let Err(refused) =
            admission::judge_reverse_path(&standing, &active, &policy, &request.reverse_path)
        {
            return self.refuse(refused);
        }
        let is_large = request.parameters.size > Some(LARGE);
        let bound = if is_large { FILLING } else { NEARLY_FULL };
        if self.reception.is_filled_over(bound) {
            return self.refuse(queue_full());
        }
        self.transaction = Some(Transaction {
            began: SystemTime::now(),
            active,
            policy,
            standing,
            declared_size: request.parameters.size,
            data: None,
            reservation: None,
            upload: None,
        });
        accepted(1, 0)
    }

    pub(crate) fn recipient(&self, forward_path: &ForwardPath) -> Reply {
        match admission::judge_forward_path(forward_path) {
            Ok(()) => accepted(1, 5),
            Err(refused) => self.refuse(refused),
        }
    }

    /// Better said before the content has come than after it.
    pub(crate) fn data(&mut self) -> Reply {
        if let Some(why) = self.queue_trouble() {
            tracing::warn!(client = %self.peer.ip(), why, "no message is accepted");
            self.reception
                .metrics
                .refusals
                .inc(Refusal::QueueUnavailable);
            return unavailable("The queue is not available, try again later");
        }
        if let Some(transaction) = &mut self.transaction {
            if transaction.declared_size > Some(INLINE as u64) {
                match self.reception.uploads.reserve() {
                    Ok(reservation) => transaction.reservation = Some(reservation),
                    Err(refused) => return self.refuse(refused),
                }
            }
            transaction.data = Some(OpenData::new(&self.reception.metrics));
        }
        accepted(0, 0)
    }

    /// Takes on the responsibility for a message, or not.
    pub(crate) async fn message(&mut self, message: Message, said: Option<Said<'_>>) -> Reply {
        // EHLO and MAIL came first; the session sees to it.
        let (Some(transaction), Some(said)) = (self.transaction.take(), said) else {
            return unavailable("The transaction is lost, try again");
        };
        match intake::take_in(message, &self.envelope(&transaction, said)) {
            Ok(intake) => self.accept(intake, &transaction, said).await,
            Err(loops) => self.refuse_loop(loops),
        }
    }

    /// Puts a part of a large message aside, from `recipients` known by now. While that takes its time
    /// the client is not read from.
    pub(crate) async fn part(
        &mut self,
        part: Vec<Bytes>,
        recipients: &[ForwardPath],
        said: Option<Said<'_>>,
    ) -> Reply {
        let (Some(mut transaction), Some(said)) = (self.transaction.take(), said) else {
            return unavailable("The transaction is lost, try again");
        };
        match self
            .put_aside(part, recipients, &mut transaction, said)
            .await
        {
            Ok(()) => {
                self.transaction = Some(transaction);
                accepted(0, 0)
            }
            Err(refused) => self.refuse(refused),
        }
    }

    async fn put_aside(
        &self,
        part: Vec<Bytes>,
        recipients: &[ForwardPath],
        transaction: &mut Transaction,
        said: Said<'_>,
    ) -> Result<(), Refused> {
        let reception = &self.reception;
        let mut upload = match transaction.upload.take() {
            Some(upload) => upload,
            None => {
                if transaction.reservation.is_none() {
                    transaction.reservation = Some(reception.uploads.wait().await?);
                }
                let head = Content::header_section_of(&part).map_err(|error| {
                    tracing::error!(%error, "a session has handed over what it must not");
                    Refused(Refusal::QueueUnavailable, unavailable("Try again later"))
                })?;
                let head = intake::head(&head, recipients, &self.envelope(transaction, said))
                    .map_err(|loops| self.loops(loops))?;
                Upload::new(head, reception.worker.clone())
            }
        };
        let octets = upload.stored() + part.iter().map(|piece| piece.len() as u64).sum::<u64>();
        if octets > LARGE && reception.is_filled_over(FILLING) {
            return Err(queue_full());
        }
        upload.add(part).await.map_err(|error| {
            let client = self.peer.ip();
            tracing::warn!(queue_id = %upload.id(), %client, %error, "not accepted");
            not_queued(&error)
        })?;
        transaction.upload = Some(upload);
        Ok(())
    }

    /// As [`Conversation::message`], where all of the content has been put aside.
    pub(crate) async fn large_message(
        &mut self,
        message: LargeMessage,
        said: Option<Said<'_>>,
    ) -> Reply {
        let (Some(mut transaction), Some(said)) = (self.transaction.take(), said) else {
            return unavailable("The transaction is lost, try again");
        };
        let Some(mut upload) = transaction.upload.take() else {
            return unavailable("The content is lost, try again");
        };
        let body = match upload.finish().await {
            Ok(body) => body,
            Err(error) => {
                let client = self.peer.ip();
                tracing::warn!(queue_id = %upload.id(), %client, %error, "not accepted");
                return self.refuse(not_queued(&error));
            }
        };
        let envelope = self.envelope(&transaction, said);
        let intake = intake::take_in_large(message, upload.head.clone(), body, &envelope);
        let reply = self.accept(intake, &transaction, said).await;
        if reply.is_positive() {
            upload.enqueued();
        }
        reply
    }

    fn envelope<'a>(&'a self, transaction: &'a Transaction, said: Said<'a>) -> Envelope<'a> {
        Envelope {
            client: self.peer.ip().to_canonical(),
            tls: self.tls,
            said,
            active: &transaction.active,
            standing: &transaction.standing,
            role: transaction.policy.role,
            pod_name: &self.reception.pod_name,
            received: Timestamp::now(),
        }
    }

    fn loops(&self, loops: TooManyHops) -> Refused {
        tracing::warn!(client = %self.peer.ip(), "not accepted: {loops}");
        Refused(Refusal::Hops, loops.reply())
    }

    fn refuse_loop(&self, loops: TooManyHops) -> Reply {
        self.refuse(self.loops(loops))
    }

    async fn accept(&self, mut intake: Intake, transaction: &Transaction, said: Said<'_>) -> Reply {
        let recipients = intake.recipients;
        let reverse_path = intake.reverse_path;
        let mut receive = span::start_at(
            SpanName::SmtpReceive,
            intake.parent.as_ref(),
            transaction.began,
        );
        let mut enqueue = span::start(SpanName::QueueEnqueue, Some(&receive.context()));
        let context = enqueue.context();
        intake.message.header.trace = Some(context.to_traceparent());
        let (id, size) = (intake.message.id, intake.message.header.body.size);
        if let Some(message_id) = &intake.message_id {
            receive.set(Attribute::MessagingMessageId, message_id);
        }
        self.describe(&mut receive, transaction, said, recipients);
        for span in [&mut receive, &mut enqueue] {
            span.set(Attribute::QueueId, format_args!("{id}"));
            span.set(Attribute::RelayPod, &self.reception.pod_name);
            span.set(Attribute::MessagingMessageBodySize, size);
        }

        let announce = self.announcement(&intake.message, context);
        let began = Instant::now();
        let result = self.reception.worker.enqueue(intake.message).await;
        self.reception
            .metrics
            .enqueue_seconds
            .observe(began.elapsed().as_secs_f64());
        let reply = match result {
            Ok(()) => {
                self.reception.metrics.messages_accepted.inc();
                self.reception.metrics.octets_accepted.inc_by(size);
                announce.into_iter().flatten().for_each(|outcome| {
                    self.reception.outcomes.announce(|| outcome);
                });
                tracing::info!(
                    queue_id = %id,
                    trace_id = %context.trace_id(),
                    span_id = %context.span_id(),
                    client = %self.peer.ip(),
                    identity = transaction.standing.identity(),
                    %reverse_path,
                    recipients,
                    size,
                    "accepted"
                );
                let text = format!("{id} queued");
                Reply::new(ReplyCode::OK, Some(EnhancedStatus::success(0, 0)), text)
            }
            Err(error) => {
                tracing::warn!(
                    queue_id = %id,
                    trace_id = %context.trace_id(),
                    span_id = %context.span_id(),
                    client = %self.peer.ip(),
                    %reverse_path,
                    %error,
                    "not accepted"
                );
                enqueue.fail(format_args!("{error}"));
                self.refuse(not_queued(&error))
            }
        };
        enqueue.end();
        receive.set(Attribute::ReplyCode, reply.code().value());
        if let Some(status) = reply.enhanced() {
            receive.set(Attribute::EnhancedStatus, format_args!("{status}"));
        }
        if !reply.is_positive() {
            receive.fail("the message was not accepted");
        }
        reply
    }

    /// The transaction ended without a message.
    pub(crate) fn abandoned(&mut self) {
        self.transaction = None;
    }

    /// What to announce of a message once it is in the queue, if anybody listens.
    fn announcement(&self, message: &NewMessage, trace: TraceContext) -> Option<Vec<Outcome>> {
        if !self.reception.outcomes.has_listeners() {
            return None;
        }
        let of_task = |(ordinal, task): (usize, &queue::record::Task)| {
            let task_id = TaskId::new(message.id, u16::try_from(ordinal).unwrap_or(u16::MAX));
            let outcome = |recipient: &queue::record::Recipient| Outcome {
                message: message.id,
                task: task_id,
                recipient: recipient.address.clone(),
                attempt: 0,
                kind: OutcomeKind::Accepted,
                at: Timestamp::now(),
                trace: Some(trace),
            };
            task.recipients.iter().map(outcome).collect::<Vec<_>>()
        };
        Some(
            message
                .header
                .tasks
                .iter()
                .enumerate()
                .flat_map(of_task)
                .collect(),
        )
    }

    fn refuse(&self, Refused(reason, reply): Refused) -> Reply {
        self.reception.metrics.refusals.inc(reason);
        reply
    }

    fn queue_trouble(&self) -> Option<String> {
        let status = self.reception.queue.borrow();
        match (&status.durability, &status.error) {
            (Durability::Unmet { reason, remedy }, _) => Some(format!("{reason}: {remedy}")),
            (_, Some(error)) if !status.reachable => Some(error.clone()),
            // Just started and not asked yet, or well.
            _ => None,
        }
    }

    fn describe(
        &self,
        receive: &mut Span,
        transaction: &Transaction,
        said: Said<'_>,
        recipients: usize,
    ) {
        if !receive.is_recording() {
            return;
        }
        receive.set(Attribute::MessagingSystem, "kurier");
        receive.set(Attribute::MessagingOperation, "receive");
        receive.set(
            Attribute::ServerAddress,
            transaction.active.hostname.as_str(),
        );
        receive.set(
            Attribute::NetworkPeerAddress,
            format_args!("{}", self.peer.ip()),
        );
        receive.set(Attribute::NetworkPeerPort, self.peer.port());
        receive.set(Attribute::HeloName, said.helo.as_str());
        receive.set(Attribute::NetworkProtocolName, protocol_name(said.protocol));
        receive.set(Attribute::RecipientCount, recipients);
        receive.set(
            Attribute::Tenant,
            transaction.standing.tenant(&transaction.active),
        );
        if let Some(identity) = transaction.standing.identity() {
            receive.set(Attribute::AuthenticatedIdentity, identity);
        }
        if let Some(tls) = self.tls {
            receive.set(Attribute::TlsProtocolName, "tls");
            receive.set(Attribute::TlsProtocolVersion, tls.version);
            receive.set(Attribute::TlsCipher, tls.cipher);
        }
    }
}

/// What the client said of itself, and how it speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<'a> {
    pub(crate) helo: &'a HeloName,
    pub(crate) protocol: Protocol,
}

fn protocol_name(protocol: Protocol) -> &'static str {
    if protocol == Protocol::Smtp {
        "smtp"
    } else {
        "esmtp"
    }
}

/// Counted as content that is under way, until dropped.
struct OpenData(telemetry::metrics::Gauge);

impl OpenData {
    fn new(metrics: &Metrics) -> Self {
        metrics.open_data.inc();
        Self(metrics.open_data.clone())
    }
}

impl Drop for OpenData {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn accepted(subject: u16, detail: u16) -> Reply {
    Reply::new(
        ReplyCode::OK,
        Some(EnhancedStatus::success(subject, detail)),
        "Ok",
    )
}

fn unavailable(text: &'static str) -> Reply {
    Reply::new(
        ReplyCode::LOCAL_ERROR,
        Some(EnhancedStatus::transient(3, 0)),
        text,
    )
}

/// Of the queue's store, in percent: what is left is for what is there already, so that it drains.
const NEARLY_FULL: u8 = 85;
/// Above this, in percent, no message over [`LARGE`] is taken: one of them may be all that is left.
const FILLING: u8 = 80;
const LARGE: u64 = 1 << 20;

fn queue_full() -> Refused {
    Refused(
        Refusal::QueueFull,
        Reply::new(
            ReplyCode::INSUFFICIENT_STORAGE,
            Some(EnhancedStatus::transient(3, 1)),
            "The queue is full, try again later",
        ),
    )
}

fn not_queued(error: &EnqueueError) -> Refused {
    match error {
        EnqueueError::Full(_) => queue_full(),
        _ => Refused(
            Refusal::QueueUnavailable,
            unavailable("The queue is not available, try again later"),
        ),
    }
}

/// The usual small message, where SIZE was not declared.
const UNDECLARED: usize = 16 * 1024;
/// What dots and the end of DATA may add to a declared size, usually.
const DATA_OVERHEAD: usize = 512;
