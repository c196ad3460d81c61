//! The handle of a running node: start it, break it, ask what it saw, stop it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aivonx_shared::model_name::ModelName;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};

use crate::cloud::Account;
use crate::fault::{Fault, FaultScope};
use crate::http::conn::Conn;
use crate::http::serve::serve;
use crate::node::Node;
use crate::sched::run_loader;
use crate::seen::SeenRequest;
use crate::spec::NodeSpec;

/// Connections the kernel keeps for a node that is slow to accept.
const BACKLOG: u32 = 4096;

/// A simulated Ollama node. Dropping it stops the node and closes its connections.
#[derive(Debug)]
pub struct SimNode {
    node: Arc<Node>,
    addr: SocketAddr,
    /// The listener with its connections, and the loader. Replaced by a restart.
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl SimNode {
    /// Starts a node on a free port of 127.0.0.1.
    pub async fn start(spec: NodeSpec) -> io::Result<Self> {
        Self::start_on(spec, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts a node on an address.
    #[expect(
        clippy::unused_async,
        reason = "binding may wait one day; callers should not change then"
    )]
    pub async fn start_on(spec: NodeSpec, addr: SocketAddr) -> io::Result<Self> {
        let listener = bind(addr)?.listen(BACKLOG)?;
        let addr = listener.local_addr()?;
        let node = Node::new(spec);
        let tasks = Mutex::new(spawn(&node, listener, addr));
        Ok(Self { node, addr, tasks })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it listens, as a URL without a final slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Puts a fault on every request until cleared.
    pub fn fault(&self, fault: Fault) {
        self.fault_for(fault, FaultScope::always());
    }

    /// Puts a fault on some requests. Faults put on earlier are met first.
    pub fn fault_for(&self, fault: Fault, scope: FaultScope) {
        self.node.faults.arm(fault, scope);
    }

    /// Takes all faults away. The listener is back within a moment; use [`Self::listens`] to wait.
    pub fn clear_faults(&self) {
        self.node.faults.clear();
    }

    /// Signs it in at ollama.com, out, or cuts it off from there.
    pub fn set_account(&self, account: Account) {
        *self.node.account.lock() = account;
    }

    /// Waits until connections are accepted.
    pub async fn listens(&self) {
        while tokio::net::TcpStream::connect(self.addr).await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until connections are refused, which is a moment after [`Fault::Refuse`] is set.
    pub async fn refuses(&self) {
        while tokio::net::TcpStream::connect(self.addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    /// Inference requests accepted and unfinished.
    pub fn in_flight(&self) -> usize {
        self.node.in_flight()
    }

    /// Every request seen, the oldest first, as many as [`NodeSpec::remember`] says.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.node.seen.all()
    }

    /// How many of those were for a path.
    pub fn count(&self, path: &str) -> usize {
        self.node.seen.count(path)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.node.connections.load(Ordering::Relaxed)
    }

    /// The names of loaded models as `/api/ps` shows them.
    pub fn resident(&self) -> Vec<String> {
        let list = self.node.sched.residents();
        list.iter()
            .map(|r| r.model.name.display().to_owned())
            .collect()
    }

    /// The names of installed models as `/api/tags` shows them.
    pub fn installed(&self) -> Vec<String> {
        let list = self.node.store.lock().all();
        list.iter().map(|m| m.name.display().to_owned()).collect()
    }

    /// Kills the process that runs a model, or that loads it.
    pub fn kill_runner(&self, model: &str) {
        let Ok(name) = ModelName::parse(model) else {
            return;
        };
        let found = self.node.store.lock().find(&name);
        if let Some(model) = found {
            self.node.sched.kill(&model.spec.weights_digest);
        }
    }

    /// Ends the process as SIGTERM does: listener and connections close at once, streams break
    /// off, loaded models are gone. The port stays reserved and refuses connections.
    pub async fn stop(&self) {
        self.node.faults.set_stopped(true);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        self.node.sched.clear();
        self.tasks.lock().extend(reserve(self.addr));
    }

    /// Starts the process again on the same port, its store as it was.
    pub async fn restart(&self) -> io::Result<()> {
        self.stop().await;
        let reserved = std::mem::take(&mut *self.tasks.lock());
        for task in reserved {
            task.abort();
            let _ = task.await;
        }
        let listener = bind(self.addr)?.listen(BACKLOG)?;
        self.node.faults.set_stopped(false);
        self.tasks
            .lock()
            .extend(spawn(&self.node, listener, self.addr));
        Ok(())
    }
}

impl Drop for SimNode {
    fn drop(&mut self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

/// Holds a port without listening: connections are refused and nobody else takes it.
fn reserve(addr: SocketAddr) -> Option<JoinHandle<()>> {
    let socket = bind(addr).ok()?;
    Some(tokio::spawn(async move {
        let _held = socket;
        std::future::pending::<()>().await;
    }))
}

fn spawn(node: &Arc<Node>, listener: TcpListener, addr: SocketAddr) -> Vec<JoinHandle<()>> {
    vec![
        tokio::spawn(accept(Arc::clone(node), listener, addr)),
        tokio::spawn(run_loader(Arc::clone(&node.sched))),
    ]
}

/// Accepts connections for as long as the node lives; its connections die with this task.
async fn accept(node: Arc<Node>, listener: TcpListener, addr: SocketAddr) {
    let mut connections = JoinSet::new();
    let mut state = node.faults.subscribe();
    let mut listener = Some(listener);
    let mut reserved = None; // bound and not listening: refuses, and keeps the port ours
    loop {
        let refuse = state.borrow_and_update().refuse;
        if refuse && listener.is_some() {
            listener = None;
            reserved = bind(addr).ok();
        } else if !refuse && listener.is_none() {
            let socket = reserved.take().map_or_else(|| bind(addr), Ok);
            listener = socket.and_then(|s| s.listen(BACKLOG)).ok();
        }
        tokio::select! {
            biased;
            _ = state.changed() => {}
            Some(_) = connections.join_next() => {}
            accepted = accept_one(listener.as_ref()) => {
                if let Ok((stream, _)) = accepted {
                    let number = node.connections.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(serve(Arc::clone(&node), Conn::new(stream, number)));
                }
            }
        }
    }
}

async fn accept_one(
    listener: Option<&TcpListener>,
) -> io::Result<(tokio::net::TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}
