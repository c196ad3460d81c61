//! What must hold before a data plane starts: its configuration beside itself and the fleet document.

use std::net::SocketAddr;

use aivonx_shared::config::ProxyConfig;
use aivonx_shared::fleet_doc::FleetDoc;

use super::StartError;
use crate::edge::Certificate;
use crate::sync::{FleetSource, has_callers};

/// What must hold between the configuration and the fleet document.
pub fn check(config: &ProxyConfig, doc: &FleetDoc) -> Result<(), StartError> {
    check_front_door(config)?;
    if let Some(tls) = &config.edge.tls {
        Certificate::load(tls)?;
    }
    let Some(listener) = exposed(config).filter(|_| !has_callers(doc)) else {
        return Ok(());
    };
    Err(StartError::Config(format!(
        "{listener}, beyond loopback, and nobody there may use the fleet: add `keys` to the fleet file, \
         or networks under `anonymous`, or `anonymous: always` if everybody who can connect may; or listen on 127.0.0.1"
    )))
}

/// A front door that led to itself would fill up with one request.
fn check_front_door(config: &ProxyConfig) -> Result<(), StartError> {
    let own = [
        Some(config.listen.proxy),
        config.edge.tls.as_ref().map(|tls| tls.listen),
    ];
    let to = config.front_door.as_ref().map(|door| &door.to);
    let is_own = to.is_some_and(|to| {
        let ip = to.host.parse::<std::net::IpAddr>();
        let address = ip.map(|ip| SocketAddr::new(ip, to.port));
        address.is_ok_and(|address| own.into_iter().flatten().any(|own| own == address))
    });
    if is_own {
        let problem = "proxy.front_door.to is where this proxy itself listens; name the control plane's own address";
        return Err(StartError::Config(problem.to_owned()));
    }
    Ok(())
}

/// The listener that others than this machine reach, in words.
pub(super) fn exposed(config: &ProxyConfig) -> Option<String> {
    let tls = config.edge.tls.as_ref();
    let tls = tls.map(|tls| ("proxy.tls.listen", tls.listen));
    let mut clients = [Some(("proxy.listen", config.listen.proxy)), tls]
        .into_iter()
        .flatten();
    let (key, listen) = clients.find(|(_, listen)| !listen.ip().is_loopback())?;
    Some(format!("{key} is {listen}"))
}

/// What must hold before anything is bound. Who may use a fleet that is published changes as it goes:
/// there that is a warning.
pub(super) fn check_start(config: &ProxyConfig, fleet: &FleetSource) -> Result<(), StartError> {
    match fleet {
        FleetSource::File { doc, .. } => check(config, doc),
        FleetSource::Bus { .. } => check_front_door(config),
    }
}
