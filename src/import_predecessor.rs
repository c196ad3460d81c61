//! `aivonx import-predecessor`: nodes, users and the strategy of `aivonx_proxy` into the control plane's
//! database, before its first start or later.

use std::process::ExitCode;

use aivonx_control_plane::domain::AddressRules;
use aivonx_control_plane::predecessor::{self, Inference, Options, Report};
use tokio::runtime::Runtime;

use crate::cli::{ImportPredecessorArgs, InferenceChoice};
use crate::control_plane::{read_control_config, refuse, tell_password};
use crate::serve;

/// Whoever moves has to say it: neither answer is harmless.
const WHICH: &str = "who may use models from now on? The predecessor asked nobody for a key. Say one of:\n\
    --inference open   as before: everybody who can connect may use models (anonymous: always); who manages \
    them still needs a key or a login\n\
    --inference keys   clients on other machines need a key (make one for each after the start); clients that \
    send none are answered 401";

/// Imports, and says what was taken and what was not.
pub(crate) fn run(args: &ImportPredecessorArgs) -> ExitCode {
    match import(args) {
        Ok(mut report) => {
            println!("{report}");
            tell_password(report.made_up.take());
            ExitCode::SUCCESS
        }
        Err(error) => refuse(&error),
    }
}

fn import(args: &ImportPredecessorArgs) -> anyhow::Result<Report> {
    let inference = match args.inference {
        Some(InferenceChoice::Open) => Inference::Open,
        Some(InferenceChoice::Keys) => Inference::Keys,
        None => anyhow::bail!(WHICH),
    };
    let config = read_control_config(args.config.as_deref()).map_err(anyhow::Error::msg)?;
    let folder = serve::folder(args.data.as_ref())?;
    let target = serve::database(&config, &folder)?;
    let options = Options {
        inference,
        addresses: AddressRules {
            allowed: config.node_networks.clone(),
        },
        root_password: config.root_password.clone(),
        dry_run: args.dry_run,
    };
    println!("into {target}");
    Ok(Runtime::new()?.block_on(predecessor::import(&args.source, &target, &options))?)
}
