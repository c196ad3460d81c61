//! Which addresses a host name stands for: the configuration's own hosts file is asked first, then
//! the system's resolver. Asked by the probes and by discovery; answers are never kept here.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

/// Look-ups at a time. Each holds a thread for as long as the system's resolver likes, also when
/// nobody waits for it any more; without a limit an outage of DNS would take all threads there are.
const AT_A_TIME: usize = 64;

/// The addresses of a name (their ports are 0), or in words why there are none.
type Answer = Result<Vec<SocketAddr>, String>;

/// Looks names up.
pub(crate) struct Names {
    hosts: Option<PathBuf>,
    room: Arc<Semaphore>,
    /// Look-ups that are under way. Guards the map; held for a look.
    under_way: Arc<Mutex<HashMap<String, watch::Receiver<Option<Answer>>>>>,
}

impl Names {
    /// `hosts` is a file in the shape of `/etc/hosts`, read anew for each look-up.
    pub(crate) fn new(hosts: Option<PathBuf>) -> Self {
        Self {
            hosts,
            room: Arc::new(Semaphore::new(AT_A_TIME)),
            under_way: Arc::default(),
        }
    }

    /// The addresses of a host, each once, in the resolver's order; at least one. An error is in
    /// words. An address stands for itself. Who asks while the same name is being looked up waits
    /// for that, so that an answer which takes longer than anybody's patience is found by the next.
    pub(crate) async fn look_up(
        &self,
        host: &str,
        port: u16,
        patience: Duration,
    ) -> Result<Vec<SocketAddr>, String> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let mut told = self.join(host);
        let answer = async {
            told.wait_for(Option::is_some)
                .await
                .map(|told| told.clone())
        };
        let answer = match tokio::time::timeout(patience, answer).await {
            Ok(Ok(Some(answer))) => answer?,
            Ok(Ok(None) | Err(_)) => return Err("its look-up was given up".to_owned()),
            Err(_) => return Err("its name was not resolved in time".to_owned()),
        };
        let with_port = |mut address: SocketAddr| {
            address.set_port(port);
            address
        };
        Ok(answer.into_iter().map(with_port).collect())
    }

    /// The look-up of a host that is under way, or a new one.
    fn join(&self, host: &str) -> watch::Receiver<Option<Answer>> {
        let mut under_way = self.under_way.lock();
        if let Some(told) = under_way.get(host) {
            return told.clone();
        }
        let (tell, told) = watch::channel(None);
        under_way.insert(host.to_owned(), told.clone());
        let (room, list) = (Arc::clone(&self.room), Arc::clone(&self.under_way));
        let (hosts, host) = (self.hosts.clone(), host.to_owned());
        tokio::spawn(async move {
            let answer = ask(room, hosts, host.clone()).await;
            list.lock().remove(&host);
            tell.send_replace(Some(answer));
        });
        told
    }
}

async fn ask(room: Arc<Semaphore>, hosts: Option<PathBuf>, host: String) -> Answer {
    let _held = room.acquire().await;
    let look_up = move || {
        let own = hosts.map_or_else(|| Ok(Vec::new()), |path| in_file(&path, &host))?;
        if own.is_empty() {
            return (host.as_str(), 0).to_socket_addrs().map(each_once);
        }
        Ok(each_once(own.into_iter().map(|ip| SocketAddr::new(ip, 0))))
    };
    let found = tokio::task::spawn_blocking(look_up).await;
    match found.map_err(io::Error::other).and_then(|found| found) {
        Ok(found) if found.is_empty() => Err("its name has no address".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("its name cannot be resolved: {error}")),
    }
}

/// IPv4 addresses may come a second time, dressed as IPv6.
fn each_once(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut list = Vec::new();
    for address in found {
        let plain = match address.ip().to_canonical() {
            IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
            IpAddr::V6(_) => address, // with its scope, which a link-local address needs
        };
        if !list.contains(&plain) {
            list.push(plain);
        }
    }
    list
}

/// The addresses of a host in a hosts file.
fn in_file(path: &Path, host: &str) -> io::Result<Vec<IpAddr>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse::<IpAddr>().ok()?;
        words
            .any(|name| name.eq_ignore_ascii_case(host))
            .then_some(address)
    });
    Ok(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn the_own_hosts_file_goes_first_and_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        let names = Names::new(Some(path.clone()));
        let ask = |host: &'static str| names.look_up(host, 80, PATIENCE);
        let write = |text: &str| std::fs::write(&path, text).unwrap();

        write("10.0.0.1 gpu other # gpu\n# 10.0.0.9 gpu\n::ffff:10.0.0.1 gpu\nfd00::7 GPU\n");
        let found = ask("gpu").await.unwrap();
        assert_eq!(
            found,
            [
                "10.0.0.1:80".parse().unwrap(),
                "[fd00::7]:80".parse().unwrap()
            ]
        );

        write("10.0.0.2 gpu\n");
        assert_eq!(ask("gpu").await.unwrap(), ["10.0.0.2:80".parse().unwrap()]);

        assert!(
            ask("localhost").await.unwrap()[0].ip().is_loopback(),
            "what it does not name is asked of the system"
        );
        std::fs::remove_file(&path).unwrap();
        let error = ask("gpu").await.unwrap_err();
        assert!(error.contains("cannot be resolved"), "{error}");
        assert!(names.under_way.lock().is_empty());
        assert_eq!(
            ask("192.0.2.1").await.unwrap(),
            ["192.0.2.1:80".parse().unwrap()],
            "an address is not asked about"
        );
    }

    #[tokio::test]
    async fn an_answer_that_takes_too_long_is_found_by_who_asks_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        std::fs::write(&path, "10.0.0.1 gpu\n").unwrap();
        let names = Names::new(Some(path.clone()));
        let all = names.room.acquire_many(AT_A_TIME as u32).await.unwrap();
        let error = names.look_up("gpu", 80, Duration::ZERO).await.unwrap_err();
        assert!(error.contains("in time"), "{error}");
        assert_eq!(names.under_way.lock().len(), 1, "it goes on");

        let again = names.look_up("gpu", 81, PATIENCE);
        drop(all);

        assert_eq!(again.await.unwrap(), ["10.0.0.1:81".parse().unwrap()]);
    }
}
