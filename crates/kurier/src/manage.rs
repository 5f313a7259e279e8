//! `kurier queue`: mail in the queue of a running relay, by its management API.

mod client;
mod table;

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use self::client::{Client, Query};

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The relay's management address; in a cluster forward port 8025 of one of its pods to it
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        env = "KURIER_MANAGEMENT",
        default_value = "127.0.0.1:8025"
    )]
    server: String,
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Output {
    Json,
    Table,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List tasks: of each message one for each domain of its recipients
    List {
        #[command(flatten)]
        filter: Filter,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show everything that is known of a message
    Show { id: String },
    /// Write a message to a file, as it will be sent
    Export {
        id: String,
        /// Where to; standard output where nothing is said
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Try now what waits for a later attempt
    Retry(Selection),
    /// Keep from being attempted, until it is released
    Hold(Selection),
    /// Let what is held go on
    Release(Selection),
    /// Take out of the queue for good
    Drop {
        #[command(flatten)]
        selection: Selection,
        /// Tell the senders that it will not be delivered
        #[arg(long)]
        notify: bool,
        /// Drop all that are found by options, and not named one by one
        #[arg(long)]
        yes: bool,
    },
}

/// Which tasks are meant. All of what is said must be so.
#[derive(Args, Debug)]
struct Filter {
    #[arg(long, value_enum)]
    place: Option<Place>,
    #[arg(long)]
    tenant: Option<String>,
    /// As a list shows it: mx:DOMAIN or rule:ROUTE/RULE
    #[arg(long)]
    route: Option<String>,
    /// An address, a domain, or `<>`
    #[arg(long)]
    sender: Option<String>,
    /// An address or a domain
    #[arg(long)]
    recipient: Option<String>,
    /// In the queue for longer than this, as 1h30m
    #[arg(long, value_name = "DURATION")]
    older_than: Option<String>,
    #[arg(long, value_name = "DURATION")]
    younger_than: Option<String>,
    /// A part of what a next hop said last
    #[arg(long, value_name = "TEXT")]
    last_reply: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Place {
    Deferred,
    Held,
    InFlight,
    Ready,
}

#[derive(Args, Debug)]
struct Selection {
    /// Messages or single tasks
    #[arg(value_name = "ID", conflicts_with_all = FILTERS)]
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// Why; it stands in the relay's audit log
    #[arg(long)]
    reason: Option<String>,
    /// Who, for the relay's audit log
    #[arg(long, env = "USER")]
    user: Option<String>,
}

const FILTERS: [&str; 8] = [
    "place",
    "tenant",
    "route",
    "sender",
    "recipient",
    "older_than",
    "younger_than",
    "last_reply",
];

/// Fails when something was not done that was asked for.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let client = Client::new(&arguments.server);
    let show = |value: &Value, table: fn(&mut dyn Write, &Value) -> io::Result<()>| {
        let mut out = io::stdout().lock();
        match arguments.output {
            Output::Json => writeln!(out, "{value:#}"),
            Output::Table => table(&mut out, value),
        }
    };
    match &arguments.command {
        Command::List { filter, limit } => {
            let tasks = client.list(&filter.query(), *limit)?;
            show(&json!({ "tasks": tasks }), table::tasks)?;
        }
        Command::Show { id } => show(&client.get(&format!("/v1/messages/{id}"))?, table::message)?,
        Command::Export { id, to } => export(&client, id, to.as_deref())?,
        Command::Retry(selection) => return act(&client, "retry", selection, false, show),
        Command::Hold(selection) => return act(&client, "hold", selection, false, show),
        Command::Release(selection) => return act(&client, "release", selection, false, show),
        Command::Drop {
            selection,
            notify,
            yes,
        } => {
            ensure!(
                *yes || !selection.ids.is_empty(),
                "this drops all that are found: say --yes, or name them"
            );
            return act(&client, "drop", selection, *notify, show);
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Filter {
    fn query(&self) -> Query {
        let place = self.place.map(|place| match place {
            Place::Deferred => "deferred",
            Place::Held => "held",
            Place::InFlight => "in-flight",
            Place::Ready => "ready",
        });
        let mut query = Query::default();
        for (name, value) in [
            ("place", place),
            ("tenant", self.tenant.as_deref()),
            ("route", self.route.as_deref()),
            ("sender", self.sender.as_deref()),
            ("recipient", self.recipient.as_deref()),
            ("olderThan", self.older_than.as_deref()),
            ("youngerThan", self.younger_than.as_deref()),
            ("lastReply", self.last_reply.as_deref()),
        ] {
            if let Some(value) = value {
                query.push(name, value);
            }
        }
        query
    }
}

fn act(
    client: &Client,
    action: &str,
    selection: &Selection,
    notify: bool,
    show: impl Fn(&Value, fn(&mut dyn Write, &Value) -> io::Result<()>) -> io::Result<()>,
) -> Result<ExitCode> {
    let query = selection.filter.query();
    let ids = if selection.ids.is_empty() {
        ensure!(
            !query.is_empty(),
            "which? name messages, or say what they have in common"
        );
        let tasks = client.list(&query, usize::MAX)?;
        let task = |task: &Value| task["task"].as_str().map(str::to_owned);
        tasks.iter().filter_map(task).collect()
    } else {
        selection.ids.clone()
    };
    let mut order = json!({ "notify": notify });
    for (name, value) in [("reason", &selection.reason), ("user", &selection.user)] {
        if let Some(value) = value {
            order[name] = value.as_str().into();
        }
    }
    let (mut results, mut failures) = (Vec::new(), 0);
    for id in ids {
        match client.post(&format!("/v1/messages/{id}/{action}"), &order) {
            Ok(answer) => {
                results.extend(answer["results"].as_array().into_iter().flatten().cloned())
            }
            Err(error) => {
                eprintln!("kurier: {id}: {error:#}");
                failures += 1;
            }
        }
    }
    show(&json!({ "results": results }), table::results)?;
    Ok(crate::process::status(failures == 0))
}

fn export(client: &Client, id: &str, to: Option<&std::path::Path>) -> Result<()> {
    let path = format!("/v1/messages/{id}/content");
    let Some(to) = to else {
        return client.copy(&path, &mut io::stdout().lock());
    };
    let mut file = File::create_new(to).with_context(|| to.display().to_string())?;
    if let Err(error) = client.copy(&path, &mut file) {
        // Half a message is none.
        let _ = std::fs::remove_file(to);
        return Err(error);
    }
    Ok(())
}
