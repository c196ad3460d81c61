//! `aivonx node`, `user`, `key`, `config`, `fleet`, `login` and `logout`: the REST API from a terminal and for
//! scripts. `args` is what can be said, `api` asks, the files named for resources put the two together, `output`
//! shows, and `failure` is what goes wrong and its exit code.

mod api;
pub(crate) mod args;
mod credentials;
mod difference;
mod failure;
mod fleet;
mod key;
mod login;
mod node;
mod output;
mod terminal;
mod user;

use std::process::ExitCode;

use api::Api;
use args::{ClientCommand, ServerArgs};
use failure::Failure;

/// Does what the command line says.
pub(crate) fn run(command: &ClientCommand) -> ExitCode {
    let done = match command {
        ClientCommand::Node(args) => node::run(args),
        ClientCommand::User(args) => user::run(args),
        ClientCommand::Key(args) => key::run(args),
        ClientCommand::Config(args) => fleet::config(args),
        ClientCommand::Fleet(args) => fleet::run(args),
        ClientCommand::Login(args) => login::log_in(args),
        ClientCommand::Logout(args) => login::log_out(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::note(&format!("aivonx: {failure}"));
            ExitCode::from(failure.code())
        }
    }
}

/// The API at the server that is named, with the login that is at hand; without one it says so itself.
fn connect(args: &ServerArgs) -> Result<Api, Failure> {
    let api = Api::new(&args.server, args.ca.as_deref())?;
    let token = credentials::token(api.base())?;
    Ok(api.with_token(token))
}
