//! `aivonx check-config`: everything that is wrong with the files of any role, or that they are fine.

use std::process::ExitCode;

use aivonx_proxy::check;

use crate::cli::CheckArgs;
use crate::control_plane;
use crate::proxy::{complain, load_config, load_fleet, redis, source};

/// What is said of files that name no fleet.
const NO_FLEET: &str = "no fleet is named: `aivonx serve` and `control-plane` need none; `aivonx proxy` does, a file \
                        with --fleet or proxy.fleet, or the Redis of a control plane with proxy.bus.redis or REDIS_URL";

/// Reads the files and what they name, and starts nothing.
pub(crate) fn run(args: &CheckArgs) -> ExitCode {
    let mut problems = Vec::new();
    match control_plane::read_control_config(args.config.as_deref()) {
        Ok(control) => problems.extend(control_plane::problems_with(&control)),
        Err(problem) => problems.push(problem),
    }
    let fleet = fleet(args).map_err(|mut more| problems.append(&mut more));
    match fleet {
        Ok(fleet) if problems.is_empty() => {
            println!("ok: {fleet}");
            ExitCode::SUCCESS
        }
        _ => complain(&problems.join("\n")),
    }
}

/// The data plane's part: what becomes of its fleet, or all that is wrong.
fn fleet(args: &CheckArgs) -> Result<String, Vec<String>> {
    let config = load_config(args);
    let named = match &config {
        Ok((_, named)) => named.clone(),
        Err(_) => args.fleet.clone(),
    };
    let doc = named.map(|file| load_fleet(Some(file))).transpose();
    let (config, doc) = match (config, doc) {
        (Ok((config, _)), Ok(doc)) => (config, doc),
        (config, doc) => return Err([config.err(), doc.err()].into_iter().flatten().collect()),
    };
    match doc {
        Some((_, doc)) => {
            check(&config, &doc).map_err(|error| vec![error.to_string()])?;
            Ok(match doc.nodes.len() {
                1 => "1 node".to_owned(),
                count => format!("{count} nodes"),
            })
        }
        None if redis(&config).is_some() => {
            source(&config, None).map_err(|problem| vec![problem])?;
            Ok("the fleet is published over Redis".to_owned())
        }
        None => Ok(NO_FLEET.to_owned()),
    }
}
