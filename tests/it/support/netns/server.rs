//! Servers of a test's namespace: HTTP with and without TLS, and any other stream. Each counts who comes and keeps what
//! it was asked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::netns::Net;

/// Bytes of a request's head at the most.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Request line and headers, as sent.
    pub head: String,
    /// The body, where a length was given.
    pub body: Vec<u8>,
}

impl Asked {
    /// Method, path and query.
    pub fn line(&self) -> (&str, &str, &str) {
        let mut words = self.head.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        (method, path, query)
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().skip(1).filter_map(|it| it.split_once(':'));
        headers.filter(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

/// What a server makes of a request: a whole response, or nothing to close the connection.
pub type Answer = dyn Fn(&Asked) -> Option<Vec<u8>> + Send + Sync;

/// A server. Dropped, it takes nobody any more.
pub struct Server {
    connections: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<Asked>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// HTTP in the clear.
    pub fn http(
        net: &Net,
        address: &str,
        answer: impl Fn(&Asked) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let (answer, asked): (Arc<Answer>, _) = (Arc::new(answer), Arc::default());
        let kept = Arc::clone(&asked);
        Self::stream_keeping(net, address, asked, move |stream| serve(stream, &answer, &kept))
    }

    /// HTTP in TLS.
    pub fn https(
        net: &Net,
        address: &str,
        tls: Arc<ServerConfig>,
        answer: impl Fn(&Asked) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let (answer, asked): (Arc<Answer>, _) = (Arc::new(answer), Arc::default());
        let kept = Arc::clone(&asked);
        Self::stream_keeping(net, address, asked, move |stream| {
            let Ok(connection) = ServerConnection::new(Arc::clone(&tls)) else { return };
            serve(StreamOwned::new(connection, stream), &answer, &kept);
        })
    }

    /// Any stream.
    pub fn stream(net: &Net, address: &str, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::stream_keeping(net, address, Arc::default(), serve)
    }

    fn stream_keeping(
        net: &Net,
        address: &str,
        asked: Arc<Mutex<Vec<Asked>>>,
        serve: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let listener = net.enter(move || TcpListener::bind(address).unwrap());
        listener.set_nonblocking(true).unwrap();
        let (connections, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ended, serve) = (Arc::clone(&connections), Arc::clone(&over), Arc::new(serve));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                };
                count.fetch_add(1, Ordering::Relaxed);
                stream.set_nonblocking(false).unwrap();
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                let serve = Arc::clone(&serve);
                // It ends with its connection, at the latest with the time above.
                std::thread::spawn(move || serve(stream));
            }
        });
        Self { connections, asked, over, thread: Some(thread) }
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A response with this status line, these further header lines and this body.
pub fn response(status: &str, headers: &[&str], body: &[u8]) -> Option<Vec<u8>> {
    let mut out = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        out.push_str(header);
        out.push_str("\r\n");
    }
    out.push_str("\r\n");
    let mut out = out.into_bytes();
    out.extend_from_slice(body);
    Some(out)
}

/// 200 with this body.
pub fn page(body: &str) -> Option<Vec<u8>> {
    response("200 OK", &["Content-Type: text/plain"], body.as_bytes())
}

/// Requests of one connection, until the client closes it.
fn serve(mut stream: impl Read + Write, answer: &Arc<Answer>, asked: &Mutex<Vec<Asked>>) {
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut stream, &mut buffer) {
        asked.lock().unwrap().push(request.clone());
        let Some(response) = answer(&request) else { return };
        if stream.write_all(&response).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

fn read(stream: &mut impl Read, buffer: &mut Vec<u8>) -> Option<Asked> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|it| it == b"\r\n\r\n") {
            break end + 4;
        }
        more(stream, buffer).filter(|_| buffer.len() < HEAD_BYTES_MAX)?;
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let length = head.lines().filter_map(|it| it.split_once(':'));
    let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map(|(_, value)| value.trim().parse().unwrap()).next().unwrap_or(0);
    while buffer.len() < end + length {
        more(stream, buffer)?;
    }
    let body = buffer[end..end + length].to_vec();
    buffer.drain(..end + length);
    Some(Asked { head, body })
}

fn more(stream: &mut impl Read, buffer: &mut Vec<u8>) -> Option<()> {
    let mut some = [0; 16 * 1024];
    let count = stream.read(&mut some).ok().filter(|it| *it > 0)?;
    buffer.extend_from_slice(&some[..count]);
    Some(())
}
