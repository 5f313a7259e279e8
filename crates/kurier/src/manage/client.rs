//! One request and its answer on one connection, as the management API of one's own relay needs it.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

pub(super) struct Client {
    address: String,
}

/// The part of a path after `?`.
#[derive(Clone, Default)]
pub(super) struct Query(String);

impl Query {
    pub(super) fn push(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(name);
        self.0.push('=');
        for octet in value.bytes() {
            if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
                self.0.push(char::from(octet));
            } else {
                // Writing to a string cannot fail.
                let _ = write!(self.0, "%{octet:02X}");
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Client {
    pub(super) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
        }
    }

    pub(super) fn get(&self, path: &str) -> Result<Value> {
        self.json("GET", path, None)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.json("POST", path, Some(body))
    }

    /// Up to `limit` tasks, from as many pages as that takes.
    pub(super) fn list(&self, query: &Query, limit: usize) -> Result<Vec<Value>> {
        let mut tasks = Vec::new();
        let mut cursor: Option<String> = None;
        while tasks.len() < limit {
            let mut query = query.clone();
            let left = limit - tasks.len();
            query.push("limit", &left.min(PAGE).to_string());
            if let Some(cursor) = &cursor {
                query.push("cursor", cursor);
            }
            let mut page = self.get(&format!("/v1/messages{}", query.0))?;
            let Value::Array(found) = page["tasks"].take() else {
                bail!("{} answered without tasks", self.address);
            };
            tasks.extend(found);
            match page["cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => break,
            }
        }
        Ok(tasks)
    }

    /// Copies the body of the answer, which is whole or an error.
    pub(super) fn copy(&self, path: &str, to: &mut dyn Write) -> Result<()> {
        let mut answer = self.ask("GET", path, None)?;
        if !answer.is_good {
            bail!(answer.problem()?);
        }
        let length = answer.length.context("the answer has no length")?;
        let copied = std::io::copy(&mut answer.body, to)?;
        ensure!(copied == length, "{copied} octets of {length} came");
        to.flush()?;
        Ok(())
    }

    fn json(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut answer = self.ask(method, path, body)?;
        if !answer.is_good {
            bail!(answer.problem()?);
        }
        let body = answer.text()?;
        serde_json::from_str(&body).with_context(|| format!("{} answered {body}", self.address))
    }

    /// As HTTP/1.0, so that the answer ends with the connection.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let address = &self.address;
        let context = || format!("{address} is to be the management address of a relay");
        let mut addresses = address.to_socket_addrs().with_context(context)?;
        let socket = addresses.next().with_context(context)?;
        let mut stream = TcpStream::connect_timeout(&socket, CONNECT).with_context(context)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )?;
        Answer::read(BufReader::new(stream)).with_context(|| format!("{method} {path}"))
    }
}

struct Answer {
    is_good: bool,
    length: Option<u64>,
    body: BufReader<TcpStream>,
}

impl Answer {
    fn read(mut stream: BufReader<TcpStream>) -> Result<Self> {
        let mut status = String::new();
        stream.read_line(&mut status)?;
        let code = status.split(' ').nth(1).context("no HTTP answer")?;
        let is_good = code.starts_with('2');
        let mut length = None;
        loop {
            let mut line = String::new();
            ensure!(stream.read_line(&mut line)? > 0, "the answer was cut off");
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse().context("no length")?);
            }
        }
        Ok(Self {
            is_good,
            length,
            body: stream,
        })
    }

    fn text(&mut self) -> Result<String> {
        let mut text = String::new();
        self.body.read_to_string(&mut text)?;
        let complete = self.length.is_none_or(|length| length == text.len() as u64);
        ensure!(complete, "the answer was cut off");
        Ok(text)
    }

    /// What the relay says is wrong.
    fn problem(&mut self) -> Result<String> {
        let text = self.text()?;
        let value: Option<Value> = serde_json::from_str(&text).ok();
        let error = value.and_then(|value| Some(value["error"].as_str()?.to_owned()));
        Ok(error.unwrap_or(text))
    }
}

/// What the relay gives in one answer at most.
const PAGE: usize = 100;
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_written_for_a_path() {
        let mut query = Query::default();
        assert!(query.is_empty());
        query.push("route", "rule:a/b");
        query.push("sender", "<>");
        query.push("lastReply", "é & 1");
        assert_eq!(
            query.0,
            "?route=rule%3Aa%2Fb&sender=%3C%3E&lastReply=%C3%A9%20%26%201"
        );
    }
}
