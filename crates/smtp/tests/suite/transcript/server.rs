use std::sync::Arc;
use std::time::{Duration, Instant};

use smtp::server::{
    Authentication, ClearTextAuthentication, Config, ConnectionSecurity, Event, Output, Session,
    StartTls,
};
use smtp::{EnhancedStatus, ForwardPath, Reply, ReplyCode};

use super::{Input, compare, epoch, parse, pieces, push_lines};

pub(super) fn check(text: &str, cut: usize) -> Result<(), String> {
    let (settings, steps) = parse(text, 'C');
    let (config, security) = configure(&settings);
    let mut run = Run {
        now: epoch(),
        session: Session::new(Arc::new(config), epoch(), security),
        happened: Vec::new(),
        open: String::new(),
    };
    let mut steps = steps.into_iter();
    if !settings.contains(&"early") {
        run.poll(&mut bytes::BytesMut::new());
        compare(&steps.next().unwrap(), &std::mem::take(&mut run.happened))?;
    } else {
        steps.next();
    }
    for step in steps {
        let now = run.now;
        match &step.input {
            Input::Octets(octets) => pieces(octets, cut, |buffer| {
                run.session.handle_input(now, buffer);
                run.poll(buffer);
            }),
            Input::Happens(what) => match what.as_str() {
                "tls" => run.session.handle_tls_established(now),
                "shutdown" => run.session.handle_shutdown(now),
                "closed" => run.session.handle_closed(now),
                other => panic!("cannot happen: {other}"),
            },
            Input::Seconds(seconds) => {
                run.now += Duration::from_secs(*seconds);
                run.session.handle_timeout(run.now);
            }
            Input::Command(_) | Input::Nothing => panic!("not in a transcript of a server"),
        }
        run.poll(&mut bytes::BytesMut::new());
        compare(&step, &std::mem::take(&mut run.happened))?;
    }
    Ok(())
}

struct Run {
    now: Instant,
    session: Session,
    happened: Vec<String>,
    open: String,
}

impl Run {
    fn poll(&mut self, buffer: &mut bytes::BytesMut) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Event(event) => {
                    self.happened
                        .extend(describe(&event).map(|line| line.trim_end().to_owned()));
                    self.answer(&event);
                    self.session.handle_input(self.now, buffer);
                }
                Output::Write(octets) => {
                    push_lines(&mut self.happened, &mut self.open, 'S', &octets);
                }
                Output::StartTls => self.happened.push("E: handshake".to_owned()),
                Output::Close => self.happened.push("S. closed".to_owned()),
            }
        }
    }

    /// The policy of all transcripts: names say what becomes of them.
    fn answer(&mut self, event: &Event) {
        let refuse = |code: u16, status, text: &'static str| {
            Some(Reply::new(
                ReplyCode::new(code).unwrap(),
                Some(status),
                text,
            ))
        };
        let name = |path: &ForwardPath| path.mailbox().map(|m| m.local_part().to_string());
        let reply = match event {
            Event::Authenticate(request) => {
                if request.credentials.secret.expose() == "open sesame" {
                    let identity = request.credentials.authentication_identity.clone();
                    self.session.authentication_accepted(self.now, identity);
                } else {
                    let status = EnhancedStatus::permanent(7, 8);
                    let reply = Reply::new(ReplyCode::AUTH_FAILED, Some(status), "wrong");
                    self.session.authentication_refused(self.now, &reply);
                }
                return;
            }
            Event::Mail(request) if request.reverse_path.to_string().starts_with("<refused@") => {
                refuse(550, EnhancedStatus::permanent(7, 1), "sender refused")
            }
            Event::Recipient { forward_path, .. } => match name(forward_path).as_deref() {
                Some("refused") => refuse(550, EnhancedStatus::permanent(1, 1), "no such user"),
                Some("later") => refuse(451, EnhancedStatus::transient(3, 0), "try later"),
                Some("leave") => refuse(421, EnhancedStatus::transient(7, 0), "go away"),
                _ => None,
            },
            Event::Message(message) if message.content.to_raw().starts_with(b"X-Full:") => {
                refuse(452, EnhancedStatus::transient(3, 1), "queue full")
            }
            Event::Data
                if self
                    .session
                    .helo_name()
                    .is_some_and(|n| n.as_str() == "no-data") =>
            {
                refuse(451, EnhancedStatus::transient(3, 0), "not now")
            }
            _ => None,
        };
        match reply {
            Some(reply) => self.session.answer(self.now, &reply),
            None => self.session.accept(self.now),
        }
    }
}

fn configure(settings: &[&str]) -> (Config, ConnectionSecurity) {
    let mut config = Config::new("relay.example.net".parse().unwrap());
    config.max_message_size = 1000;
    let mut security = ConnectionSecurity::Clear;
    for setting in settings {
        let (name, value) = setting.split_once(' ').unwrap_or((setting, ""));
        match name {
            "auth" => config.authentication = Authentication::Offered,
            "auth-required" => config.authentication = Authentication::Required,
            "clear-text" => config.clear_text_authentication = ClearTextAuthentication::Allowed,
            "early" | "whole" => {}
            "recipients" => config.max_recipients = value.parse().unwrap(),
            "starttls" => config.starttls = StartTls::Offered,
            "starttls-required" => config.starttls = StartTls::Required,
            "tls" => security = ConnectionSecurity::Tls,
            other => panic!("no such setting: {other}"),
        }
    }
    (config, security)
}

/// The events worth a line; the others show in the replies.
fn describe(event: &Event) -> Option<String> {
    match event {
        Event::Abandoned(why) => Some(format!("E: abandoned {why:?}")),
        Event::Authenticate(request) => Some(format!(
            "E: authenticate {} {} for {}",
            request.mechanism,
            request.credentials.authentication_identity,
            request
                .credentials
                .authorization_identity
                .as_deref()
                .unwrap_or("itself"),
        )),
        Event::Message(message) => {
            let paths: String = message
                .forward_paths
                .iter()
                .map(|p| format!(" {p}"))
                .collect();
            let raw = message.content.to_raw();
            assert_eq!(raw.len() as u64, message.content.raw_len());
            let parameters = &message.parameters;
            let from = &message.reverse_path;
            Some(format!(
                "E: message {from}{parameters} ->{paths} {}",
                raw.escape_ascii()
            ))
        }
        _ => None,
    }
}
