//! A TCP road that can be cut. It runs on a thread of its own: tests that block do not hold it up.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How the road is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Way {
    #[default]
    Open,
    /// Bytes are swallowed and nobody is told.
    Cut,
    /// Nobody is let in, and who is in is thrown out.
    Refused,
}

#[derive(Debug, Clone, Default)]
struct State {
    way: Way,
    /// Grows with each cut: a connection that lived through one stays dead, as behind a firewall that
    /// has forgotten it.
    cuts: u64,
    /// Cuts the road as soon as a client sends this, before it arrives.
    trap: Option<Vec<u8>>,
}

/// A road from its own address to another one.
pub(crate) struct Relay {
    pub(crate) addr: SocketAddr,
    state: watch::Sender<State>,
    /// Ends the thread.
    end: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Relay {
    /// Opens a road to a port on loopback.
    pub(crate) fn to(port: u16) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let (end, ended) = tokio::sync::oneshot::channel();
        let state = watch::Sender::new(State::default());
        let shared = state.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(listener, port, shared) => {}
                    _ = ended => {}
                }
            });
        });
        Self {
            addr,
            state,
            end: Some(end),
        }
    }

    /// Swallows every byte from now on, without a word to anybody: connections stay open.
    pub(crate) fn cut(&self) {
        self.state.send_modify(cut);
    }

    /// Cuts it when a client sends this.
    pub(crate) fn cut_at(&self, words: &str) {
        self.state
            .send_modify(|state| state.trap = Some(words.as_bytes().to_vec()));
    }

    /// Whether it is cut now.
    pub(crate) fn is_cut(&self) -> bool {
        self.state.borrow().way == Way::Cut
    }

    /// Refuses connections and breaks off those that are open.
    pub(crate) fn refuse(&self) {
        self.state.send_modify(|state| state.way = Way::Refused);
    }

    /// New connections are taken again; those of before a cut stay dead.
    pub(crate) fn heal(&self) {
        self.state.send_modify(|state| state.way = Way::Open);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
    }
}

fn cut(state: &mut State) {
    state.way = Way::Cut;
    state.cuts += 1;
    state.trap = None;
}

async fn accept(listener: TcpListener, port: u16, state: watch::Sender<State>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        if state.borrow().way == Way::Refused {
            continue;
        }
        tokio::spawn(carry(client, port, state.clone()));
    }
}

/// Carries one connection until it ends or is thrown out.
async fn carry(client: TcpStream, port: u16, state: watch::Sender<State>) {
    let born = state.borrow().clone();
    // what comes while it is cut never arrives
    let alive_at = (born.way == Way::Open).then_some(born.cuts);
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    let mut watched = state.subscribe();
    let thrown_out = watched.wait_for(|state| state.way == Way::Refused);
    let up = pump(from_client, to_server, &state, alive_at, true);
    let down = pump(from_server, to_client, &state, alive_at, false);
    tokio::select! {
        _ = thrown_out => {}
        ((), ()) = async { tokio::join!(up, down) } => {}
    }
}

/// Carries one direction. The end of a dead connection is not passed on: nobody hears of it.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &watch::Sender<State>,
    alive_at: Option<u64>,
    from_client: bool,
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut bytes).await.unwrap_or(0);
        let is_alive = {
            let is_trapped = |state: &State| {
                let trap = state.trap.as_deref().filter(|_| from_client);
                trap.is_some_and(|trap| bytes[..read].windows(trap.len()).any(|part| part == trap))
            };
            state.send_if_modified(|state| {
                let is_trapped = is_trapped(state);
                if is_trapped {
                    cut(state);
                }
                is_trapped
            });
            alive_at == Some(state.borrow().cuts)
        };
        match (read, is_alive) {
            (0, true) => return,
            (0, false) => std::future::pending().await,
            (_, true) if to.write_all(&bytes[..read]).await.is_err() => return,
            _ => {}
        }
    }
}
