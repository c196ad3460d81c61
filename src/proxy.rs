//! `aivonx proxy`, `check-config` and `healthcheck`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use aivonx_proxy::{Bound, StartError, check, read_fleet};
use aivonx_shared::config::{ProxyConfig, overrides_from};
use aivonx_shared::fleet_doc::FleetDoc;
use serde_json::json;

use crate::EX_CONFIG;
use crate::cli::{CheckArgs, HealthcheckArgs, ProxyArgs};

/// Runs a data plane until a signal ends it.
pub(crate) fn run(args: &ProxyArgs) -> ExitCode {
    let (mut config, fleet) = match load_config(&args.files) {
        Ok(loaded) => loaded,
        Err(problems) => return complain(&problems),
    };
    config.listen.proxy = args.listen.unwrap_or(config.listen.proxy);
    config.listen.ops = args.ops_listen.unwrap_or(config.listen.ops);
    match load_fleet(fleet) {
        Ok((path, doc)) if args.upgrade => serve(Bound::take_over(config, path, doc)),
        Ok((path, doc)) => start(config, path, doc),
        Err(problem) => complain(&problem),
    }
}

/// Binds, says where, and runs.
pub(crate) fn start(config: ProxyConfig, fleet: PathBuf, doc: FleetDoc) -> ExitCode {
    serve(Bound::bind(config, fleet, doc))
}

fn serve(bound: Result<Bound, StartError>) -> ExitCode {
    let bound = match bound {
        Ok(bound) => bound,
        Err(error @ (StartError::Config(_) | StartError::Certificate(_))) => {
            return complain(&error.to_string());
        }
        Err(error) => return fail(&error.to_string()),
    };
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

/// Says everything that is wrong with the files, or that they are fine.
pub(crate) fn check_config(args: &CheckArgs) -> ExitCode {
    let mut problems = Vec::new();
    let config = load_config(args)
        .map_err(|problem| problems.push(problem))
        .ok();
    let named = args
        .fleet
        .clone()
        .or_else(|| config.as_ref().and_then(|(_, fleet)| fleet.clone()));
    let doc = load_fleet(named)
        .map_err(|problem| problems.push(problem))
        .ok();
    if let (Some((config, _)), Some((_, doc))) = (&config, &doc)
        && let Err(error) = check(config, doc)
    {
        problems.push(error.to_string());
    }
    if problems.is_empty() {
        let nodes = doc.map_or(0, |(_, doc)| doc.nodes.len());
        println!("ok: {nodes} nodes");
        return ExitCode::SUCCESS;
    }
    complain(&problems.join("\n"))
}

/// 0 where the proxy is ready.
pub(crate) fn healthcheck(args: &HealthcheckArgs) -> ExitCode {
    let ask = || -> std::io::Result<bool> {
        let patience = Duration::from_secs(3);
        let mut stream = TcpStream::connect_timeout(&args.ops, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200 "))
    };
    match ask() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => fail("not ready"),
        Err(error) => fail(&format!("no answer from {}: {error}", args.ops)),
    }
}

/// The configuration, and the fleet file it or the command line names.
fn load_config(args: &CheckArgs) -> Result<(ProxyConfig, Option<PathBuf>), String> {
    let text = match &args.config {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?
        }
        None => String::new(),
    };
    let overrides = overrides_from("PROXY", std::env::vars());
    let config = ProxyConfig::from_yaml(&text, &overrides).map_err(|problems| {
        let from = args
            .config
            .as_deref()
            .unwrap_or(Path::new("environment (AIVONX_PROXY__…)"));
        format!("{}:\n{problems}", from.display())
    })?;
    let fleet = args.fleet.clone().or_else(|| config.fleet.clone());
    Ok((config, fleet))
}

fn load_fleet(path: Option<PathBuf>) -> Result<(PathBuf, FleetDoc), String> {
    let path = path.ok_or("which fleet? name its file with --fleet or proxy.fleet")?;
    let doc = read_fleet(&path).map_err(|error| error.to_string())?;
    Ok((path, doc))
}

fn complain(problems: &str) -> ExitCode {
    eprintln!("aivonx: the configuration is not valid\n{problems}");
    ExitCode::from(EX_CONFIG)
}

fn fail(what: &str) -> ExitCode {
    eprintln!("aivonx: {what}");
    ExitCode::FAILURE
}
