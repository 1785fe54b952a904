//! Where the server listens: a Unix socket whose peers the kernel names, or TCP where a token decides.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpListener, UnixListener};

pub use crate::api::peer::{Group, Members};
pub use crate::api::tls::{Tls, TlsError};

/// An address as `--listen` takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `ADDR:PORT`.
    Tcp(SocketAddr),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            Some(_) => Err("write unix: and an absolute path".to_owned()),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| "write unix:/PATH or ADDR:PORT, as 127.0.0.1:7410".to_owned()),
        }
    }
}

/// What TCP is to be without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// Only on loopback.
    Loopback,
    /// Anywhere: the operator said so by the long flag.
    Anywhere,
}

/// A server that cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Tokens would cross a network that others read.
    #[error(
        "`{address}` is not loopback, and tokens would cross the network in the clear: give --tls-certificate and --tls-key, or say --listen-without-tls"
    )]
    Exposed {
        /// The address.
        address: SocketAddr,
    },
    /// Somebody listens there.
    #[error("another server listens at `{}`: stop it, or give --listen another place", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is in its place.
    #[error("`{}` is there and no socket: move it away, or give --listen another place", path.display())]
    InTheWay {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("`{place}` cannot be listened at")]
    Bind {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A place where connections come in.
#[derive(Debug)]
pub enum Listener {
    /// A Unix socket, removed with this.
    Unix(Socket),
    /// TCP.
    Tcp {
        /// The socket.
        listener: TcpListener,
        /// Its certificate.
        tls: Option<Tls>,
        /// The names that a request may be for; `None` is any.
        hosts: Option<Vec<String>>,
    },
}

/// A Unix socket and whom it lets in.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    pub(super) members: Members,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Listener {
    /// Listens at a Unix socket: its owner's alone, or with a group that of its members.
    pub async fn unix(path: &Path, members: Members) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Bind { place: path.display().to_string(), source };
        clear(path).await?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        let mode = if members.group.is_some() { 0o660 } else { 0o600 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
        if let Some(group) = &members.group {
            std::os::unix::fs::chown(path, None, Some(group.gid)).map_err(failed)?;
        }
        Ok(Self::Unix(Socket { listener, members, path: path.to_owned() }))
    }

    /// Listens at an address. Beyond loopback this takes TLS, or the operator's word.
    pub async fn tcp(address: SocketAddr, tls: Option<Tls>, plain: Plain) -> Result<Self, ListenError> {
        let is_loopback = address.ip().is_loopback();
        if tls.is_none() && !is_loopback && plain == Plain::Loopback {
            return Err(ListenError::Exposed { address });
        }
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| ListenError::Bind { place: address.to_string(), source })?;
        let hosts = is_loopback.then(|| names_of_loopback(address.ip()));
        Ok(Self::Tcp { listener, tls, hosts })
    }

    /// Where it listens, as a client names it.
    pub fn shown(&self) -> String {
        match self {
            Self::Unix(socket) => format!("unix:{}", socket.path.display()),
            Self::Tcp { listener, tls, .. } => {
                let scheme = if tls.is_some() { "https" } else { "http" };
                let address = listener.local_addr().map(|it| it.to_string()).unwrap_or_default();
                format!("{scheme}://{address}")
            }
        }
    }
}

fn names_of_loopback(address: IpAddr) -> Vec<String> {
    let own = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    vec!["localhost".to_owned(), own]
}

/// Removes what a server that was killed left behind; one that lives keeps its place.
async fn clear(path: &Path) -> Result<(), ListenError> {
    match std::fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::InTheWay { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    if tokio::net::UnixStream::connect(path).await.is_ok() {
        return Err(ListenError::Taken { path: path.to_owned() });
    }
    std::fs::remove_file(path)
        .map_err(|source| ListenError::Bind { place: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_socket_or_a_port() {
        assert_eq!("unix:/run/x.sock".parse(), Ok(Address::Unix("/run/x.sock".into())));
        assert!("127.0.0.1:7410".parse::<Address>().is_ok());
        for text in ["unix:x", "localhost:1", "127.0.0.1", ""] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn ap_06_beyond_loopback_takes_tls_or_the_operators_word() {
        let open = "0.0.0.0:0".parse().expect("an address");
        let refused = Listener::tcp(open, None, Plain::Loopback).await;
        assert!(matches!(refused, Err(ListenError::Exposed { .. })));
        assert!(Listener::tcp(open, None, Plain::Anywhere).await.is_ok());
    }

    #[tokio::test]
    async fn a_dead_servers_socket_is_replaced_and_a_living_ones_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let members = Members { own_uid: 0, group: None };
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        let living = Listener::unix(&path, members.clone()).await.expect("replaced");
        let second = Listener::unix(&path, members.clone()).await;
        assert!(matches!(second, Err(ListenError::Taken { .. })));
        drop(living);
        assert!(!path.exists());
        std::fs::write(&path, "kept").expect("written");
        assert!(matches!(Listener::unix(&path, members).await, Err(ListenError::InTheWay { .. })));
    }
}
