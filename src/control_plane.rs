//! `aivonx control-plane` and `migrate`, and what `serve` shares with them.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use aivonx_control_plane::store::{DatabaseUrl, Db};
use aivonx_control_plane::{Bound, Options, Progress, StartError, auth};
use aivonx_shared::bus::redis::{RedisBus, RedisOptions};
use aivonx_shared::config::{ControlConfig, overrides_from};
use aivonx_shared::fleet_doc::Secret;
use aivonx_shared::sealed::SealKey;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::EX_CONFIG;
use crate::cli::{ControlPlaneArgs, MigrateArgs};
use crate::escape::escaped;
use crate::proxy::{authorities_of, complain, config_text, fail, problems_of};

/// Runs a control plane until a signal ends it.
pub(crate) fn run(args: &ControlPlaneArgs) -> ExitCode {
    let mut config = match read_control_config(args.config.as_deref()) {
        Ok(config) => config,
        Err(problems) => return complain(&problems),
    };
    config.listen = args.listen.unwrap_or(config.listen);
    config.ops_listen = args.ops_listen.unwrap_or(config.ops_listen);
    let options = match options(&config) {
        Ok(options) => options,
        Err(error) => return refuse(&error),
    };
    match serve(config, options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// Binds, says where, and serves until a signal ends it.
fn serve(config: ControlConfig, options: Options) -> Result<(), StartError> {
    let bound = Bound::bind(config, options)?;
    let mut line = json!({ "event": "listening", "control": bound.address()?.to_string() });
    if let Some(ops) = bound.ops_address()? {
        line["ops"] = ops.to_string().into();
    }
    say(&line);
    Runtime::new()?.block_on(async {
        let stop = watch::Sender::new(false);
        let told = stop.subscribe();
        tokio::spawn(async move {
            wait_for_signal().await;
            stop.send_replace(true);
        });
        Box::pin(bound.run(told, say_progress)).await
    })
}

/// Brings the database up to date, and says what was done.
pub(crate) fn migrate(args: &MigrateArgs) -> ExitCode {
    let work = || -> anyhow::Result<Vec<String>> {
        let config = read_control_config(args.config.as_deref()).map_err(anyhow::Error::msg)?;
        let url = database(&config, args.database.as_deref())?;
        Ok(Runtime::new()?.block_on(Db::migrate(&url))?)
    };
    match work() {
        Ok(names) if names.is_empty() => println!("ok: the database is up to date"),
        Ok(names) => println!("ok: {}", names.join(", ")),
        Err(error) => return refuse(&error),
    }
    ExitCode::SUCCESS
}

/// Serves a control plane on threads of its own, beside a data plane in the same process; comes back once it
/// serves, or waits for its database. It ends with the process.
pub(crate) fn spawn(bound: Bound, patience: Duration) -> anyhow::Result<()> {
    let (tell, told) = mpsc::channel::<Result<(), StartError>>();
    let stop = watch::Sender::new(false);
    std::thread::Builder::new()
        .name("control plane".into())
        .spawn(move || {
            let runtime = match Runtime::new() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = tell.send(Err(error.into())); // nobody waits any more
                    return;
                }
            };
            let ready = tell.clone();
            let served = runtime.block_on(bound.run(stop.subscribe(), |progress| {
                say_progress(progress);
                let _ = ready.send(Ok(()));
            }));
            match served {
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(%error, "the control plane has ended; inference goes on");
                    let _ = tell.send(Err(error));
                }
            }
        })?;
    match told.recv_timeout(patience) {
        Ok(started) => Ok(started?),
        Err(_) => anyhow::bail!(
            "the control plane did not start within {} s",
            patience.as_secs()
        ),
    }
}

/// The configuration of the control plane: file, environment, and the predecessor's variables.
pub(crate) fn read_control_config(file: Option<&Path>) -> Result<ControlConfig, String> {
    let text = config_text(file)?;
    let overrides = overrides_from("CONTROL_PLANE", std::env::vars());
    let config = ControlConfig::from_yaml(&text, &overrides);
    let mut config = config.map_err(|problems| problems_of(file, &problems))?;
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let from_file = |name: &str| {
        let path = variable(&format!("{name}_FILE"));
        let read = |path: String| {
            let text = std::fs::read_to_string(&path);
            text.map(|text| text.trim_end().to_owned())
                .map_err(|error| format!("{name}_FILE: {path}: {error}"))
        };
        path.map(read).transpose()
    };
    if config.root_password.is_none() {
        let given = variable("ROOT_PASSWORD");
        config.root_password = given.or(from_file("ROOT_PASSWORD")?).map(Secret::new);
    }
    if config.redis.is_none() {
        config.redis = variable("REDIS_URL").map(Secret::new);
    }
    if config.database.is_none() {
        let password = variable("POSTGRES_PASSWORD").or(from_file("POSTGRES_PASSWORD")?);
        config.database = postgres_of(variable, password).map(Secret::new);
    }
    Ok(config)
}

/// The predecessor's variables as an address; `None` where no host is named.
fn postgres_of(
    variable: impl Fn(&str) -> Option<String>,
    password: Option<String>,
) -> Option<String> {
    let host = variable("POSTGRES_HOST")?;
    let or =
        |name: &str, default: &str| escaped(&variable(name).unwrap_or_else(|| default.to_owned()));
    Some(format!(
        "postgres://{}:{}@{host}:{}/{}",
        or("POSTGRES_USER", "user"),
        escaped(&password.unwrap_or_else(|| "password".to_owned())),
        or("POSTGRES_PORT", "5432"),
        or("POSTGRES_DB", "app_db"),
    ))
}

/// The key that the environment or the configuration gives.
pub(crate) fn given_seal_key(config: &ControlConfig) -> anyhow::Result<Option<SealKey>> {
    if let Some(key) = &config.secret_key {
        return Ok(Some(SealKey::parse(key.reveal())?));
    }
    if let Some(file) = &config.secret_key_file {
        return Ok(Some(SealKey::from_file_or_new(file)?));
    }
    Ok(SealKey::from_environment(|name| std::env::var(name).ok())?)
}

/// A token that nobody can guess, for the front door.
pub(crate) fn fresh_token() -> Secret {
    let bytes: [u8; 32] = auth::random::bytes();
    Secret::new(
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .concat(),
    )
}

fn options(config: &ControlConfig) -> anyhow::Result<Options> {
    let database = database(config, None)?;
    let Some(redis) = &config.redis else {
        anyhow::bail!(
            "which Redis? It carries the fleet to the data planes: name it with control_plane.redis or REDIS_URL; \
             on one machine `aivonx serve` needs none"
        );
    };
    let Some(seal) = given_seal_key(config)? else {
        anyhow::bail!(
            "which secret key? Secrets of nodes are sealed under it, and all planes share it: set AIVONX_SECRET_KEY \
             (openssl rand -base64 32) or control_plane.secret_key_file"
        );
    };
    Ok(Options {
        database,
        bus: Arc::new(bus(config, redis)?),
        seal,
        front_door_token: config.front_door_token.clone(),
        front_door_is_exposed: config.front_door_token.is_some(),
        first_node: None,
        has_ops: true,
    })
}

/// What is wrong with the servers that a configuration names.
pub(crate) fn problems_with(config: &ControlConfig) -> Vec<String> {
    let database = config
        .database
        .as_ref()
        .map(|url| database_at(url.reveal()));
    let redis = config.redis.as_ref().map(|url| bus(config, url));
    let problems = [database.and_then(Result::err), redis.and_then(Result::err)];
    let problems = problems.into_iter().flatten();
    problems.map(|problem| problem.to_string()).collect()
}

fn bus(config: &ControlConfig, redis: &Secret) -> anyhow::Result<RedisBus> {
    let authorities = config.redis_ca_file.as_deref().map(authorities_of);
    let options = RedisOptions {
        prefix: config.redis_prefix.clone(),
        authorities: authorities
            .transpose()
            .map_err(|error| anyhow::anyhow!("control_plane.redis_ca_file: {error}"))?,
        ..RedisOptions::default()
    };
    RedisBus::new(redis.reveal(), options)
        .map_err(|error| anyhow::anyhow!("control_plane.redis or REDIS_URL {error}"))
}

fn database(config: &ControlConfig, named: Option<&str>) -> anyhow::Result<DatabaseUrl> {
    let url = named.or(config.database.as_ref().map(Secret::reveal));
    let Some(url) = url else {
        anyhow::bail!(
            "which database? name it with control_plane.database (postgres://… or sqlite:FILE) or POSTGRES_HOST \
             and its kin; on one machine `aivonx serve` brings its own"
        );
    };
    database_at(url)
}

/// The database at an address.
pub(crate) fn database_at(url: &str) -> anyhow::Result<DatabaseUrl> {
    let read = url.parse::<DatabaseUrl>();
    read.map_err(|error| anyhow::anyhow!("the database's address {error}"))
}

fn say_progress(progress: Progress) {
    if let Progress::Serves(made_up) = progress {
        tell_password(made_up);
    }
}

/// A password that was made up is told once, to who reads the terminal or the first lines of the log.
pub(crate) fn tell_password(password: Option<Secret>) {
    if let Some(password) = password {
        eprintln!(
            "aivonx: first start. Log in as `root` with the password {}\n        It is shown only now; change it \
             with PUT /api/account/password.",
            password.reveal()
        );
    }
}

async fn wait_for_signal() {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// One line that scripts can wait for; nobody reading it is no reason to stop.
fn say(line: &serde_json::Value) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

pub(crate) fn refuse(error: &anyhow::Error) -> ExitCode {
    eprintln!("aivonx: {error:#}");
    ExitCode::from(EX_CONFIG)
}
