//! Hands the listening sockets from an old process to a new one of the same user, so that at no moment
//! nobody listens. The new one waits at a Unix socket; the old one, told by SIGQUIT, goes there, passes
//! its listeners, and keeps serving until the new one says that it is ready to.

use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Read, Result, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt::socket_peercred,
};
use rustix::process::geteuid;

/// How long one waits for the other to come.
const MEET: Duration = Duration::from_secs(60);
/// How long the old one waits for the new one to be ready: it probes its nodes first.
const READY: Duration = Duration::from_secs(120);
/// Between two looks for the other.
const LOOK: Duration = Duration::from_millis(20);
/// More listeners than there are.
const MOST: usize = 8;
/// What the new one says when it is ready.
const WORD: [u8; 1] = *b"!";

/// A listener and what it is for, as `proxy`.
pub(crate) type Named = (String, TcpListener);

/// Where the two meet: the configured path, or one in a folder of this user's, named by the port so
/// that two proxies on a machine do not mistake each other.
pub(crate) fn meeting_point(configured: Option<&Path>, port: u16) -> Result<PathBuf> {
    if let Some(path) = configured {
        return Ok(path.to_owned());
    }
    let folder = match std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder).join("aivonx"),
        None => std::env::temp_dir().join(format!("aivonx-{}", geteuid().as_raw())),
    };
    make_private(&folder)?;
    Ok(folder.join(format!("upgrade-{port}.sock")))
}

/// Makes a folder that only this user may enter, or checks that it is one.
fn make_private(folder: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    made.map_err(|error| at(folder, &error))?;
    let is = std::fs::symlink_metadata(folder).map_err(|error| at(folder, &error))?;
    if !is.is_dir() || is.uid() != geteuid().as_raw() || is.mode() & 0o077 != 0 {
        return Err(Error::other(format!(
            "{} is not a folder of this user's alone",
            folder.display()
        )));
    }
    Ok(())
}

fn at(path: &Path, error: &Error) -> Error {
    Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// What a new process was given.
pub(crate) struct Inheritance {
    listeners: Vec<Named>,
    old: UnixStream,
}

impl Inheritance {
    /// Waits at `path` for the old process.
    pub(crate) fn receive(path: &Path) -> Result<Self> {
        let place = Place::take(path)?;
        tracing::info!(upgrade.socket = %path.display(), "waiting for the old process: send it SIGQUIT");
        let old = place.wait(Instant::now() + MEET)?;
        old.set_read_timeout(Some(MEET))?;
        let listeners = receive(&old)?;
        let names: Vec<_> = listeners.iter().map(|(name, _)| name.as_str()).collect();
        tracing::info!(upgrade.listeners = ?names, "the old process handed its sockets over");
        Ok(Self { listeners, old })
    }

    /// Takes the listener of a name.
    pub(crate) fn take(&mut self, name: &str) -> Option<TcpListener> {
        let at = self.listeners.iter().position(|(its, _)| its == name)?;
        Some(self.listeners.swap_remove(at).1)
    }

    /// Tells the old process that it may go.
    pub(crate) fn ready(&mut self) -> Result<()> {
        self.old.write_all(&WORD)
    }
}

/// A Unix socket at a path; the path is removed with it.
struct Place {
    listener: UnixListener,
    path: PathBuf,
}

impl Place {
    fn take(path: &Path) -> Result<Self> {
        // one that was left behind; anything else there is not ours to remove
        let is_left = std::fs::symlink_metadata(path).is_ok_and(|is| is.file_type().is_socket());
        if is_left {
            std::fs::remove_file(path).map_err(|error| at(path, &error))?;
        }
        let listener = UnixListener::bind(path).map_err(|error| at(path, &error))?;
        let place = Self {
            listener,
            path: path.to_owned(),
        };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        place.listener.set_nonblocking(true)?;
        Ok(place)
    }

    fn wait(&self, until: Instant) -> Result<UnixStream> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) if is_own(&stream) => {
                    stream.set_nonblocking(false)?;
                    return Ok(stream);
                }
                Ok(_) => tracing::warn!("another user's process came to hand sockets over"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if Instant::now() > until {
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    format!(
                        "no process handed its sockets over within {}s",
                        MEET.as_secs()
                    ),
                ));
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // it may be gone already
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether the other end is a process of this user's.
fn is_own(stream: &UnixStream) -> bool {
    socket_peercred(stream).is_ok_and(|peer| peer.uid == geteuid())
}

/// Goes to `path`, gives the listeners, and waits until the new process is ready. Blocks.
pub(crate) fn give(path: &Path, listeners: &Weak<Vec<Named>>) -> Result<()> {
    let mut new = go(path, Instant::now() + MEET)?;
    if !is_own(&new) {
        return Err(Error::other("another user's process waits for our sockets"));
    }
    let Some(listeners) = listeners.upgrade() else {
        return Err(Error::other("this process is on its way out already"));
    };
    send(&new, &listeners)?;
    drop(listeners); // from here on a SIGTERM must find nobody else holding them
    new.set_read_timeout(Some(READY))?;
    new.read_exact(&mut [0; WORD.len()]).map_err(|error| {
        Error::new(
            error.kind(),
            format!("the new process did not get ready: {error}"),
        )
    })
}

fn go(path: &Path, until: Instant) -> Result<UnixStream> {
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > until => {
                return Err(Error::new(
                    error.kind(),
                    format!(
                        "nobody waits at {} (aivonx proxy --upgrade): {error}",
                        path.display()
                    ),
                ));
            }
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

/// One message: the names, and the sockets in their order.
fn send(to: &UnixStream, listeners: &[Named]) -> Result<()> {
    let names: Vec<_> = listeners.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(" ");
    let sockets: Vec<_> = listeners.iter().map(|(_, socket)| socket.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(Error::other("more listeners than one message holds"));
    }
    sendmsg(
        to,
        &[IoSlice::new(names.as_bytes())],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

fn receive(from: &UnixStream) -> Result<Vec<Named>> {
    let mut names = [0; 256];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut names)];
    let got = recvmsg(from, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let sockets = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    let sockets: Vec<OwnedFd> = sockets.flatten().collect();
    let names = std::str::from_utf8(&names[..got.bytes]).map_err(Error::other)?;
    let names: Vec<_> = names.split_whitespace().map(str::to_owned).collect();
    if names.len() != sockets.len() || names.is_empty() {
        return Err(Error::other("the old process sent no listeners"));
    }
    Ok(names
        .into_iter()
        .zip(sockets.into_iter().map(TcpListener::from))
        .collect())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_listener_passes_from_one_to_the_other_and_goes_on_listening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meet.sock");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = TcpStream::connect(address).unwrap(); // not accepted yet
        let old = Arc::new(vec![("proxy".to_owned(), listener)]);
        let giving = {
            let (path, old) = (path.clone(), Arc::downgrade(&old));
            std::thread::spawn(move || give(&path, &old))
        };
        let mut new = Inheritance::receive(&path).unwrap();
        assert!(!path.exists(), "the place is left clean");
        let listener = new.take("proxy").unwrap();
        assert!(new.take("proxy").is_none());
        drop(old);
        let (_, from) = listener.accept().unwrap();
        assert_eq!(from, waiting.local_addr().unwrap());
        new.ready().unwrap();
        giving.join().unwrap().unwrap();
    }

    #[test]
    fn a_new_process_that_ends_before_it_is_ready_is_an_error_to_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meet.sock");
        let old = Arc::new(vec![(
            "proxy".to_owned(),
            TcpListener::bind("127.0.0.1:0").unwrap(),
        )]);
        let giving = {
            let (path, old) = (path.clone(), Arc::downgrade(&old));
            std::thread::spawn(move || give(&path, &old))
        };
        drop(Inheritance::receive(&path).unwrap());
        assert!(giving.join().unwrap().is_err());
    }

    #[test]
    fn a_file_that_is_no_socket_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        assert!(Inheritance::receive(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
    }
}
