//! `aivonx serve`: both planes in one process. The control plane keeps its truth in an SQLite file, the
//! data plane has its fleet over a bus in memory, and its front door leads to the control plane, so that
//! one address is all that people need.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aivonx_control_plane::store::DatabaseUrl;
use aivonx_control_plane::{Bound as ControlPlane, Options};
use aivonx_proxy::{Bound as DataPlane, FleetSource, MoreMetrics};
use aivonx_shared::bus::Bus;
use aivonx_shared::bus::memory::MemoryBus;
use aivonx_shared::config::{ControlConfig, FrontDoorConfig, ProxyConfig, overrides_from};
use aivonx_shared::sealed::SealKey;

use crate::cli::ServeArgs;
use crate::control_plane::{self, read_control_config};
use crate::proxy::{complain, fail};

/// How long the control plane may take to open its database.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs both planes until a signal ends them.
pub(crate) fn run(args: &ServeArgs) -> ExitCode {
    let (mut proxy, mut control) = match read_config(args) {
        Ok(config) => config,
        Err(problems) => return complain(&problems),
    };
    proxy.listen.proxy = args.listen.unwrap_or(proxy.listen.proxy);
    proxy.listen.ops = args.ops_listen.unwrap_or(proxy.listen.ops);
    control.listen = args.control_listen.unwrap_or(control.listen);
    match start(args, proxy, control) {
        Ok(data_plane) => crate::proxy::serve(data_plane),
        Err(error) => fail(&format!("{error:#}")),
    }
}

fn read_config(args: &ServeArgs) -> Result<(ProxyConfig, ControlConfig), String> {
    let text = crate::proxy::config_text(args.config.as_deref())?;
    let overrides = overrides_from("PROXY", std::env::vars());
    let proxy = ProxyConfig::from_yaml(&text, &overrides);
    let proxy =
        proxy.map_err(|problems| crate::proxy::problems_of(args.config.as_deref(), &problems))?;
    Ok((proxy, read_control_config(args.config.as_deref())?))
}

/// Starts the control plane on threads of its own, and binds the data plane once it serves.
fn start(
    args: &ServeArgs,
    mut proxy: ProxyConfig,
    mut control: ControlConfig,
) -> anyhow::Result<DataPlane> {
    let folder = folder(args.data.as_ref())?;
    std::fs::create_dir_all(&folder)
        .map_err(|error| anyhow::anyhow!("{}: {error}", folder.display()))?;
    let seal = seal_key(&control, &folder)?;
    let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new());
    let token = control_plane::fresh_token();
    share_operations(&mut proxy, &mut control);
    let exposed = |listen: SocketAddr| !listen.ip().is_loopback();
    let options = Options {
        database: database(&control, &folder)?,
        bus: Arc::clone(&bus),
        seal: seal.clone(),
        front_door_token: Some(token.clone()),
        front_door_is_exposed: exposed(proxy.listen.proxy)
            || proxy
                .edge
                .tls
                .as_ref()
                .is_some_and(|tls| exposed(tls.listen)),
        first_node: control.local_ollama.and_then(ollama_at),
        has_ops: false,
    };
    let control = ControlPlane::bind(control, options)?;
    let address = control.address()?;
    proxy.front_door = Some(FrontDoorConfig {
        to: format!("http://{address}").parse()?,
        token,
    });
    let operations = control.operations();
    control_plane::spawn(control, PATIENCE)?;
    let fleet = FleetSource::Bus {
        bus,
        folder: Some(folder.join("data-plane")),
        key: Some(seal),
    };
    let metrics: MoreMetrics = Arc::new(move || {
        let operations = operations.clone();
        Box::pin(async move { operations.metrics().await })
    });
    Ok(DataPlane::bind(proxy, fleet)?.showing(metrics))
}

/// Has the control plane ask this data plane: with a token that nobody else has, unless one is configured, and
/// on this machine.
fn share_operations(proxy: &mut ProxyConfig, control: &mut ControlConfig) {
    let given = proxy.operations.token.take();
    let given = given.or_else(|| control.operations_token.take());
    let token = given.unwrap_or_else(control_plane::fresh_token);
    control.operations_token = Some(token.clone());
    proxy.operations.token = Some(token);
    let ops = proxy.listen.ops.ip();
    if ops.is_unspecified() && proxy.operations.advertise.is_none() {
        let here = if ops.is_ipv4() { "127.0.0.1" } else { "[::1]" };
        proxy.operations.advertise = here.parse().ok();
    }
}

/// The Ollama at this address, if one answers there now.
fn ollama_at(address: SocketAddr) -> Option<String> {
    let patience = Duration::from_millis(300);
    let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut answer = String::new();
    // what came until then is enough to know it by
    let _ = stream.take(4096).read_to_string(&mut answer);
    answer
        .contains("Ollama is running")
        .then(|| format!("http://{address}"))
}

/// Where everything lies that must outlive the process.
pub(crate) fn folder(named: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    let chosen = named.cloned().or_else(crate::proxy::state_folder);
    chosen.ok_or_else(|| anyhow::anyhow!("where shall the data lie? name a folder with --data"))
}

/// The configured database, or a file in the folder.
pub(crate) fn database(control: &ControlConfig, folder: &Path) -> anyhow::Result<DatabaseUrl> {
    match &control.database {
        Some(url) => control_plane::database_at(url.reveal()),
        None => Ok(DatabaseUrl::Sqlite(folder.join("aivonx.db"))),
    }
}

/// The key of the environment or the configuration, or one in a file of its own, made where it is absent.
fn seal_key(control: &ControlConfig, folder: &Path) -> anyhow::Result<SealKey> {
    if let Some(key) = control_plane::given_seal_key(control)? {
        return Ok(key);
    }
    Ok(SealKey::from_file_or_new(&folder.join("secret.key"))?)
}
