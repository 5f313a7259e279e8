//! Records in and out: `m:<mid>`, written by the MULTI that enqueues, read as a whole.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Pipeline, RedisWrite as _, Value};
use tokio::time::{Instant, timeout_at};

use super::Redis;
use super::pool::Connector;
use super::reply::{refusal, refusal_text, unexpected};
use super::script::ENQUEUE;
use crate::durability::{Durability, Level};
use crate::id::{Call, MessageId};
use crate::operation::Taken;
use crate::queue::{QueueError, RecordError};
use crate::record::{NewMessage, Record};

impl Redis {
    /// `MULTI; MSET; EVAL; EXEC` in one write: the records, and their tasks in their queues, or
    /// nothing.
    pub(super) async fn commit(
        &self,
        call: Call,
        messages: &[NewMessage],
    ) -> Result<Taken<()>, QueueError> {
        let mut request = commit_request(&self.connector, call, messages)?;
        let level = self.connector.target.level;
        let patience = CONFIRMATION_TIMEOUT.min(self.response_timeout / 2);
        // Behind EXEC in the same write. It is shorter than the framing of what is before it, so what
        // was surely not written as a whole lacks a part of EXEC.
        let confirmations = confirmations(level, patience);
        let waits = confirmations.len();
        for confirmation in confirmations {
            request.add_command(confirmation);
        }
        let deadline = Instant::now() + COMMIT_TIMEOUT;
        let taken = timeout_at(deadline, self.take_durable()).await;
        let mut taken = taken.unwrap_or_else(|_| {
            Err(QueueError::Unreachable(
                "no connection to commit on in time".into(),
            ))
        })?;
        let deadline = deadline.min(self.commits.deadline());
        let mut replies = taken.exchange_until(&request, deadline).await?;
        let confirmation = replies.split_off(replies.len().saturating_sub(waits)).pop();
        let outcome = match committed(replies, messages) {
            Ok(Taken::Ran(())) => confirmed(level, confirmation).map(Taken::Ran),
            other => other,
        };
        // After anything unusual the next commit starts on a connection known to be clean.
        match outcome {
            Ok(_) => taken.put_back(),
            Err(_) => taken.suspect(),
        }
        outcome
    }

    /// A connection to a server whose confirmation is worth what is declared.
    async fn take_durable(&self) -> Result<super::pool::Taken<'_>, QueueError> {
        let mut taken = self.commits.take().await?;
        let verified = &self.connector.verified;
        let durability = match verified.recent(self.timing.beat * 2) {
            Some(durability) => durability,
            None => {
                let deadline = self.commits.deadline();
                self.connector
                    .verify(&mut taken.connection, deadline)
                    .await?
            }
        };
        match durability {
            Durability::Verified(_) => Ok(taken),
            Durability::Unmet { reason, remedy } => {
                taken.put_back();
                Err(QueueError::NotDurable(format!("{reason}: {remedy}")))
            }
            Durability::Unknown => {
                taken.put_back();
                Err(QueueError::NotDurable("NotVerified: not asked yet".into()))
            }
        }
    }

    pub(super) async fn read_records(
        &self,
        messages: &[MessageId],
    ) -> Result<Vec<Option<Result<Record, RecordError>>>, QueueError> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("MGET");
        for message in messages {
            command.write_arg_fmt(format_args!("{}m:{message}", self.connector.prefix()));
        }
        let values = match self.reads.run(command).await? {
            Value::Array(values) => values,
            other => return Err(unexpected("MGET", &other)),
        };
        values
            .into_iter()
            .map(|value| match value {
                Value::BulkString(octets) => Ok(Some(Record::decode(octets.into()))),
                Value::Nil => Ok(None),
                other => Err(unexpected("MGET", &other)),
            })
            .collect()
    }
}

fn commit_request(
    connector: &Connector,
    call: Call,
    messages: &[NewMessage],
) -> Result<Pipeline, QueueError> {
    // Grown step by step, a command of many bodies would be copied again and again.
    let octets: usize = messages.iter().map(octets_of).sum();
    let mut records = Cmd::with_capacity(1 + 2 * messages.len(), octets);
    records.arg("MSET");
    let mut script = redis::cmd("EVAL");
    script.arg(ENQUEUE.as_str()).arg(1).arg(connector.prefix());
    push_call(&mut script, call);
    script.arg(messages.len());
    for message in messages {
        let prefix = prefix_of(message)?;
        records.write_arg_fmt(format_args!("{}m:{}", connector.prefix(), message.id));
        push_slices(
            &mut records,
            std::iter::once(&prefix).chain(&message.content),
        );
        push_tasks(&mut script, message);
    }
    for message in with_chunks(messages) {
        script.write_arg_fmt(message.id);
        script.arg(message.header.body.chunks);
    }
    let mut request = Pipeline::with_capacity(4);
    request
        .cmd("MULTI")
        .add_command(records)
        .add_command(script)
        .cmd("EXEC");
    Ok(request)
}

/// Wait until the replicas have what was written on the same connection before; the last one's reply
/// counts.
fn confirmations(level: Level, patience: Duration) -> Vec<Cmd> {
    let until = |mut command: Cmd, patience: Duration| {
        command.arg(level.acks()).arg(patience.as_millis() as u64);
        command
    };
    match level {
        Level::Memory | Level::Fsync => Vec::new(),
        Level::Replicated { .. } => vec![until(redis::cmd("WAIT"), patience)],
        // A replica that is asked at once has not synced yet, and says so unasked only once a second:
        // it is asked again when it has the write.
        Level::FsyncReplicated { .. } => {
            let mut synced = redis::cmd("WAITAOF");
            synced.arg(1);
            let patience = patience / 2;
            vec![until(redis::cmd("WAIT"), patience), until(synced, patience)]
        }
    }
}

/// The commit is there: what is not confirmed is in doubt, not undone.
fn confirmed(level: Level, reply: Option<Value>) -> Result<(), QueueError> {
    let confirmed = match (level, &reply) {
        (Level::Memory | Level::Fsync, _) => return Ok(()),
        (Level::Replicated { .. }, Some(Value::Int(replicas))) => *replicas,
        (Level::FsyncReplicated { .. }, Some(Value::Array(synced))) => match synced.as_slice() {
            [Value::Int(1), Value::Int(replicas)] => *replicas,
            _ => 0,
        },
        (_, other) => {
            return Err(QueueError::Ambiguous(format!(
                "waiting for replicas answered {other:?}"
            )));
        }
    };
    let acks = level.acks();
    if confirmed >= i64::from(acks) {
        return Ok(());
    }
    Err(QueueError::Ambiguous(format!(
        "{confirmed} of {acks} replicas confirmed in time"
    )))
}

/// Of a record and its key, or a little more.
fn octets_of(message: &NewMessage) -> usize {
    const KEY_AND_HEADER: usize = 1024;
    KEY_AND_HEADER + message.content.iter().map(Bytes::len).sum::<usize>()
}

fn with_chunks(messages: &[NewMessage]) -> impl Iterator<Item = &NewMessage> {
    messages
        .iter()
        .filter(|message| message.header.body.chunks > 0)
}

/// Each element counts: a MULTI whose script failed has still written the records.
fn committed(replies: Vec<Value>, messages: &[NewMessage]) -> Result<Taken<()>, QueueError> {
    let elements = executed(replies)?;
    // Part of it is there.
    let ambiguous = || QueueError::Ambiguous(format!("EXEC answered {elements:?}"));
    match elements.as_slice() {
        [Value::Okay, Value::Int(0)] => Ok(Taken::Ran(())),
        [Value::Okay, Value::Int(1)] => Ok(Taken::Refused),
        [Value::Okay, Value::Int(2)] => Ok(Taken::Reaped),
        [Value::Okay, Value::Int(code)] => {
            let position = usize::try_from(code - 3).ok();
            let incomplete = position.and_then(|position| with_chunks(messages).nth(position));
            Err(match incomplete {
                Some(message) => QueueError::Incomplete(message.id),
                None => ambiguous(),
            })
        }
        _ => Err(ambiguous()),
    }
}

/// What EXEC answered.
pub(super) fn executed(replies: Vec<Value>) -> Result<Vec<Value>, QueueError> {
    // What was refused when it was queued has made EXEC do nothing.
    let mut refused = None;
    for reply in replies {
        match reply {
            Value::Okay | Value::SimpleString(_) => {}
            Value::ServerError(error) => {
                let text = refusal_text(&error);
                let text = text
                    .strip_prefix(EXEC_ABORTED)
                    .map(str::to_owned)
                    .unwrap_or(text);
                refused.get_or_insert(text);
            }
            Value::Array(elements) if refused.is_none() => return Ok(elements),
            other => return Err(QueueError::Ambiguous(format!("EXEC answered {other:?}"))),
        }
    }
    Err(match refused {
        Some(text) => refusal(text),
        None => QueueError::Ambiguous("EXEC gave no answer".into()),
    })
}

/// Whose call it is, of which lane, and its number.
pub(super) fn push_call(command: &mut Cmd, call: Call) {
    command.write_arg_fmt(call.worker);
    command.arg(call.lane).arg(call.n);
}

/// As an argument of the script that settles; small, and refused by no full store.
pub(super) fn push_notification(command: &mut Cmd, message: &NewMessage) -> Result<(), QueueError> {
    let prefix = prefix_of(message)?;
    command.arg(message.header.tasks.len());
    for task in &message.header.tasks {
        command.write_arg_fmt(&task.queue);
    }
    command.write_arg_fmt(message.id);
    push_slices(command, std::iter::once(&prefix).chain(&message.content));
    command.arg(message.header.lifetime_ms);
    Ok(())
}

fn push_tasks(command: &mut Cmd, message: &NewMessage) {
    let header = &message.header;
    command.write_arg_fmt(message.id);
    command.arg(header.lifetime_ms).arg(header.tasks.len());
    for task in &header.tasks {
        command.write_arg_fmt(&task.queue);
    }
}

/// One argument made of slices.
fn push_slices<'a>(command: &mut Cmd, slices: impl Iterator<Item = &'a Bytes>) {
    let mut argument = command.writer_for_next_arg();
    for slice in slices {
        argument
            .write_all(slice)
            .expect("writing to memory cannot fail");
    }
}

fn prefix_of(message: &NewMessage) -> Result<Bytes, QueueError> {
    message
        .prefix()
        .map_err(|error| QueueError::Conflict(format!("{} cannot be stored: {error}", message.id)))
}

/// A client is answered within this, whatever happens.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long replicas may take to confirm.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(5);
const EXEC_ABORTED: &str = "EXECABORT Transaction discarded because of: ";

#[cfg(test)]
mod tests {
    use super::*;

    fn queued() -> Value {
        Value::SimpleString("QUEUED".into())
    }

    fn error(text: &str) -> Value {
        redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap()
    }

    fn executed_with(elements: Vec<Value>) -> Result<Taken<()>, QueueError> {
        let replies = vec![Value::Okay, queued(), queued(), Value::Array(elements)];
        committed(replies, &[])
    }

    #[test]
    fn every_replica_must_have_confirmed() {
        let replicated = |reply| confirmed(Level::Replicated { acks: 2 }, Some(reply)).is_ok();
        assert!(replicated(Value::Int(2)) && replicated(Value::Int(3)));
        assert!(!replicated(Value::Int(1)) && !replicated(error("NOPERM no")));
        let synced = |local, replicas| {
            let reply = Value::Array(vec![Value::Int(local), Value::Int(replicas)]);
            confirmed(Level::FsyncReplicated { acks: 1 }, Some(reply)).is_ok()
        };
        assert!(synced(1, 1) && synced(1, 2));
        assert!(!synced(1, 0) && !synced(0, 1));
        assert!(confirmed(Level::FsyncReplicated { acks: 1 }, None).is_err());
        assert!(confirmed(Level::Fsync, None).is_ok());
    }

    #[test]
    fn only_a_complete_transaction_is_committed() {
        let executed_code = |code| executed_with(vec![Value::Okay, Value::Int(code)]);
        let ran = |code| executed_code(code).unwrap();
        assert_eq!(ran(0), Taken::Ran(()));
        assert_eq!(ran(1), Taken::Refused);
        assert_eq!(ran(2), Taken::Reaped);

        let script_failed = executed_with(vec![Value::Okay, error("ERR user_script:7")]);
        assert!(
            matches!(script_failed, Err(QueueError::Ambiguous(_))),
            "{script_failed:?}"
        );
        let unknown = executed_code(3);
        assert!(
            matches!(unknown, Err(QueueError::Ambiguous(_))),
            "{unknown:?}"
        );
        let cut = committed(vec![Value::Okay, queued(), queued(), Value::Nil], &[]);
        assert!(matches!(cut, Err(QueueError::Ambiguous(_))), "{cut:?}");
    }

    #[test]
    fn a_transaction_refused_when_queued_has_done_nothing() {
        let aborted = "EXECABORT Transaction discarded because of previous errors.";
        let refused = |text: &str| {
            committed(
                vec![Value::Okay, error(text), queued(), error(aborted)],
                &[],
            )
        };
        assert!(matches!(
            refused("OOM command not allowed"),
            Err(QueueError::Full(_))
        ));
        assert!(matches!(
            refused("MISCONF Errors writing"),
            Err(QueueError::NotDurable(_))
        ));
        assert!(matches!(
            refused("READONLY You can't"),
            Err(QueueError::Unreachable(_))
        ));
    }

    #[test]
    fn a_transaction_refused_when_executed_has_done_nothing() {
        let text = "EXECABORT Transaction discarded because of: OOM command not allowed";
        let full = committed(vec![Value::Okay, queued(), queued(), error(text)], &[]);
        assert!(matches!(full, Err(QueueError::Full(_))), "{full:?}");
    }
}
