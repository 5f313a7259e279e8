use std::time::{Duration, Instant};

use bytes::BytesMut;
use smtp::client::{
    ClearTextAuthentication, Config, Event, Output, RecipientOutcome, Session, Tls, Transaction,
};
use smtp::{Content, Credentials, Secret};

use super::{Input, compare, epoch, parse, pieces, push_lines, unescape};

pub(super) fn check(text: &str, cut: usize) -> Result<(), String> {
    let (settings, steps) = parse(text, 'S');
    let mut run = Run {
        now: epoch(),
        session: Session::new(configure(&settings), epoch()),
        withholds: settings.contains(&"withhold"),
        happened: Vec::new(),
        open: String::new(),
    };
    for step in steps {
        let now = run.now;
        match &step.input {
            Input::Octets(octets) => pieces(octets, cut, |buffer: &mut BytesMut| {
                run.session.handle_input(now, buffer);
                run.poll();
            }),
            Input::Happens(what) => match what.as_str() {
                "tls" => run.session.handle_tls_established(now),
                "tls-failed" => run.session.handle_tls_failed(now),
                "closed" => run.session.handle_closed(now),
                other => panic!("cannot happen: {other}"),
            },
            Input::Command(command) => run.command(command),
            Input::Seconds(seconds) => {
                run.now += Duration::from_secs(*seconds);
                run.session.handle_timeout(run.now);
            }
            Input::Nothing => {}
        }
        run.poll();
        compare(&step, &std::mem::take(&mut run.happened))?;
    }
    Ok(())
}

struct Run {
    now: Instant,
    session: Session,
    withholds: bool,
    happened: Vec<String>,
    open: String,
}

impl Run {
    fn command(&mut self, command: &str) {
        if command == "quit" {
            return self.session.quit(self.now);
        }
        let envelope = command.strip_prefix("send ").unwrap();
        let (envelope, raw) = envelope.split_once(" | ").unwrap();
        let mut paths = envelope.split(' ');
        let transaction = Transaction {
            reverse_path: paths.next().unwrap().parse().unwrap(),
            recipients: paths.map(|path| path.parse().unwrap()).collect(),
            content: Content::from_raw(&unescape(raw)).unwrap().into(),
        };
        if let Err(error) = self.session.send(self.now, transaction) {
            self.happened.push(format!("E: {error}"));
        }
    }

    fn poll(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Write(octets) => {
                    push_lines(&mut self.happened, &mut self.open, 'C', &octets);
                }
                Output::StartTls => self.happened.push("E: handshake".to_owned()),
                Output::Event(event) => self.event(&event),
                Output::Close => self.happened.push("C. closed".to_owned()),
            }
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Ready(_) => self.happened.push("E: ready".to_owned()),
            Event::FinalDot if self.withholds => self.session.withhold(self.now),
            Event::FinalDot => self.session.release_final_dot(self.now),
            Event::Finished(finished) => {
                self.happened
                    .extend(finished.recipients.iter().map(describe));
            }
            Event::Failed(failure) => {
                let doubt = if failure.is_in_doubt() {
                    " in doubt"
                } else {
                    ""
                };
                self.happened.push(format!("E: failed{doubt}: {failure}"));
                self.happened
                    .extend(failure.recipients.iter().map(describe));
            }
            other => panic!("an event without a line: {other:?}"),
        }
    }
}

fn describe(outcome: &RecipientOutcome) -> String {
    match outcome {
        RecipientOutcome::Accepted(reply) => format!("E: accepted {reply}"),
        RecipientOutcome::Refused { phase, reply } => format!("E: refused {phase}: {reply}"),
        RecipientOutcome::Unsendable(why) => format!("E: unsendable {}: {why}", why.status()),
        RecipientOutcome::Undecided => "E: undecided".to_owned(),
        other => panic!("an outcome without a line: {other:?}"),
    }
}

fn configure(settings: &[&str]) -> Config {
    let mut config = Config::new("client.example.org".parse().unwrap());
    for setting in settings {
        match *setting {
            "clear-text" => config.clear_text_authentication = ClearTextAuthentication::Allowed,
            "credentials" => {
                config.credentials = Some(Credentials {
                    authorization_identity: None,
                    authentication_identity: "somebody".to_owned(),
                    secret: Secret::new("open sesame"),
                });
            }
            "tls disabled" => config.tls = Tls::Disabled,
            "tls implicit" => config.tls = Tls::Implicit,
            "tls required" => config.tls = Tls::Required,
            "whole" | "withhold" => {}
            other => panic!("no such setting: {other}"),
        }
    }
    config
}
