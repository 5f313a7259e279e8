//! What a message becomes before it is queued: its trace fields, its id, its tasks, its hash. No
//! octet of a message that is held whole is copied; what is put in front is one more slice. Of a large
//! one the trace fields are made when the first part of it has come, everything else at its end.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use bytes::Bytes;
use config::listener::Role;
use jiff::Timestamp;
use message::{HeaderSection, Received, TooManyHops, trace_fields};
use queue::id::{MessageId, QueueId};
use queue::record::{Body, Header, NewMessage, Recipient, Task};
use smtp::server::{LargeMessage, Message};
use smtp::{Content, Domain, ForwardPath, MailParameters, ReversePath};
use telemetry::TraceContext;

use super::Said;
use crate::active::Active;
use crate::admission::Standing;
use crate::body::describe;
use crate::listener::TlsParameters;
use crate::routing::Routes;

/// How a message came.
pub(super) struct Envelope<'a> {
    pub(super) client: IpAddr,
    pub(super) tls: Option<TlsParameters>,
    pub(super) said: Said<'a>,
    pub(super) active: &'a Active,
    pub(super) standing: &'a Standing,
    pub(super) role: Role,
    pub(super) pod_name: &'a str,
    pub(super) received: Timestamp,
}

/// A message that is ready to be queued.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) message: NewMessage,
    /// The sender's trace, which the message says it is part of. Whoever may relay is trusted with
    /// that.
    pub(super) parent: Option<TraceContext>,
    pub(super) message_id: Option<String>,
    pub(super) reverse_path: ReversePath,
    pub(super) recipients: usize,
}

/// What is known of a message from its header section.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) id: MessageId,
    /// To be put in front.
    pub(super) trace: Content,
    parent: Option<TraceContext>,
    message_id: Option<String>,
}

/// Of content whose header section is in `content`; the rest may be missing.
///
/// # Errors
/// [`TooManyHops`] when the message loops.
pub(super) fn head(
    content: &Content,
    recipients: &[ForwardPath],
    envelope: &Envelope<'_>,
) -> Result<Head, TooManyHops> {
    let header = HeaderSection::scan(content);
    header.check_hops()?;
    let id = new_id(envelope.received);
    Ok(Head {
        id,
        trace: trace(id, &header, recipients, envelope),
        parent: header
            .traceparent()
            .and_then(TraceContext::from_traceparent),
        message_id: header.message_id().map(str::to_owned),
    })
}

/// # Errors
/// As [`head`].
pub(super) fn take_in(message: Message, envelope: &Envelope<'_>) -> Result<Intake, TooManyHops> {
    let mut content = message.content;
    let mut head = head(&content, &message.forward_paths, envelope)?;
    content.prepend(std::mem::take(&mut head.trace));
    let body = describe(&content);
    let message = LargeMessage {
        reverse_path: message.reverse_path,
        parameters: message.parameters,
        forward_paths: message.forward_paths,
    };
    Ok(complete(
        message,
        head,
        body,
        content.into_chunks(),
        envelope,
    ))
}

/// A message whose content has been put aside, and what is known of it.
pub(super) fn take_in_large(
    message: LargeMessage,
    head: Head,
    body: Body,
    envelope: &Envelope<'_>,
) -> Intake {
    complete(message, head, body, Vec::new(), envelope)
}

fn complete(
    message: LargeMessage,
    head: Head,
    mut body: Body,
    content: Vec<Bytes>,
    envelope: &Envelope<'_>,
) -> Intake {
    // Of a large message only what it holds counts: nobody looks at all of it again before it is sent.
    body.eight_bit |= body.chunks == 0 && is_declared_8bit(&message.parameters);
    let config = &envelope.active.loaded.config;
    let tenant = envelope.standing.tenant(envelope.active);
    let header_of_record = Header {
        reverse_path: message
            .reverse_path
            .mailbox()
            .map(ToString::to_string)
            .unwrap_or_default(),
        tenant: tenant.to_owned(),
        received_unix_ms: u64::try_from(envelope.received.as_millisecond()).unwrap_or(0),
        lifetime_ms: u64::try_from(config.queue.lifetime.as_millis()).unwrap_or(u64::MAX),
        trace: None,
        accepted_by: envelope.pod_name.to_owned(),
        tasks: tasks(
            &message.forward_paths,
            &envelope.active.routes,
            tenant,
            || &envelope.active.hostname,
        ),
        body,
    };
    Intake {
        message: NewMessage {
            id: head.id,
            header: header_of_record,
            content,
        },
        parent: head.parent,
        message_id: head.message_id,
        recipients: message.forward_paths.len(),
        reverse_path: message.reverse_path,
    }
}

fn is_declared_8bit(parameters: &MailParameters) -> bool {
    parameters.body == Some(smtp::Body::EightBitMime)
}

/// One task for each recipient domain: policies, certificate names and routes are a domain's, and
/// receivers refuse transactions over several. A recipient named twice gets one copy.
fn tasks<'a>(
    forward_paths: &[ForwardPath],
    routes: &Routes,
    tenant: &str,
    hostname: impl Fn() -> &'a Domain,
) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    let mut by_domain: HashMap<String, usize> = HashMap::new();
    let mut seen = HashSet::new();
    for path in forward_paths {
        // RFC 5321 §4.5.1: Postmaster without a domain is the one of this host.
        let (address, domain) = match path {
            ForwardPath::Mailbox(mailbox) => (mailbox.to_string(), mailbox.host().to_string()),
            ForwardPath::Postmaster => {
                let hostname = hostname().to_string();
                (format!("postmaster@{hostname}"), hostname)
            }
        };
        if forward_paths.len() > 1 && !seen.insert(address.clone()) {
            continue;
        }
        let index = *by_domain.entry(domain).or_insert_with_key(|domain| {
            let queue = QueueId {
                tenant: tenant.to_owned(),
                class: String::new(),
                egress: String::new(),
                route: routes.route(domain),
            };
            tasks.push(Task {
                queue,
                recipients: Vec::new(),
            });
            tasks.len() - 1
        });
        tasks[index].recipients.push(Recipient { address });
    }
    tasks
}

fn trace(
    id: MessageId,
    header: &HeaderSection,
    recipients: &[ForwardPath],
    envelope: &Envelope<'_>,
) -> Content {
    let id = id.to_string();
    let received = Received {
        helo: envelope.said.helo,
        client: envelope.client,
        by: &envelope.active.hostname,
        protocol: envelope.said.protocol,
        tls: envelope.tls.map(|tls| message::Tls {
            version: tls.version_name(),
            cipher: tls.cipher,
        }),
        id: &id,
        recipients,
        at: envelope.received,
    };
    let role = match envelope.role {
        Role::Relay => message::Role::Relay,
        Role::Submission => message::Role::Submission,
    };
    trace_fields(&received, header, role)
}

fn new_id(received: Timestamp) -> MessageId {
    let mut random = [0; 10];
    aws_lc_rs::rand::fill(&mut random).expect("the system's random source works");
    MessageId::new(
        u64::try_from(received.as_millisecond()).unwrap_or(0),
        random,
    )
}

#[cfg(test)]
mod tests {
    use config::route::{Action, Match, Route, Rule, Smarthost};

    use super::*;

    fn paths(paths: &[&str]) -> Vec<ForwardPath> {
        paths.iter().map(|path| path.parse().unwrap()).collect()
    }

    #[test]
    fn one_task_for_each_domain() {
        let smarthost = Smarthost {
            host: "host".to_owned(),
            port: 25,
            tls: config::delivery::NextHopTls::Opportunistic,
        };
        let rule = Rule {
            name: "r".to_owned(),
            r#match: Match {
                recipient_domains: vec!["*.corp.example".parse().unwrap()],
            },
            action: Action::Smarthost(smarthost),
            limits: None,
        };
        let routes = Routes::new(&[Route {
            name: "corp".to_owned(),
            priority: 0,
            rules: vec![rule],
        }]);
        let hostname = Domain::parse("mail.example.com").unwrap();
        let recipients = paths(&[
            "<a@one.example>",
            "<b@x.corp.example>",
            "<c@ONE.example>",
            "<a@one.example>",
            "<A@one.example>",
            "<d@y.corp.example>",
            "<postmaster>",
            "<e@[192.0.2.1]>",
        ]);
        let tasks = tasks(&recipients, &routes, "shop", || &hostname);
        let told: Vec<_> = tasks
            .iter()
            .map(|task| {
                let recipients: Vec<_> =
                    task.recipients.iter().map(|r| r.address.as_str()).collect();
                (task.queue.route.as_str(), recipients)
            })
            .collect();
        assert_eq!(
            told,
            [
                (
                    "mx:one.example",
                    vec!["a@one.example", "c@one.example", "A@one.example"]
                ),
                ("rule:corp/r", vec!["b@x.corp.example"]),
                ("rule:corp/r", vec!["d@y.corp.example"]),
                ("mx:mail.example.com", vec!["postmaster@mail.example.com"]),
                ("mx:[192.0.2.1]", vec!["e@[192.0.2.1]"]),
            ]
        );
        assert!(tasks.iter().all(|task| task.queue.tenant == "shop"));
    }
}
