//! The content of a message, behind DATA.

use std::time::Instant;

use bytes::BytesMut;

use super::event::{Abandonment, Event, Message};
use super::replies;
use super::session::{Question, Session, State};

impl Session {
    /// Reads on in the content; false if its end is not there yet.
    pub(super) fn read_content(&mut self, now: Instant, input: &mut BytesMut) -> bool {
        let State::Content(reader) = &mut self.state else {
            return false;
        };
        match reader.read(input) {
            None => return false,
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
            Some(Err(refusal)) => {
                self.say(replies::data_refusal(refusal));
                self.abandon(Abandonment::Content(refusal));
                self.expect_command(now);
            }
        }
        true
    }
}
