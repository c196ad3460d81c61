//! What can be said to the commands over the REST API. Passwords and tokens are no arguments: whoever lists the
//! processes of a machine sees those.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

/// Commands over the REST API.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Nodes of the fleet.
    Node(NodeArgs),
    /// Users of the control plane.
    User(UserArgs),
    /// API keys of the data planes.
    Key(KeyArgs),
    /// Settings of the fleet.
    Config(ConfigArgs),
    /// The fleet document.
    Fleet(FleetArgs),
    /// Logs in, and keeps a token for the commands that follow.
    Login(LoginArgs),
    /// Revokes the token of a login, and forgets it.
    Logout(LogoutArgs),
}

/// Which server.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArgs {
    /// The address of a control plane, or of a proxy whose front door leads to one. `AIVONX_TOKEN` or
    /// `AIVONX_TOKEN_FILE` give the token; else it is that of `aivonx login`.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "AIVONX_SERVER",
        default_value = "http://127.0.0.1:8000"
    )]
    pub(crate) server: String,
    /// PEM file of the authority that vouches for the server, instead of the system's.
    #[arg(long, global = true, value_name = "FILE", env = "AIVONX_CA")]
    pub(crate) ca: Option<PathBuf>,
}

/// Which server, and how its answers are shown.
#[derive(Debug, Args)]
pub(crate) struct Shared {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Shows the API's own objects, for scripts.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Names of what is to be removed.
#[derive(Debug, Args)]
pub(crate) struct Removal {
    /// Which, by name or id.
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Does not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Some, by name.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Which, by name or id.
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// `aivonx node`.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    pub(crate) shared: Shared,
    #[command(subcommand)]
    pub(crate) command: NodeCommand,
}

/// What is done with nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Lists the nodes and how they are.
    #[command(visible_alias = "ls")]
    List,
    /// Shows one node.
    Show {
        /// Which, by name or id.
        name: String,
    },
    /// Registers a node.
    Add {
        /// What it shall be called.
        name: String,
        /// Where its Ollama listens, as `http://10.0.0.1:11434`.
        url: String,
        #[command(flatten)]
        fields: Box<NodeFields>,
    },
    /// Changes a node; what is not named stays.
    Set {
        /// Which, by name or id.
        name: String,
        /// What it shall be called from now on.
        #[arg(long = "name", value_name = "NAME", id = "new_name")]
        new_name: Option<String>,
        /// Where its Ollama listens from now on.
        #[arg(long)]
        url: Option<String>,
        #[command(flatten)]
        fields: Box<NodeFields>,
    },
    /// Takes nodes out of the fleet.
    #[command(visible_alias = "rm")]
    Remove(Removal),
    /// Lets nodes take work.
    Enable(Named),
    /// Lets nodes take nothing; they are not probed either.
    Disable(Named),
    /// Lets nodes finish what they have and take nothing new.
    Drain(Named),
    /// Lets nodes that drain take work again.
    Undrain(Named),
}

/// What can be said of a node.
#[derive(Debug, Default, Args)]
pub(crate) struct NodeFields {
    /// Share of the work, 1 to 1000.
    #[arg(long, value_name = "N")]
    pub(crate) weight: Option<u32>,
    /// Concurrent requests of one model: its `OLLAMA_NUM_PARALLEL`.
    #[arg(long, value_name = "N")]
    pub(crate) slots: Option<u32>,
    /// A label; `KEY-` takes one away. May come several times.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<String>,
    /// Patterns of the models that it may get, separated by commas; an empty one lets all in.
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
    pub(crate) include: Option<Vec<String>>,
    /// Patterns of the models that it may not get; an empty one forbids none.
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
    pub(crate) exclude: Option<Vec<String>>,
    /// File with the token that it is sent; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "no_bearer_token")]
    pub(crate) bearer_token_file: Option<PathBuf>,
    /// Sends it no token any more.
    #[arg(long)]
    pub(crate) no_bearer_token: bool,
    /// A header that it is sent, with the file that holds its value. May come several times.
    #[arg(long = "header-file", value_name = "NAME=FILE")]
    pub(crate) headers: Vec<String>,
    /// A header that it is not sent any more. May come several times.
    #[arg(long = "no-header", value_name = "NAME")]
    pub(crate) no_headers: Vec<String>,
    /// PEM file of the authorities that vouch for it; an empty name goes back to the system's.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// The name in its certificate; an empty one goes back to the URL's host.
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_name: Option<String>,
    /// Believes any certificate.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) insecure_tls: Option<bool>,
    /// Makes a node of each address of its host name.
    #[arg(long, value_parser = ["none", "dns", "dns4", "dns6"])]
    pub(crate) discover: Option<String>,
}

/// `aivonx user`.
#[derive(Debug, Args)]
pub(crate) struct UserArgs {
    #[command(flatten)]
    pub(crate) shared: Shared,
    #[command(subcommand)]
    pub(crate) command: UserCommand,
}

/// What is done with users.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Lists the users.
    #[command(visible_alias = "ls")]
    List,
    /// Adds a user. The password is asked for, or is the first line of standard input.
    Add {
        /// What it shall be called.
        name: String,
        #[command(flatten)]
        fields: UserFields,
    },
    /// Changes a user; what is not named stays.
    Set {
        /// Which, by name or id.
        name: String,
        /// What it shall be called from now on.
        #[arg(long = "name", value_name = "NAME", id = "new_name")]
        new_name: Option<String>,
        /// Whether it can log in.
        #[arg(long, value_name = "BOOL")]
        active: Option<bool>,
        /// Sets another password: asked for, or the first line of standard input. All its logins end.
        #[arg(long)]
        password: bool,
        #[command(flatten)]
        fields: UserFields,
    },
    /// Takes users out, with all their logins.
    #[command(visible_alias = "rm")]
    Remove(Removal),
}

/// What can be said of a user.
#[derive(Debug, Default, Args)]
pub(crate) struct UserFields {
    /// What it may do.
    #[arg(long)]
    pub(crate) role: Option<RoleName>,
    /// Its address; may be empty.
    #[arg(long)]
    pub(crate) email: Option<String>,
    /// It has to choose another password before anything else.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) must_change_password: Option<bool>,
}

/// What users may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleName {
    /// Reads.
    Viewer,
    /// Changes nodes, keys and settings, too.
    Operator,
    /// Manages users, too.
    Admin,
}

/// `aivonx key`.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    pub(crate) shared: Shared,
    #[command(subcommand)]
    pub(crate) command: KeyCommand,
}

/// What is done with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Lists the keys.
    #[command(visible_alias = "ls")]
    List,
    /// Makes a key and prints it, this once.
    Create {
        /// Under which metrics, logs and usage name it.
        id: String,
        #[command(flatten)]
        fields: Box<KeyFields>,
    },
    /// Puts another key in its place and prints that one, this once. The old one is refused from then on.
    Rotate {
        /// Which.
        id: String,
        /// Does not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Revokes keys for good.
    #[command(visible_alias = "rm")]
    Remove(Removal),
}

/// What can be said of a key.
#[derive(Debug, Default, Args)]
pub(crate) struct KeyFields {
    /// For operators.
    #[arg(long)]
    pub(crate) note: Option<String>,
    /// What it may do: infer, manage, or both, separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = ["infer", "manage"])]
    pub(crate) scope: Option<Vec<String>>,
    /// Patterns of the models that it may use, separated by commas.
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
    pub(crate) models: Option<Vec<String>>,
    /// Requests over time, as 600/m.
    #[arg(long)]
    pub(crate) rate: Option<String>,
    /// Requests that may come at once.
    #[arg(long, value_name = "N")]
    pub(crate) burst: Option<u32>,
    /// Requests open at the same time.
    #[arg(long, value_name = "N")]
    pub(crate) max_concurrent: Option<u32>,
    /// From when on it is refused: 2027-01-31, 2027-01-31T12:00:00Z, or 90d from now.
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<String>,
    /// The header in which its holder names its users.
    #[arg(long, value_name = "NAME")]
    pub(crate) user_header: Option<String>,
}

/// `aivonx config`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    pub(crate) shared: Shared,
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

/// What is done with settings.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Shows a setting.
    Get {
        /// Which.
        key: Setting,
    },
    /// Changes a setting.
    Set {
        /// Which.
        key: Setting,
        /// To what.
        value: String,
    },
}

/// Settings that the command line knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Setting {
    /// The order among nodes that could serve a request equally well.
    Strategy,
}

/// `aivonx fleet`.
#[derive(Debug, Args)]
pub(crate) struct FleetArgs {
    #[command(flatten)]
    pub(crate) shared: Shared,
    #[command(subcommand)]
    pub(crate) command: FleetCommand,
}

/// What is done with the fleet document.
#[derive(Debug, Subcommand)]
pub(crate) enum FleetCommand {
    /// Writes the fleet document; secrets of nodes in it are references to those that are stored.
    Export {
        /// Secrets themselves, encrypted under the installation's secret key.
        #[arg(long)]
        sealed: bool,
        /// Where to, as YAML, or as JSON where its name ends so; without it to standard output.
        file: Option<PathBuf>,
    },
    /// Has the database's fleet win over a newer one that data planes hold, as after a restored backup.
    NewEpoch {
        /// Does not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Makes the fleet what a document says.
    Import {
        /// A fleet document in YAML or JSON; `-` is standard input.
        file: PathBuf,
        /// Only says what would change.
        #[arg(long)]
        dry_run: bool,
        /// Does not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

/// `aivonx login`.
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Who logs in. The password is asked for, or is the first line of standard input.
    #[arg(long, short, default_value = "root", value_name = "NAME")]
    pub(crate) user: String,
    /// How long the login lasts.
    #[arg(long = "for", value_name = "TIME", default_value = "90d", value_parser = parse_span)]
    pub(crate) lasts: Duration,
}

/// `aivonx logout`.
#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// The longest span, far within the years that instants can be written for.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// A span from now on, as `90d`.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if span.is_zero() || span > LONGEST {
        return Err("must be more than nothing and less than a hundred years".to_owned());
    }
    Ok(span)
}

impl RoleName {
    /// As the API writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}
