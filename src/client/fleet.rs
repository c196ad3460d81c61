//! `aivonx config` and `aivonx fleet`: settings, and the fleet document as a whole.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use http::Method;
use serde_json::{Value, json};

use super::api::Api;
use super::args::{ConfigArgs, ConfigCommand, FleetArgs, FleetCommand, Setting};
use super::failure::{Done, Failure};
use super::output::{self, cell};
use super::terminal::{confirm, read_file};
use super::{connect, difference};

const CONFIG: &str = "/api/proxy/config";
const FLEET: &str = "/api/proxy/fleet";

/// Does what is said of settings.
pub(super) fn config(args: &ConfigArgs) -> Done {
    let api = connect(&args.shared.server)?;
    let shown = match &args.command {
        ConfigCommand::Get {
            key: Setting::Strategy,
        } => api.get(CONFIG)?,
        ConfigCommand::Set {
            key: Setting::Strategy,
            value,
        } => api.send(Method::PATCH, CONFIG, Some(&json!({"strategy": value})))?,
    };
    if args.shared.json {
        return output::show_json(&shown);
    }
    output::print(&format!("{}\n", cell(&shown, "strategy")))
}

/// Does what is said of the fleet document.
pub(super) fn run(args: &FleetArgs) -> Done {
    let api = connect(&args.shared.server)?;
    match &args.command {
        FleetCommand::Export { sealed, file } => {
            let file = file.as_deref().filter(|file| *file != Path::new("-"));
            let text = exported(&api, *sealed, args.shared.json || is_json(file))?;
            file.map_or_else(|| output::print(&text), |file| write(file, &text))
        }
        FleetCommand::NewEpoch { yes } => new_epoch(&api, *yes, args.shared.json),
        FleetCommand::Import { file, dry_run, yes } => {
            let document = read_file(file)?;
            let plan = plan(&api, &document)?;
            if *dry_run {
                return show(&plan, args.shared.json);
            }
            import(&api, &document, &plan, *yes, args.shared.json)
        }
    }
}

/// Has the database's fleet win over what data planes hold.
fn new_epoch(api: &Api, yes: bool, json: bool) -> Done {
    confirm("put the database's fleet in force everywhere", yes)?;
    let done = api.send(Method::POST, &format!("{FLEET}/epoch"), None)?;
    if json {
        return output::show_json(&done);
    }
    output::note(&format!(
        "the fleet is at revision {}",
        cell(&done, "revision")
    ));
    Ok(())
}

/// What a document would change.
fn plan(api: &Api, document: &str) -> Result<Value, Failure> {
    api.send_document(&format!("{FLEET}/import?dry_run=true"), document, None)
}

/// Imports what was shown and agreed to: if the fleet is another by now, nothing happens.
fn import(api: &Api, document: &str, plan: &Value, yes: bool, json: bool) -> Done {
    let changes = difference::lines(&plan["difference"]);
    if changes.is_empty() {
        return show(plan, json);
    }
    if !json {
        output::print(&changes)?;
    }
    confirm(
        &format!("make the fleet so ({})", cell(plan, "summary")),
        yes,
    )?;
    let revision = plan["revision"].as_str().map(str::to_owned);
    let done = api.send_document(&format!("{FLEET}/import"), document, revision)?;
    if json {
        return output::show_json(&done);
    }
    let (summary, revision) = (cell(&done, "summary"), cell(&done, "revision"));
    output::note(&format!("{summary}; the fleet is at revision {revision}"));
    Ok(())
}

fn show(plan: &Value, json: bool) -> Done {
    if json {
        return output::show_json(plan);
    }
    output::note(&cell(plan, "summary"));
    output::print(&difference::lines(&plan["difference"]))
}

/// The fleet document, laid out for people.
fn exported(api: &Api, sealed: bool, json: bool) -> Result<String, Failure> {
    let secrets = if sealed { "sealed" } else { "references" };
    let format = if json { "json" } else { "yaml" };
    let document = api.document(&format!("{FLEET}?secrets={secrets}&format={format}"))?;
    if !json {
        return Ok(document);
    }
    let laid_out = serde_json::from_str::<Value>(&document)
        .map_err(|_| Failure::Protocol("the answer is no fleet document".to_owned()))?;
    Ok(format!("{laid_out:#}\n"))
}

fn is_json(file: Option<&Path>) -> bool {
    let extension = file.and_then(Path::extension);
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

/// Writes a file for its owner alone: what it holds, sealed or not, is nobody else's business.
fn write(file: &Path, text: &str) -> Done {
    let mut options = std::fs::OpenOptions::new();
    let opened = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file);
    opened
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .map_err(|error| Failure::writing(file, &error))
}
