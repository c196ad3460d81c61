//! Where log lines go: standard error, as JSON unless it is a terminal. Access lines are not logs:
//! they go to standard output (`proxy::telemetry`).

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Pingora tells of every client that hung up; what matters of it is in the access line.
/// What it says of connections that are no HTTP/2 strangers could repeat without end. actix counts its workers at
/// every start.
const DEFAULT: &str = "info,actix_server=warn,pingora=error,pingora_core=error,pingora_core::apps=off,pingora_proxy=error,pingora_load_balancing=error";

/// Starts logging; `AIVONX_LOG` sets levels, as `debug` or `aivonx_proxy=debug,info`.
pub(crate) fn start() {
    let filter = std::env::var("AIVONX_LOG").unwrap_or_else(|_| DEFAULT.to_owned());
    let filter = EnvFilter::try_new(&filter).unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.init();
    } else {
        builder.json().flatten_event(true).init();
    }
    // at `trace` Pingora prints whole heads and bodies: credentials and prompts
    log::set_max_level(log::max_level().min(log::LevelFilter::Debug));
}
