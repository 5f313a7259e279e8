//! Records in and out: `m:<mid>`, written by the MULTI that enqueues, read as a whole.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::pool::{Connector, refusal};
use super::resp::{Command, Reply, Request};
use super::script::ENQUEUE;
use super::{Redis, durability};
use crate::durability::Durability;
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
        let request = commit_request(&self.connector, call, messages)?;
        let deadline = Instant::now() + COMMIT_TIMEOUT;
        let taken = timeout_at(deadline, self.take_durable()).await;
        let mut taken = taken.unwrap_or_else(|_| {
            Err(QueueError::Unreachable(
                "no connection to commit on in time".into(),
            ))
        })?;
        let replies = taken
            .connection
            .exchange(request, deadline.min(self.commits.deadline()))
            .await?;
        let outcome = committed(replies);
        // After anything unusual the next commit starts on a connection known to be clean.
        if outcome.is_ok() {
            taken.put_back();
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
                verified.judge(&durability::ask(&mut taken.connection, deadline).await?)
            }
        };
        match durability {
            Durability::Fsync => Ok(taken),
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
        let mut command = Command::new("MGET");
        for message in messages {
            command.written(format_args!("{}m:{message}", self.connector.prefix()));
        }
        let reply = self.reads.read(Request::of(command)).await?.pop();
        let Some(Reply::Array(values)) = reply else {
            return Err(QueueError::Protocol(format!("MGET answered {reply:?}")));
        };
        values
            .into_iter()
            .map(|value| match value {
                Reply::Bulk(octets) => Ok(Some(Record::decode(octets))),
                Reply::Nil => Ok(None),
                other => Err(QueueError::Protocol(format!("MGET answered {other:?}"))),
            })
            .collect()
    }
}

fn commit_request(
    connector: &Connector,
    call: Call,
    messages: &[NewMessage],
) -> Result<Request, QueueError> {
    let mut records = Command::new("MSET");
    let mut script = Command::new("EVAL");
    script
        .arg(ENQUEUE.as_str())
        .arg("1")
        .arg(connector.prefix());
    script
        .written(call.worker)
        .written(call.lane)
        .written(call.n)
        .written(messages.len());
    for message in messages {
        let prefix = prefix_of(message)?;
        records.written(format_args!("{}m:{}", connector.prefix(), message.id));
        records.slices(std::iter::once(&prefix).chain(&message.content));
        push_tasks(&mut script, message);
    }
    let mut request = Request::of(Command::new("MULTI"));
    request.push(records);
    request.push(script);
    request.push(Command::new("EXEC"));
    Ok(request)
}

/// Each element counts: a MULTI whose script failed has still written the records.
fn committed(replies: Vec<Reply>) -> Result<Taken<()>, QueueError> {
    // What was refused when it was queued has made EXEC do nothing.
    let mut refused = None;
    for reply in replies {
        match reply {
            Reply::Status(_) => {}
            Reply::Error(text) => {
                let text = text
                    .strip_prefix(EXEC_ABORTED)
                    .map(str::to_owned)
                    .unwrap_or(text);
                refused.get_or_insert(text);
            }
            Reply::Array(elements) if refused.is_none() => {
                return match elements.as_slice() {
                    [Reply::Status(_), Reply::Integer(0)] => Ok(Taken::Ran(())),
                    [Reply::Status(_), Reply::Integer(1)] => Ok(Taken::Refused),
                    [Reply::Status(_), Reply::Integer(2)] => Ok(Taken::Reaped),
                    // Part of it is there.
                    other => Err(QueueError::Ambiguous(format!("EXEC answered {other:?}"))),
                };
            }
            other => return Err(QueueError::Ambiguous(format!("EXEC answered {other:?}"))),
        }
    }
    Err(match refused {
        Some(text) => refusal(text),
        None => QueueError::Ambiguous("EXEC gave no answer".into()),
    })
}

/// As an argument of the script that settles; small, and refused by no full store.
pub(super) fn push_notification(
    arguments: &mut Command,
    message: &NewMessage,
) -> Result<(), QueueError> {
    let prefix = prefix_of(message)?;
    arguments.written(message.header.tasks.len());
    for task in &message.header.tasks {
        arguments.written(&task.queue);
    }
    arguments.written(message.id);
    arguments.slices(std::iter::once(&prefix).chain(&message.content));
    arguments.written(message.header.lifetime_ms);
    Ok(())
}

fn push_tasks(arguments: &mut Command, message: &NewMessage) {
    let header = &message.header;
    arguments
        .written(message.id)
        .written(header.lifetime_ms)
        .written(header.tasks.len());
    for task in &header.tasks {
        arguments.written(&task.queue);
    }
}

fn prefix_of(message: &NewMessage) -> Result<Bytes, QueueError> {
    message
        .prefix()
        .map_err(|error| QueueError::Conflict(format!("{} cannot be stored: {error}", message.id)))
}

/// A client is answered within this, whatever happens.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
const EXEC_ABORTED: &str = "EXECABORT Transaction discarded because of: ";

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &'static str) -> Reply {
        Reply::Status(Bytes::from(text))
    }

    fn executed(elements: Vec<Reply>) -> Result<Taken<()>, QueueError> {
        committed(vec![
            status("OK"),
            status("QUEUED"),
            status("QUEUED"),
            Reply::Array(elements),
        ])
    }

    #[test]
    fn only_a_complete_transaction_is_committed() {
        let ran = |code| executed(vec![status("OK"), Reply::Integer(code)]).unwrap();
        assert_eq!(ran(0), Taken::Ran(()));
        assert_eq!(ran(1), Taken::Refused);
        assert_eq!(ran(2), Taken::Reaped);

        let script_failed = executed(vec![status("OK"), Reply::Error("ERR user_script:7".into())]);
        assert!(
            matches!(script_failed, Err(QueueError::Ambiguous(_))),
            "{script_failed:?}"
        );
        let cut = committed(vec![
            status("OK"),
            status("QUEUED"),
            status("QUEUED"),
            Reply::Nil,
        ]);
        assert!(matches!(cut, Err(QueueError::Ambiguous(_))), "{cut:?}");
    }

    #[test]
    fn a_transaction_refused_when_queued_has_done_nothing() {
        let aborted = "EXECABORT Transaction discarded because of previous errors.";
        let refused = |text: &str| {
            committed(vec![
                status("OK"),
                Reply::Error(text.into()),
                status("QUEUED"),
                Reply::Error(aborted.into()),
            ])
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
        let full = committed(vec![
            status("OK"),
            status("QUEUED"),
            status("QUEUED"),
            Reply::Error(text.into()),
        ]);
        assert!(matches!(full, Err(QueueError::Full(_))), "{full:?}");
    }
}
