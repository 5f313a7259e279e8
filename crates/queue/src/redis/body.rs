//! Chunks of bodies: `b:<mid>`, written while a message arrives, read while it is delivered. On
//! connections of their own, so that nobody who waits for a beat or an outcome waits behind one.

use bytes::Bytes;
use redis::{Cmd, Pipeline, RedisWrite as _, Value};

use super::Redis;
use super::reply::unexpected;
use super::script::Script;
use super::store::executed;
use crate::id::MessageId;
use crate::operation::STAGED_FOR;
use crate::queue::QueueError;

impl Redis {
    /// `MULTI; HSET; PEXPIRE; EXEC`: no chunk without an end, whenever this process ends. Not by a
    /// script, which would hold everybody up for as long as it takes to copy it.
    pub(super) async fn write_chunk(
        &self,
        message: MessageId,
        number: u32,
        chunk: &[u8],
    ) -> Result<(), QueueError> {
        let key = self.body_key(message);
        let mut set = Cmd::with_capacity(4, key.len() + chunk.len() + 16);
        set.arg("HSET").arg(&key).arg(number).arg(chunk);
        let mut request = Pipeline::with_capacity(4);
        request.cmd("MULTI").add_command(set);
        request
            .cmd("PEXPIRE")
            .arg(&key)
            .arg(STAGED_FOR.as_millis() as u64)
            .cmd("EXEC");
        let mut taken = self.bulk.take().await?;
        let replies = taken.exchange(&request).await?;
        match executed(replies) {
            Ok(elements) if matches!(elements.as_slice(), [Value::Int(_), Value::Int(1)]) => {
                taken.put_back();
                Ok(())
            }
            Ok(other) => Err(QueueError::Ambiguous(format!("EXEC answered {other:?}"))),
            Err(error) => {
                taken.suspect();
                Err(error)
            }
        }
    }

    pub(super) async fn drop_chunks(&self, message: MessageId) -> Result<(), QueueError> {
        let mut call = self.bulk.call(Script::Unstage);
        call.write_arg_fmt(message);
        match self.bulk.run(call).await? {
            Value::Int(_) => Ok(()),
            other => Err(unexpected("unstage", &other)),
        }
    }

    pub(super) async fn get_chunk(
        &self,
        message: MessageId,
        number: u32,
    ) -> Result<Option<Bytes>, QueueError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.body_key(message)).arg(number);
        match self.bulk.run(command).await? {
            Value::BulkString(octets) => Ok(Some(octets.into())),
            Value::Nil => Ok(None),
            other => Err(unexpected("HGET", &other)),
        }
    }

    fn body_key(&self, message: MessageId) -> String {
        format!("{}b:{message}", self.connector.prefix())
    }
}
