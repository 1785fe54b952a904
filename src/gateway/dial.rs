//! Connections to hosts: to exactly the address that was resolved and judged, or through the operator's proxy, which then
//! resolves itself.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::lookup::{Lookup, LookupError};
use crate::policy::network::Name;

/// Time for one address.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Addresses of a name that are tried.
const TRIES_MAX: usize = 4;
/// Time that a proxy may take to answer.
const PROXY_TIME_MAX: Duration = Duration::from_secs(15);
/// Bytes of a proxy's answer.
const PROXY_ANSWER_BYTES_MAX: usize = 8 * 1024;

/// The way to hosts.
pub struct Dial {
    lookup: Lookup,
    proxy: Option<(String, u16)>,
}

/// A connection to a host.
#[derive(Debug)]
pub struct Dialled {
    /// It.
    pub stream: TcpStream,
    /// Where it goes; `None` where a proxy knows that.
    pub address: Option<IpAddr>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name leads nowhere that may be reached.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// No address answered.
    #[error("no address of the host answered")]
    Unreached(#[source] io::Error),
    /// The proxy did not connect.
    #[error("the operator's proxy did not connect")]
    Proxy(#[source] io::Error),
}

impl Dial {
    /// With this resolver, through this proxy where there is one.
    pub fn new(lookup: Lookup, proxy: Option<(String, u16)>) -> Self {
        Self { lookup, proxy }
    }

    /// Connects to a name. A private host is connected to directly: no proxy knows the way.
    pub async fn dial(&self, name: &Name, port: u16, private: bool) -> Result<Dialled, DialError> {
        if let Some(proxy) = self.proxy.as_ref().filter(|_| !private) {
            let stream = self.through(proxy, name, port).await.map_err(DialError::Proxy)?;
            return Ok(Dialled { stream, address: None });
        }
        let addresses = self.lookup.addresses(name, private).await?;
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses.into_iter().take(TRIES_MAX) {
            match connect(SocketAddr::new(address, port)).await {
                Ok(stream) => return Ok(Dialled { stream, address: Some(address) }),
                Err(error) => failed = error,
            }
        }
        Err(DialError::Unreached(failed))
    }

    async fn through(&self, (host, port): &(String, u16), name: &Name, wanted: u16) -> io::Result<TcpStream> {
        // The proxy is the operator's own word: it may lie anywhere.
        let address = match host.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => self.lookup.anywhere(host).await.ok_or(io::ErrorKind::NotFound)?,
        };
        let mut stream = connect(SocketAddr::new(address, *port)).await?;
        let asked = format!("CONNECT {name}:{wanted} HTTP/1.1\r\nHost: {name}:{wanted}\r\n\r\n");
        let tunnel = async {
            stream.write_all(asked.as_bytes()).await?;
            answered(&mut stream).await
        };
        match tokio::time::timeout(PROXY_TIME_MAX, tunnel).await {
            Ok(answered) => answered.map(|()| stream),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = match tokio::time::timeout(CONNECT_TIME_MAX, TcpStream::connect(to)).await {
        Ok(connected) => connected?,
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads a proxy's answer, byte by byte: what comes behind it is the host's.
async fn answered(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == PROXY_ANSWER_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.push(stream.read_u8().await?);
    }
    let is_answer = head.starts_with(b"HTTP/1.1 200") || head.starts_with(b"HTTP/1.0 200");
    if is_answer { Ok(()) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
}
