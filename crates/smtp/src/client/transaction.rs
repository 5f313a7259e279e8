//! A transaction: RSET if need be, MAIL, RCPT for each recipient, DATA, the content, the final dot.
//!
//! Commands are numbered in the order in which they are sent and answered. One cursor tells how many
//! were sent, another how many were answered; with PIPELINING the first runs ahead, without it both
//! move in step, and nothing else differs.

use std::fmt::Write as _;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::Capabilities;
use super::event::{
    Event, FailureCause, Finished, Payload, Phase, RecipientOutcome, Transaction, Violation,
};
use super::session::{Session, State};
use crate::data::{ContentError, Scan};
use crate::reply::{Reply, ReplyCode, Severity};

/// A transaction under way.
#[derive(Debug)]
pub(super) struct Delivery {
    transaction: Transaction,
    /// Steps sent and answered, counted from [`Delivery::first`].
    sent: usize,
    answered: usize,
    /// 0 with RSET in front of MAIL, 1 without.
    first: usize,
    mail_refusal: Option<Reply>,
    /// What each recipient was answered so far; `None` in front of the answer and behind a
    /// positive one.
    refusals: Vec<Option<RecipientOutcome>>,
    accepted: usize,
    stage: Stage,
}

impl Delivery {
    pub(super) fn new(transaction: Transaction, reset: bool) -> Self {
        Self {
            refusals: vec![None; transaction.recipients.len()],
            transaction,
            sent: 0,
            answered: 0,
            first: usize::from(!reset),
            mail_refusal: None,
            accepted: 0,
            stage: Stage::Envelope,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.stage {
            Stage::Envelope => match self.step(self.answered) {
                Step::Rset => Phase::Rset,
                Step::Mail => Phase::Mail,
                Step::Rcpt(_) => Phase::Rcpt,
                Step::Data => Phase::Data,
            },
            Stage::Content { .. } | Stage::DotWithheld => Phase::Content,
            Stage::DotSent => Phase::FinalDot,
            Stage::LoneDotSent => Phase::Data,
        }
    }

    /// Judges a piece of content that is to be sent; false if none is awaited.
    pub(super) fn scan(&mut self, piece: &[u8]) -> Result<bool, ContentError> {
        let Stage::Content { scan, sent } = &mut self.stage else {
            return Ok(false);
        };
        scan.chunk(piece)?;
        *sent += piece.len() as u64;
        Ok(true)
    }

    /// Judges the whole of the content that was sent; false if none is awaited.
    pub(super) fn end_content(&mut self) -> Result<bool, ContentError> {
        let Stage::Content { scan, sent } = &self.stage else {
            return Ok(false);
        };
        let raw_len = sent.saturating_sub(scan.dots);
        if scan.line_is_open()? || raw_len != self.transaction.content.raw_len() {
            return Err(ContentError::Length);
        }
        self.stage = Stage::DotWithheld;
        Ok(true)
    }

    /// Lets the final dot go; false if it is not withheld.
    pub(super) fn release(&mut self) -> bool {
        let withheld = matches!(self.stage, Stage::DotWithheld);
        if withheld {
            self.stage = Stage::DotSent;
        }
        withheld
    }

    /// The outcomes when the session ends here.
    pub(super) fn into_undecided(self) -> Vec<RecipientOutcome> {
        self.into_outcomes(|| RecipientOutcome::Undecided)
    }

    fn into_outcomes(self, rest: impl Fn() -> RecipientOutcome) -> Vec<RecipientOutcome> {
        if let Some(reply) = self.mail_refusal {
            let outcome = RecipientOutcome::Refused {
                phase: Phase::Mail,
                reply,
            };
            return vec![outcome; self.refusals.len()];
        }
        self.refusals
            .into_iter()
            .map(|refusal| refusal.unwrap_or_else(&rest))
            .collect()
    }

    fn step(&self, number: usize) -> Step {
        match number + self.first {
            0 => Step::Rset,
            1 => Step::Mail,
            other if other - 2 < self.refusals.len() => Step::Rcpt(other - 2),
            _ => Step::Data,
        }
    }

    /// Writes the next commands: all with PIPELINING (RFC 2920), one without it.
    fn write_commands(&mut self, capabilities: &Capabilities, out: &mut BytesMut) {
        while capabilities.pipelining || self.sent == self.answered {
            let step = self.step(self.sent);
            self.write_command(step, capabilities, out);
            self.sent += 1;
            if step == Step::Data {
                return;
            }
        }
    }

    fn write_command(&self, step: Step, capabilities: &Capabilities, out: &mut BytesMut) {
        let content = &self.transaction.content;
        // Writing to memory does not fail.
        let _ = match step {
            Step::Rset => out.write_str("RSET"),
            Step::Mail => {
                let _ = write!(out, "MAIL FROM:{}", self.transaction.reverse_path);
                if capabilities.size.is_some() {
                    let _ = write!(out, " SIZE={}", content.raw_len());
                }
                out.write_str(if content.has_8bit() {
                    " BODY=8BITMIME"
                } else {
                    ""
                })
            }
            Step::Rcpt(index) => match self.transaction.recipients.get(index) {
                Some(recipient) => write!(out, "RCPT TO:{recipient}"),
                None => Ok(()),
            },
            Step::Data => out.write_str("DATA"),
        };
        let _ = out.write_str("\r\n");
    }

    /// Whether nobody is left to send the message to.
    fn is_refused(&self) -> bool {
        self.mail_refusal.is_some() || self.accepted == 0
    }
}

impl Session {
    /// Sends what can be sent, and waits for the next answer.
    pub(super) fn continue_transaction(&mut self, now: Instant) {
        let State::Transaction(delivery) = &mut self.state else {
            return;
        };
        if delivery.sent == delivery.answered {
            let mut out = BytesMut::with_capacity(256);
            delivery.write_commands(&self.capabilities, &mut out);
            self.write(out.freeze());
        }
        self.expect_answer(now);
    }

    fn expect_answer(&mut self, now: Instant) {
        let timeouts = self.config.timeouts;
        let timeout = match self.phase() {
            Phase::Rcpt => timeouts.recipient,
            Phase::Data => timeouts.data,
            _ => timeouts.mail,
        };
        self.expect(now, timeout);
    }

    pub(super) fn handle_transaction_reply(&mut self, now: Instant, reply: Reply) {
        let State::Transaction(delivery) = &mut self.state else {
            return;
        };
        match delivery.stage {
            Stage::Envelope => self.handle_envelope_reply(now, reply),
            // A peer that refuses in the middle of the content will not read the rest.
            Stage::Content { .. } | Stage::DotWithheld
                if reply.is_transient() || reply.is_permanent() =>
            {
                self.fail(FailureCause::Refused(reply));
            }
            Stage::DotSent if reply.severity() != Severity::PositiveIntermediate => {
                self.finish(Phase::FinalDot, reply);
            }
            Stage::LoneDotSent => self.finish(Phase::Data, reply),
            Stage::Content { .. } | Stage::DotWithheld | Stage::DotSent => {
                self.violation(Violation::UnexpectedReply)
            }
        }
    }

    fn handle_envelope_reply(&mut self, now: Instant, reply: Reply) {
        let State::Transaction(delivery) = &mut self.state else {
            return;
        };
        let step = delivery.step(delivery.answered);
        let intermediate = reply.severity() == Severity::PositiveIntermediate;
        if intermediate != (step == Step::Data && reply.code() == ReplyCode::START_MAIL_INPUT)
            || (step == Step::Data && reply.is_positive())
        {
            return self.violation(Violation::UnexpectedReply);
        }
        match step {
            Step::Rset if !reply.is_positive() => return self.fail(FailureCause::Refused(reply)),
            Step::Rset => {}
            Step::Mail if !reply.is_positive() => {
                delivery.mail_refusal = Some(reply);
                if delivery.sent == delivery.answered + 1 {
                    return self.finish_refused(false);
                }
            }
            Step::Mail => {}
            Step::Rcpt(_) if reply.is_positive() => delivery.accepted += 1,
            Step::Rcpt(index) => {
                if let Some(refusal) = delivery.refusals.get_mut(index) {
                    *refusal = Some(RecipientOutcome::Refused {
                        phase: Phase::Rcpt,
                        reply,
                    });
                }
            }
            Step::Data => return self.handle_data_reply(now, reply),
        }
        delivery.answered += 1;
        let data_is_next = delivery.step(delivery.answered) == Step::Data;
        if data_is_next && delivery.sent == delivery.answered && delivery.is_refused() {
            return self.finish_refused(true);
        }
        self.continue_transaction(now);
    }

    fn handle_data_reply(&mut self, now: Instant, reply: Reply) {
        let State::Transaction(delivery) = &mut self.state else {
            return;
        };
        if reply.code() != ReplyCode::START_MAIL_INPUT {
            let open = delivery.mail_refusal.is_none();
            self.needs_reset = open;
            return self.finish(Phase::Data, reply);
        }
        if delivery.is_refused() {
            // RFC 2920 §3.1: the peer waits for content although nobody is left. A lone dot brings
            // it back in step, whatever it says to that.
            delivery.stage = Stage::LoneDotSent;
            self.write(Bytes::from_static(b".\r\n"));
            return self.expect(now, self.config.timeouts.final_dot);
        }
        let event = match &mut delivery.transaction.content {
            Payload::Whole(content) => {
                delivery.stage = Stage::DotWithheld;
                for chunk in std::mem::take(content).into_chunks() {
                    self.write(chunk);
                }
                Event::FinalDot
            }
            Payload::Streamed { .. } => {
                delivery.stage = Stage::Content {
                    scan: Scan::default(),
                    sent: 0,
                };
                Event::Content
            }
        };
        self.event(event);
        self.expect(now, self.config.timeouts.content);
    }

    /// Ends a transaction of which DATA was not sent.
    fn finish_refused(&mut self, open: bool) {
        if let State::Transaction(delivery) = std::mem::replace(&mut self.state, State::Ready) {
            self.needs_reset = open;
            let recipients = delivery.into_undecided();
            self.become_ready(Event::Finished(Finished { recipients }));
        }
    }

    /// Ends a transaction with the reply that counts for all recipients that were not refused.
    fn finish(&mut self, phase: Phase, reply: Reply) {
        if let State::Transaction(delivery) = std::mem::replace(&mut self.state, State::Ready) {
            let recipients = delivery.into_outcomes(|| match phase {
                Phase::FinalDot if reply.is_positive() => RecipientOutcome::Accepted(reply.clone()),
                _ => RecipientOutcome::Refused {
                    phase,
                    reply: reply.clone(),
                },
            });
            self.become_ready(Event::Finished(Finished { recipients }));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Rset,
    Mail,
    Rcpt(usize),
    Data,
}

#[derive(Debug)]
enum Stage {
    /// Commands are being answered.
    Envelope,
    /// The content is being put out, piece by piece.
    Content { scan: Scan, sent: u64 },
    /// The content was put out, the line that ends it was not.
    DotWithheld,
    /// All was put out.
    DotSent,
    /// The peer wanted content although every recipient was refused.
    LoneDotSent,
}
