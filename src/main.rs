//! The `aivonx` binary: reads the command line and starts the role it names.

mod check_config;
mod cli;
mod client;
mod control_plane;
mod demo;
mod escape;
mod import_predecessor;
mod logging;
mod proxy;
mod serve;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use nix::sys::signal::{SigSet, Signal};

use cli::{Cli, Command};

/// A fifth less CPU a request than the system's allocator, and less memory a stream
/// (docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// sysexits.h: a configuration error.
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // a file that reaches a limit of its size is an error to the write, and not the end of all requests; all
    // threads inherit it from this one
    let mut too_large = SigSet::empty();
    too_large.add(Signal::SIGXFSZ);
    let _ = too_large.thread_block(); // it fails for arguments that do not exist alone
    logging::start();
    match cli.command {
        Some(Command::Proxy(args)) => proxy::run(&args),
        Some(Command::Demo(args)) => demo::run(&args),
        Some(Command::CheckConfig(args)) => check_config::run(&args),
        Some(Command::Healthcheck(args)) => proxy::healthcheck(&args),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::ControlPlane(args)) => control_plane::run(&args),
        Some(Command::Migrate(args)) => control_plane::migrate(&args),
        Some(Command::Completions { shell }) => completions(shell),
        Some(Command::Openapi) => written(aivonx_control_plane::openapi().as_bytes()),
        Some(Command::Client(command)) => client::run(&command),
        Some(Command::ImportPredecessor(args)) => import_predecessor::run(&args),
        None => serve::run(&cli::ServeArgs::default()),
    }
}

/// Writes the script that completes this command line.
fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "aivonx", &mut script);
    written(&script)
}

fn written(text: &[u8]) -> ExitCode {
    match std::io::stdout().write_all(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => proxy::fail(&format!("standard output: {error}")),
    }
}
