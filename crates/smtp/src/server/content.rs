//! The content of a message, behind DATA: handed over whole, or in parts if it is large.

use std::time::Instant;

use bytes::BytesMut;

use super::event::{Abandonment, Event, LargeMessage, Message};
use super::replies;
use super::session::{Question, Session, State};
use crate::data::{DataLimits, DataReader};
use crate::reply::{Reply, ReplyCode};

/// Content that is being read.
#[derive(Debug)]
pub(super) struct Incoming {
    reader: DataReader,
    /// What the client hears at the end, whatever else comes.
    verdict: Option<Reply>,
}

impl Incoming {
    pub(super) fn new(limits: DataLimits) -> Self {
        Self {
            reader: DataReader::new(limits),
            verdict: None,
        }
    }
}

impl Session {
    /// Reads on in the content; false if more of it has to come first.
    pub(super) fn read_content(&mut self, now: Instant, input: &mut BytesMut) -> bool {
        let State::Content(incoming) = &mut self.state else {
            return false;
        };
        let read = incoming.reader.read(input);
        let in_parts = incoming.reader.is_in_parts();
        match read {
            None if incoming.reader.held() <= self.config.max_part_size => return false,
            None => self.hand_over(false),
            Some(Err(refusal)) => {
                self.say(replies::data_refusal(refusal));
                self.abandon(Abandonment::Content(refusal));
                self.expect_command(now);
            }
            Some(Ok(_)) if incoming.verdict.is_some() => {
                if let Some(reply) = incoming.verdict.take() {
                    self.say_reply(&reply);
                }
                self.abandon(Abandonment::Answered);
                self.expect_command(now);
            }
            Some(Ok(_)) if in_parts => self.hand_over(true),
            Some(Ok(content)) => {
                if let Some(transaction) = self.transaction.take() {
                    let message = Message {
                        reverse_path: transaction.reverse_path,
                        parameters: transaction.parameters,
                        forward_paths: transaction.forward_paths,
                        content,
                    };
                    self.ask(now, Event::Message(message), Question::Message);
                }
            }
        }
        true
    }

    /// The deadline stays: it is that of the whole content.
    fn hand_over(&mut self, ended: bool) {
        if let State::Content(mut incoming) = std::mem::replace(&mut self.state, State::Command) {
            let part = incoming.reader.take_part();
            self.events.push_back(Event::Content(part));
            self.state = State::Answer(Question::Content { incoming, ended });
        }
    }

    /// Takes the answer to a part, of which the client hears nothing yet.
    pub(super) fn part_answered(
        &mut self,
        now: Instant,
        mut incoming: Incoming,
        ended: bool,
        reply: Option<&Reply>,
    ) {
        match reply {
            Some(reply) if reply.code() == ReplyCode::SERVICE_NOT_AVAILABLE => {
                self.say_reply(reply);
                self.close(Abandonment::Refused);
            }
            Some(reply) if ended => {
                self.say_reply(reply);
                self.abandon(Abandonment::Answered);
                self.expect_command(now);
            }
            Some(reply) => {
                incoming.verdict = Some(reply.clone());
                incoming.reader.discard();
                self.state = State::Content(incoming);
            }
            None if ended => {
                if let Some(transaction) = self.transaction.take() {
                    let message = LargeMessage {
                        reverse_path: transaction.reverse_path,
                        parameters: transaction.parameters,
                        forward_paths: transaction.forward_paths,
                    };
                    self.ask(now, Event::LargeMessage(message), Question::Message);
                }
            }
            None => self.state = State::Content(incoming),
        }
    }
}
