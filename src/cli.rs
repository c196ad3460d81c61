//! The command line (design.md §5).

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::client::args::ClientCommand;

/// One address in front of a fleet of Ollama servers.
#[derive(Debug, Parser)]
#[command(name = "aivonx", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What runs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A data plane: the proxy in front of the nodes of a fleet file, or of those that a control plane
    /// publishes.
    Proxy(ProxyArgs),
    /// The proxy in front of simulated Ollama nodes, to look around.
    Demo(DemoArgs),
    /// Checks the configuration and the fleet file, and says everything that is wrong with them.
    CheckConfig(CheckArgs),
    /// Asks a running proxy or control plane whether it is ready; for containers.
    Healthcheck(HealthcheckArgs),
    /// Both planes in one process, with a database of its own.
    Serve(ServeArgs),
    /// A control plane: nodes, users, keys and settings, for data planes elsewhere.
    ControlPlane(ControlPlaneArgs),
    /// Brings the control plane's database up to date, and starts nothing.
    Migrate(MigrateArgs),
    /// Writes a script that completes this command line in a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Writes the `OpenAPI` document of the control plane's REST API, YAML: what it serves at /api/schema.
    Openapi,
    #[command(flatten)]
    Client(ClientCommand),
    /// Takes over nodes, users and the strategy from the database of the predecessor, `aivonx_proxy`.
    ImportPredecessor(ImportPredecessorArgs),
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Configuration file; without it every key has its default.
    #[arg(long, value_name = "FILE", env = "AIVONX_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Fleet file; overrides `proxy.fleet` and `proxy.bus.redis`.
    #[arg(long, value_name = "FILE")]
    pub(crate) fleet: Option<PathBuf>,
}

/// `aivonx proxy`.
#[derive(Debug, Args)]
pub(crate) struct ProxyArgs {
    #[command(flatten)]
    pub(crate) files: CheckArgs,
    /// Where clients connect; overrides `proxy.listen`.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where operators connect (`/metrics`, `/readyz`); overrides `proxy.ops_listen`.
    #[arg(long, value_name = "ADDR")]
    pub(crate) ops_listen: Option<SocketAddr>,
    /// Takes the sockets of the running proxy over; send that one SIGQUIT.
    #[arg(long)]
    pub(crate) upgrade: bool,
}

/// `aivonx serve`.
#[derive(Debug, Default, Args)]
pub(crate) struct ServeArgs {
    /// Configuration file; without it every key has its default.
    #[arg(long, value_name = "FILE", env = "AIVONX_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where the database and the secret key lie; without it a folder of the user's own.
    #[arg(long, value_name = "DIR", env = "AIVONX_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Where clients and browsers connect; overrides `proxy.listen`.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where the control plane listens; overrides `control_plane.listen`.
    #[arg(long, value_name = "ADDR")]
    pub(crate) control_listen: Option<SocketAddr>,
    /// Where operators connect; overrides `proxy.ops_listen`.
    #[arg(long, value_name = "ADDR")]
    pub(crate) ops_listen: Option<SocketAddr>,
}

/// `aivonx control-plane`.
#[derive(Debug, Args)]
pub(crate) struct ControlPlaneArgs {
    /// Configuration file; without it every key has its default.
    #[arg(long, value_name = "FILE", env = "AIVONX_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where the API listens; overrides `control_plane.listen`.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where operators connect (`/metrics`, `/readyz`); overrides `control_plane.ops_listen`.
    #[arg(long, value_name = "ADDR")]
    pub(crate) ops_listen: Option<SocketAddr>,
}

/// `aivonx migrate`.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Configuration file; without it every key has its default.
    #[arg(long, value_name = "FILE", env = "AIVONX_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// `postgres://…` or `sqlite:FILE`; overrides `control_plane.database`.
    #[arg(long, value_name = "URL")]
    pub(crate) database: Option<String>,
}

/// `aivonx import-predecessor`.
#[derive(Debug, Args)]
pub(crate) struct ImportPredecessorArgs {
    /// The predecessor's database, `postgres://USER:PASSWORD@HOST:5432/DATABASE`. The variable keeps its
    /// password out of the list of processes.
    #[arg(value_name = "URL", env = "AIVONX_PREDECESSOR", hide_env_values = true)]
    pub(crate) source: String,
    /// Who may use models from now on: everybody who can connect, as before, or who has a key.
    #[arg(long, value_enum, value_name = "open|keys")]
    pub(crate) inference: Option<InferenceChoice>,
    /// Configuration file; without it every key has its default.
    #[arg(long, value_name = "FILE", env = "AIVONX_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The folder of `aivonx serve`, for its database, where the configuration names none.
    #[arg(long, value_name = "DIR", env = "AIVONX_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Tells what would be taken over, and takes nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Who may use models after a move from the predecessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InferenceChoice {
    /// Everybody who can connect.
    Open,
    /// Who has a key, and this machine.
    Keys,
}

/// `aivonx demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Simulated nodes.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) nodes: u16,
    /// Where clients connect.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    pub(crate) listen: SocketAddr,
    /// Where operators connect.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8002")]
    pub(crate) ops_listen: SocketAddr,
}

/// `aivonx healthcheck`.
#[derive(Debug, Args)]
pub(crate) struct HealthcheckArgs {
    /// The operations listener; 127.0.0.1:8002, or 127.0.0.1:8003 with --control-plane.
    #[arg(long, value_name = "ADDR")]
    pub(crate) ops: Option<SocketAddr>,
    /// Asks a control plane.
    #[arg(long)]
    pub(crate) control_plane: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::client::args::{KeyCommand, NodeCommand};

    fn parsed(arguments: &[&str]) -> Result<ClientCommand, clap::Error> {
        let line = ["aivonx"].iter().chain(arguments);
        match Cli::try_parse_from(line)?.command {
            Some(Command::Client(command)) => Ok(command),
            other => panic!("{other:?} is no command over the API"),
        }
    }

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_server_may_be_named_anywhere_behind_the_resource() {
        for line in [
            ["node", "--server", "http://h", "show", "a", "--json"],
            ["node", "show", "a", "--json", "--server", "http://h"],
        ] {
            let Ok(ClientCommand::Node(args)) = parsed(&line) else {
                panic!("{line:?}");
            };
            assert_eq!(args.shared.server.server, "http://h");
            assert!(args.shared.json);
        }
    }

    #[test]
    fn lists_are_separated_by_commas_and_an_empty_one_is_told_from_none() {
        let line = ["node", "set", "a", "--include", "x,y", "--exclude", ""];
        let Ok(ClientCommand::Node(args)) = parsed(&line) else {
            panic!("{line:?}");
        };
        let NodeCommand::Set { fields, .. } = args.command else {
            panic!("{line:?}");
        };
        let none = vec![String::new()];
        assert_eq!(fields.include, Some(vec!["x".to_owned(), "y".to_owned()]));
        assert_eq!(fields.exclude, Some(none));
        assert_eq!(fields.insecure_tls, None);
        let line = ["key", "create", "ci", "--scope", "infer,manage"];
        let Ok(ClientCommand::Key(args)) = parsed(&line) else {
            panic!("{line:?}");
        };
        let KeyCommand::Create { fields, .. } = args.command else {
            panic!("{line:?}");
        };
        assert_eq!(fields.scope.map(|scopes| scopes.len()), Some(2));
        assert_eq!(fields.models, None);
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anybody_is_asked() {
        for line in [
            &["node", "remove"][..],
            &["node", "add", "a", "u", "--discover", "srv"],
            &[
                "node",
                "set",
                "a",
                "--no-bearer-token",
                "--bearer-token-file",
                "f",
            ],
            &["user", "set", "a", "--role", "root"],
            &["config", "set", "colour", "red"],
            &["login", "--for", "0s"],
            &["login", "--password", "p"],
        ] {
            assert_eq!(parsed(line).unwrap_err().exit_code(), 2, "{line:?}");
        }
    }
}
