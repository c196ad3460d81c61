//! A bare Pingora: least connections over a list of upstreams and nothing else. The floor that
//! aivonx is read against: `bare-pingora LISTEN UPSTREAM…`. With the system's allocator here, with
//! jemalloc in `bare_pingora_jemalloc.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use async_trait::async_trait;
use pingora::prelude::{Error, ErrorType, HttpPeer, Result};
use pingora::server::{Server, configuration::ServerConf};
use pingora_load_balancing::selection::RoundRobin;
use pingora_load_balancing::{Backend, Backends, LoadBalancer, discovery::Static};
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

type Count = Arc<AtomicUsize>;

struct Bare(LoadBalancer<RoundRobin>, Vec<Count>);

/// One request in flight; dropping it counts it out.
struct InFlight(Count);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = Option<InFlight>;

    fn new_ctx(&self) -> Self::CTX {
        None
    }

    fn init_downstream_modules(&self, _: &mut pingora::modules::http::HttpModules) {}

    async fn upstream_peer(&self, _: &mut Session, ctx: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        let least = self.1.iter().map(|count| count.load(Relaxed)).min();
        let count = |backend: &Backend| backend.ext.get::<Count>().cloned();
        let is_least = |backend: &Backend| count(backend).map(|count| count.load(Relaxed)) <= least;
        let backend = self
            .0
            .select_with(b"", 16, |backend, healthy| healthy && is_least(backend))
            .or_else(|| self.0.select(b"", 16));
        let backend = backend.ok_or_else(|| Error::new(ErrorType::ConnectError))?;
        *ctx = count(&backend).map(|count| {
            count.fetch_add(1, Relaxed);
            InFlight(count)
        });
        Ok(Box::new(HttpPeer::new(backend.addr, false, String::new())))
    }
}

pub(crate) fn main() {
    let mut args = std::env::args().skip(1);
    let listen = args.next().expect("LISTEN UPSTREAM…");
    let mut backends: Vec<_> = args
        .map(|upstream| Backend::new(&upstream).expect("an address"))
        .collect();
    let counts: Vec<_> = backends.iter().map(|_| Count::default()).collect();
    for (backend, count) in backends.iter_mut().zip(&counts) {
        backend.ext.insert(Arc::clone(count));
    }
    let backends = Backends::new(Static::new(backends.into_iter().collect::<BTreeSet<_>>()));
    let balancer = LoadBalancer::from_backends(backends);
    let ready = tokio::runtime::Runtime::new().expect("a runtime");
    ready.block_on(balancer.update()).expect("a static list");
    drop(ready); // Pingora brings its own

    let conf = ServerConf {
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    let mut service = http_proxy_service(&server.configuration, Bare(balancer, counts));
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever()
}
