//! The `aivonx` binary: reads the command line and starts the role it names.

mod cli;
mod demo;
mod logging;
mod proxy;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

/// A fifth less CPU a request than the system's allocator, and less memory a stream
/// (docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// sysexits.h: a configuration error.
const EX_CONFIG: u8 = 78;
/// sysexits.h: a service that is not there.
const EX_UNAVAILABLE: u8 = 69;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start();
    match cli.command {
        Some(Command::Proxy(args)) => proxy::run(&args),
        Some(Command::Demo(args)) => demo::run(&args),
        Some(Command::CheckConfig(args)) => proxy::check_config(&args),
        Some(Command::Healthcheck(args)) => proxy::healthcheck(&args),
        Some(Command::Serve | Command::ControlPlane | Command::Migrate) | None => {
            eprintln!(
                "aivonx: the control plane is not built yet, so `serve`, `control-plane` and `migrate` cannot run.\n\
                 Put the proxy in front of the nodes of a file: aivonx proxy --fleet fleet.yaml\n\
                 Or look at it with simulated nodes:           aivonx demo"
            );
            ExitCode::from(EX_UNAVAILABLE)
        }
    }
}
