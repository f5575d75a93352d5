//! Sockets that listen: TCP and Unix.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

/// Connections that the system keeps for us while we are busy.
const BACKLOG: i32 = 1024;

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

/// A Unix socket that listens. Its file goes when it is dropped.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
}

/// A connection as the system hands it over, ready to go to another thread.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(std::net::TcpStream, SocketAddr),
    Unix(std::os::unix::net::UnixStream),
}

/// Binds a port of `host` (a name or an address) for listening, without starting to accept. Needs a runtime.
pub fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let explain =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {host}, port {port}: {error}"));
    let resolved = (host, port).to_socket_addrs().map_err(explain)?.next();
    let address = resolved.ok_or_else(|| explain(io::ErrorKind::NotFound.into()))?;
    listen(address).map_err(explain)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the old process's connections to be forgotten by the system.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Binds a Unix socket. A socket file that a process left behind is replaced, one that is in use is not, and nothing
/// that is no socket is touched. Needs a runtime.
pub fn bind_unix(path: &Path) -> io::Result<Listener> {
    let explain = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot listen on the Unix socket {}: {error}", path.display()))
    };
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket {
        match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(explain)?;
            }
            _ => return Err(explain(io::ErrorKind::AddrInUse.into())),
        }
    }
    let listener = UnixListener::bind(path).map_err(explain)?;
    Ok(Listener::Unix(UnixSocket { listener, path: path.to_owned() }))
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // Whoever removed it before us did our work.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Accepted::Tcp(stream.into_std()?, peer))
            }
            Self::Unix(socket) => Ok(Accepted::Unix(socket.listener.accept().await?.0.into_std()?)),
        }
    }

    /// Where a TCP socket listens.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_file_left_behind_is_replaced_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let first = bind_unix(&path).unwrap();
        let error = bind_unix(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        drop(first);
        assert!(!path.exists());
        std::fs::write(&path, "not a socket").unwrap();
        assert!(bind_unix(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"not a socket");
    }
}
