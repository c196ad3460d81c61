//! `aivonx proxy` and `healthcheck`, and what other roles share with them.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aivonx_proxy::{Bound, FleetSource, StartError, read_fleet};
use aivonx_shared::bus::redis::{RedisBus, RedisOptions};
use aivonx_shared::config::{Problems, ProxyConfig, overrides_from};
use aivonx_shared::fleet_doc::{FleetDoc, Secret};
use aivonx_shared::sealed::SealKey;
use serde_json::json;

use crate::EX_CONFIG;
use crate::cli::{CheckArgs, HealthcheckArgs, ProxyArgs};

/// Where data planes listen for operators unless they are told otherwise, and where control planes do.
const DATA_PLANE_OPS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8002);
const CONTROL_PLANE_OPS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8003);

/// Runs a data plane until a signal ends it.
pub(crate) fn run(args: &ProxyArgs) -> ExitCode {
    let (mut config, fleet) = match load_config(&args.files) {
        Ok(loaded) => loaded,
        Err(problems) => return complain(&problems),
    };
    config.listen.proxy = args.listen.unwrap_or(config.listen.proxy);
    config.listen.ops = args.ops_listen.unwrap_or(config.listen.ops);
    match source(&config, fleet) {
        Ok(fleet) if args.upgrade => serve_or_say(Bound::take_over(config, fleet)),
        Ok(fleet) => start(config, fleet),
        Err(problem) => complain(&problem),
    }
}

/// Binds, says where, and runs.
pub(crate) fn start(config: ProxyConfig, fleet: FleetSource) -> ExitCode {
    serve_or_say(Bound::bind(config, fleet))
}

/// Runs what could be bound.
fn serve_or_say(bound: Result<Bound, StartError>) -> ExitCode {
    let bound = match bound {
        Ok(bound) => bound,
        Err(error @ (StartError::Config(_) | StartError::Certificate(_))) => {
            return complain(&error.to_string());
        }
        Err(error) => return fail(&error.to_string()),
    };
    serve(bound)
}

/// Says where it listens, and runs it.
pub(crate) fn serve(bound: Bound) -> ExitCode {
    match bound.addresses() {
        Ok(at) => {
            // one line that scripts can wait for; nobody reading it is no reason to stop
            let mut line = json!({ "event": "listening", "proxy": at.proxy.to_string(), "ops": at.ops.to_string() });
            if let Some(tls) = at.tls {
                line["tls"] = tls.to_string().into();
            }
            let _ = writeln!(std::io::stdout(), "{line}");
        }
        Err(error) => return fail(&error.to_string()),
    }
    match bound.run(|| std::process::exit(0)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// 0 where the plane is ready; else it says why not.
pub(crate) fn healthcheck(args: &HealthcheckArgs) -> ExitCode {
    let ops = args.ops.unwrap_or(if args.control_plane {
        CONTROL_PLANE_OPS
    } else {
        DATA_PLANE_OPS
    });
    let ask = || -> std::io::Result<Result<(), String>> {
        let patience = Duration::from_secs(3);
        let mut stream = TcpStream::connect_timeout(&ops, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let why = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let is_ready = answer.starts_with("HTTP/1.1 200 ");
        Ok(is_ready.then_some(()).ok_or_else(|| why.trim().to_owned()))
    };
    match ask() {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(why)) => fail(&format!("not ready: {why}")),
        Err(error) => fail(&format!("no answer from {ops}: {error}")),
    }
}

/// The configuration, and the fleet file it or the command line names.
pub(crate) fn load_config(args: &CheckArgs) -> Result<(ProxyConfig, Option<PathBuf>), String> {
    let text = config_text(args.config.as_deref())?;
    let overrides = overrides_from("PROXY", std::env::vars());
    let config = ProxyConfig::from_yaml(&text, &overrides)
        .map_err(|problems| problems_of(args.config.as_deref(), &problems))?;
    let fleet = args.fleet.clone().or_else(|| config.fleet.clone());
    Ok((config, fleet))
}

/// Where the fleet comes from: the file that is named, or else Redis.
pub(crate) fn source(config: &ProxyConfig, file: Option<PathBuf>) -> Result<FleetSource, String> {
    let Some(url) = redis(config).filter(|_| file.is_none()) else {
        let (path, doc) = load_fleet(file)?;
        return Ok(FleetSource::File { path, doc });
    };
    let authorities = config.bus.ca_file.as_deref().map(authorities_of);
    let options = RedisOptions {
        prefix: config.bus.prefix.clone(),
        seed: config.seed,
        authorities: authorities
            .transpose()
            .map_err(|error| format!("proxy.bus.ca_file: {error}"))?,
        ..RedisOptions::default()
    };
    let bus = RedisBus::new(url.reveal(), options).map_err(|error| format!("REDIS_URL {error}"))?;
    let key = SealKey::from_environment(|name| std::env::var(name).ok());
    Ok(FleetSource::Bus {
        bus: Arc::new(bus),
        folder: config.bus.folder.clone().or_else(state_folder),
        key: key.map_err(|error| error.to_string())?,
    })
}

/// A file of authorities, as text; what it holds is judged where it is used.
pub(crate) fn authorities_of(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(format!("{}: holds no certificate in PEM", file.display()));
    }
    Ok(text)
}

/// The address of Redis: the configured one, or that of the usual variable.
pub(crate) fn redis(config: &ProxyConfig) -> Option<Secret> {
    let usual = || std::env::var("REDIS_URL").ok().map(Secret::new);
    let usual = || usual().filter(|url| !url.reveal().is_empty());
    config.bus.redis.clone().or_else(usual)
}

/// Where a program keeps what it wants to have after a restart (XDG base directories); under systemd
/// what its unit says.
pub(crate) fn state_folder() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let under = |name, rest| folder(name).map(|base| PathBuf::from(base).join(rest));
    folder("STATE_DIRECTORY")
        .map(PathBuf::from)
        .or_else(|| under("XDG_STATE_HOME", "aivonx"))
        .or_else(|| under("HOME", ".local/state/aivonx"))
}

/// The text of the configuration file; none is an empty one.
pub(crate) fn config_text(file: Option<&Path>) -> Result<String, String> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    file.map_or(Ok(String::new()), read)
}

/// Everything that is wrong with a configuration, and where it stands.
pub(crate) fn problems_of(file: Option<&Path>, problems: &Problems) -> String {
    let from = file.unwrap_or(Path::new("environment (AIVONX_…)"));
    format!("{}:\n{problems}", from.display())
}

pub(crate) fn load_fleet(path: Option<PathBuf>) -> Result<(PathBuf, FleetDoc), String> {
    let path = path.ok_or("which fleet? name its file with --fleet or proxy.fleet, or the Redis of a control plane with proxy.bus.redis or REDIS_URL")?;
    let doc = read_fleet(&path).map_err(|error| error.to_string())?;
    Ok((path, doc))
}

pub(crate) fn complain(problems: &str) -> ExitCode {
    eprintln!("aivonx: the configuration is not valid\n{problems}");
    ExitCode::from(EX_CONFIG)
}

pub(crate) fn fail(what: &str) -> ExitCode {
    eprintln!("aivonx: {what}");
    ExitCode::FAILURE
}
