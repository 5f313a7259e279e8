//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{demo, manage};

/// A mail relay for Kubernetes.
#[derive(Parser, Debug)]
#[command(name = "kurier", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Look at configuration documents
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Send real messages through a relay on this machine and show what became of each
    Demo(demo::Arguments),
    /// Run the control plane: make relays out of MailRelay resources
    Operator(OperatorArguments),
    /// Look at mail in the queue of a running relay, and decide about it
    Queue(manage::Arguments),
    /// Run the data plane: accept, queue and deliver mail
    Relay(RelayArguments),
}

#[derive(Subcommand, Debug)]
pub(crate) enum ConfigCommand {
    /// Read a relay's configuration and name every mistake with its file, line and field
    Check { file: PathBuf },
}

#[derive(Args, Debug)]
pub(crate) struct RelayArguments {
    /// The relay's configuration document
    #[arg(long, value_name = "FILE", required_unless_present = "local")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) local: LocalArguments,
}

#[derive(Args, Debug)]
pub(crate) struct LocalArguments {
    /// Run without a configuration: clients on this machine may relay without AUTH
    #[arg(long, conflicts_with = "config")]
    pub(crate) local: bool,
    /// Where to accept mail; a loopback address
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:2525",
        conflicts_with = "config"
    )]
    pub(crate) listen: SocketAddr,
    /// Send all mail to this host, not to the mail exchangers of its recipients
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "config")]
    pub(crate) smarthost: Option<String>,
    /// Where the queue is kept [default: $XDG_STATE_HOME/kurier or ~/.local/state/kurier]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "redis"])]
    pub(crate) data: Option<PathBuf>,
    /// Keep the queue in this Redis
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    pub(crate) redis: Option<String>,
    /// What the relay calls itself in SMTP
    #[arg(
        long,
        value_name = "NAME",
        default_value = "localhost",
        conflicts_with = "config"
    )]
    pub(crate) hostname: String,
    /// Where health, metrics and the management API are; a loopback address
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8025",
        conflicts_with = "config"
    )]
    pub(crate) admin: SocketAddr,
    /// What to log: `info`, or directives such as `info,relay=debug`
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        conflicts_with = "config"
    )]
    pub(crate) log_filter: String,
}

#[derive(Args, Debug)]
pub(crate) struct OperatorArguments {
    /// Image of the relay pods
    #[arg(long)]
    pub(crate) relay_image: String,
    /// Always, IfNotPresent or Never
    #[arg(long, default_value = "IfNotPresent")]
    pub(crate) relay_image_pull_policy: String,
    /// The operator's own namespace, where its Lease is
    #[arg(long, env = "POD_NAMESPACE")]
    pub(crate) namespace: String,
    /// Who holds the Lease
    #[arg(long, env = "POD_NAME")]
    pub(crate) identity: String,
    #[arg(long, default_value = "kurier-operator")]
    pub(crate) lease_name: String,
    /// Others take over when the Lease was not renewed for this long
    #[arg(long, default_value_t = 15)]
    pub(crate) lease_duration_seconds: u64,
    /// The holder stops when it could not renew for this long
    #[arg(long, default_value_t = 10)]
    pub(crate) renew_deadline_seconds: u64,
    /// Between attempts at the Lease
    #[arg(long, default_value_t = 2)]
    pub(crate) retry_period_seconds: u64,
    /// Where health and metrics are
    #[arg(long, default_value = "[::]:8080")]
    pub(crate) listen: SocketAddr,
    #[arg(long, default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
    /// What to log: `info`, or directives such as `info,operator=debug`
    #[arg(long, default_value = "info")]
    pub(crate) log_filter: String,
    #[arg(long, value_enum, ignore_case = true, default_value_t = LogFormat::Json)]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Json,
    Text,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_relay_is_either_configured_or_local() {
        let check = |arguments: &[&str], accepted: bool| {
            let parsed = Cli::try_parse_from(["kurier", "relay"].iter().chain(arguments));
            assert_eq!(parsed.is_ok(), accepted, "{arguments:?}");
        };
        check(&["--local"], true);
        check(&["--config", "relay.yaml"], true);
        check(
            &[
                "--local",
                "--smarthost",
                "127.0.0.1:2526",
                "--data",
                "/var/lib/kurier",
            ],
            true,
        );
        check(&["--local", "--redis", "redis://127.0.0.1"], true);
        check(&[], false);
        check(&["--local", "--config", "relay.yaml"], false);
        check(
            &["--config", "relay.yaml", "--smarthost", "127.0.0.1:2526"],
            false,
        );
        check(
            &[
                "--local",
                "--redis",
                "redis://127.0.0.1",
                "--data",
                "/var/lib/kurier",
            ],
            false,
        );
        check(&["--local", "--listen", "nowhere"], false);
    }
}
